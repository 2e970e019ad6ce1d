// The TypeScript SDK 2.x as client.      node ts2.mjs BASE_URL [connect-]legacy|auto|pinned|sse [MOUNT…]
// auto asks for the 2026-07-28 era first and falls back to initialize; the line of "connect" tells what came out.
// pinned speaks 2026-07-28 or nothing. With connect- in front it is `hubward connect` over stdio, at the URLs that
// connect.mjs knows. With mounts named it does the checks of eras.md at each of them.
import { Client, SSEClientTransport, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';
import { StdioClientTransport } from '@modelcontextprotocol/client/stdio';
import { ANSWERS, basics, eras, features, reporter, textOf } from './checks.mjs';
import { overStdio } from './connect.mjs';

const [base, way, ...mounts] = process.argv.slice(2);
const name = `ts2-${way}`, mode = way.replace('connect-', '');
const report = reporter(name);

const negotiation = { auto: 'auto', pinned: { pin: '2026-07-28' } }[mode] ?? 'legacy';

async function open(server, capabilities = {}, answers = ANSWERS) {
  const seen = { log: [], updated: [], sampling: [], elicitation: [], roots: 0 };
  const client = new Client({ name, version: '1' }, { capabilities, versionNegotiation: { mode: negotiation } });
  if (capabilities.sampling) client.setRequestHandler('sampling/createMessage', ({ params }) => { seen.sampling.push(params); return answers.sampling; });
  if (capabilities.elicitation) client.setRequestHandler('elicitation/create', ({ params }) => { seen.elicitation.push(params); return answers.elicitation; });
  if (capabilities.roots) client.setRequestHandler('roots/list', () => { seen.roots += 1; return answers.roots; });
  client.setNotificationHandler('notifications/message', ({ params }) => { seen.log.push(params); });
  client.setNotificationHandler('notifications/resources/updated', ({ params }) => { seen.updated.push(params.uri); });
  const transport = way !== mode ? new StdioClientTransport(overStdio(server))
    : mode === 'sse' ? new SSEClientTransport(new URL(`${base}/${server}/sse`))
    : new StreamableHTTPClientTransport(new URL(`${base}/${server}/mcp`));
  await client.connect(transport);
  return {
    seen,
    note: `speaks ${client.getNegotiatedProtocolVersion?.() ?? 'an unknown revision'}`,
    modern: (client.getNegotiatedProtocolVersion?.() ?? '') >= '2026',
    list: async () => (await client.listTools()).tools.map((t) => t.name),
    call: async (tool, args) => textOf(await client.callTool({ name: tool, arguments: args })),
    callWithProgress: async (tool, args, onprogress) => textOf(await client.callTool({ name: tool, arguments: args }, { onprogress })),
    callWithSignal: (tool, args, signal) => client.callTool({ name: tool, arguments: args }, { signal }),
    logged: async (tool, args, level) => {
      const modern = negotiation !== 'legacy';
      if (!modern) await client.setLoggingLevel(level);
      return client.callTool({ name: tool, arguments: args, ...(modern ? { _meta: { 'io.modelcontextprotocol/logLevel': level } } : {}) });
    },
    listen: async (uri) => {
      if (negotiation === 'legacy') { await client.subscribeResource({ uri }); return () => client.unsubscribeResource({ uri }); }
      const subscription = await client.listen({ resourceSubscriptions: [uri] });
      return () => subscription.close();
    },
    setLevel: (level) => client.setLoggingLevel(level),
    subscribe: (uri) => client.subscribeResource({ uri }),
    unsubscribe: (uri) => client.unsubscribeResource({ uri }),
    readResource: (uri) => client.readResource({ uri }),
    getPrompt: (prompt, args) => client.getPrompt({ name: prompt, arguments: args }),
    complete: (params) => client.complete(params),
    close: async () => { await transport.terminateSession?.(); await client.close(); },
  };
}

if (mounts.length) {
  const answers = { ...ANSWERS, elicitation: { action: 'accept', content: { response: 'Ada of the test' } } };
  for (const mount of mounts) await eras(report, (server, capabilities) => open(server, capabilities, answers), mount, negotiation !== 'legacy');
  report.exit();
}

await basics(report, name, open);
let conn;
if (await report.check('everything', 'connect with capabilities', async () => { conn = await open('everything', { sampling: {}, elicitation: { form: {} }, roots: { listChanged: true } }); return conn.note; })) {
  await features(report, conn, { streams: !conn.modern });   // roots, levels and subscriptions left the wire in 2026
  await report.check('everything', 'close with capabilities', () => conn.close());
}
report.exit();
