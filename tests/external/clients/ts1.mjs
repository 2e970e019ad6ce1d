// The TypeScript SDK 1.x as client.      node ts1.mjs BASE_URL http|sse|connect
// connect is `hubward connect` over stdio, at the URLs that connect.mjs knows; BASE_URL is not used then.
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { SSEClientTransport } from '@modelcontextprotocol/sdk/client/sse.js';
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import * as T from '@modelcontextprotocol/sdk/types.js';
import { ANSWERS, basics, expect, features, reporter, textOf } from './checks.mjs';
import { overStdio } from './connect.mjs';

const [base, way] = process.argv.slice(2);
const name = `ts1-${way}`;
const report = reporter(name);

async function open(server, capabilities = {}) {
  const seen = { log: [], updated: [], sampling: [], elicitation: [], roots: 0 };
  const client = new Client({ name, version: '1' }, { capabilities });
  if (capabilities.sampling) client.setRequestHandler(T.CreateMessageRequestSchema, ({ params }) => { seen.sampling.push(params); return ANSWERS.sampling; });
  if (capabilities.elicitation) client.setRequestHandler(T.ElicitRequestSchema, ({ params }) => { seen.elicitation.push(params); return ANSWERS.elicitation; });
  if (capabilities.roots) client.setRequestHandler(T.ListRootsRequestSchema, () => { seen.roots += 1; return ANSWERS.roots; });
  client.setNotificationHandler(T.LoggingMessageNotificationSchema, ({ params }) => { seen.log.push(params); });
  client.setNotificationHandler(T.ResourceUpdatedNotificationSchema, ({ params }) => { seen.updated.push(params.uri); });
  const transport = way === 'connect' ? new StdioClientTransport(overStdio(server))
    : way === 'sse' ? new SSEClientTransport(new URL(`${base}/${server}/sse`))
    : new StreamableHTTPClientTransport(new URL(`${base}/${server}/mcp`));
  await client.connect(transport);
  return {
    seen, transport,
    list: async () => (await client.listTools()).tools.map((t) => t.name),
    call: async (tool, args) => textOf(await client.callTool({ name: tool, arguments: args })),
    callWithProgress: async (tool, args, onprogress) => textOf(await client.callTool({ name: tool, arguments: args }, undefined, { onprogress })),
    setLevel: (level) => client.setLoggingLevel(level),
    subscribe: (uri) => client.subscribeResource({ uri }),
    unsubscribe: (uri) => client.unsubscribeResource({ uri }),
    readResource: (uri) => client.readResource({ uri }),
    getPrompt: (prompt, args) => client.getPrompt({ name: prompt, arguments: args }),
    complete: (params) => client.complete(params),
    ping: () => client.ping(),
    close: async () => { await transport.terminateSession?.(); await client.close(); },
  };
}

await basics(report, name, open);
let conn;
if (await report.check('everything', 'connect with capabilities', async () => { conn = await open('everything', { sampling: {}, elicitation: {}, roots: { listChanged: true } }); })) {
  await report.check('everything', 'ping', async () => { await conn.ping(); });
  await features(report, conn);
  await report.check('everything', 'close with capabilities', () => conn.close());
}
if (way === 'http' && !process.env.EXT_SERVERS) {
  await report.check('time', 'an ended session answers 404', async () => {
    const c = await open('time');
    const session = c.transport.sessionId;
    expect(session, 'no session id');
    await c.close();
    const r = await fetch(`${base}/time/mcp`, { method: 'POST', body: JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'tools/list' }), headers: {
      'content-type': 'application/json', accept: 'application/json, text/event-stream', 'mcp-session-id': session, 'mcp-protocol-version': '2025-11-25' } });
    expect(r.status === 404, `status ${r.status}`);
  });
}
report.exit();
