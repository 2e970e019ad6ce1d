// The TypeScript SDK 2.x as client.      node ts2.mjs BASE_URL legacy|auto|sse
// auto asks for the 2026-07-28 era first and falls back to initialize; the line of "connect" tells what came out.
import { Client, SSEClientTransport, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import { ANSWERS, basics, features, reporter, textOf } from './checks.mjs';

const [base, mode] = process.argv.slice(2);
const name = `ts2-${mode}`;
const report = reporter(name);

async function open(server, capabilities = {}) {
  const seen = { log: [], updated: [], sampling: [], elicitation: [], roots: 0 };
  const client = new Client({ name, version: '1' }, { capabilities, versionNegotiation: { mode: mode === 'auto' ? 'auto' : 'legacy' } });
  if (capabilities.sampling) client.setRequestHandler('sampling/createMessage', ({ params }) => { seen.sampling.push(params); return ANSWERS.sampling; });
  if (capabilities.elicitation) client.setRequestHandler('elicitation/create', ({ params }) => { seen.elicitation.push(params); return ANSWERS.elicitation; });
  if (capabilities.roots) client.setRequestHandler('roots/list', () => { seen.roots += 1; return ANSWERS.roots; });
  client.setNotificationHandler('notifications/message', ({ params }) => { seen.log.push(params); });
  client.setNotificationHandler('notifications/resources/updated', ({ params }) => { seen.updated.push(params.uri); });
  const transport = mode === 'sse' ? new SSEClientTransport(new URL(`${base}/${server}/sse`)) : new StreamableHTTPClientTransport(new URL(`${base}/${server}/mcp`));
  await client.connect(transport);
  return {
    seen,
    note: `speaks ${client.getNegotiatedProtocolVersion?.() ?? 'an unknown revision'}`,
    modern: (client.getNegotiatedProtocolVersion?.() ?? '') >= '2026',
    list: async () => (await client.listTools()).tools.map((t) => t.name),
    call: async (tool, args) => textOf(await client.callTool({ name: tool, arguments: args })),
    callWithProgress: async (tool, args, onprogress) => textOf(await client.callTool({ name: tool, arguments: args }, { onprogress })),
    setLevel: (level) => client.setLoggingLevel(level),
    subscribe: (uri) => client.subscribeResource({ uri }),
    unsubscribe: (uri) => client.unsubscribeResource({ uri }),
    readResource: (uri) => client.readResource({ uri }),
    getPrompt: (prompt, args) => client.getPrompt({ name: prompt, arguments: args }),
    complete: (params) => client.complete(params),
    close: async () => { await transport.terminateSession?.(); await client.close(); },
  };
}

await basics(report, name, open);
let conn;
if (await report.check('everything', 'connect with capabilities', async () => { conn = await open('everything', { sampling: {}, elicitation: { form: {} }, roots: { listChanged: true } }); return conn.note; })) {
  await features(report, conn, { streams: !conn.modern });   // roots, levels and subscriptions left the wire in 2026
  await report.check('everything', 'close with capabilities', () => conn.close());
}
report.exit();
