// mcp-remote, the stdio bridge that stdio-only clients use, driven by the TypeScript SDK 1.x.
//   node mcp-remote.mjs BASE_URL http-only|sse-only|http-first
// http-first is given the /sse URL: it has to be refused there and to fall back to the older transport.
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js';
import { basics, reporter, textOf } from './checks.mjs';

const [base, way] = process.argv.slice(2);
const name = `mcp-remote-${way}`;
const report = reporter(name);
const program = `${process.env.EXT_DIR}/tools/node_modules/.bin/mcp-remote`;

async function open(server) {
  const url = `${base}/${server}/${way === 'http-only' ? 'mcp' : 'sse'}`;
  const client = new Client({ name, version: '1' }, { capabilities: {} });
  const transport = new StdioClientTransport({ command: process.execPath, args: [program, url, '--transport', way, '--allow-http'], env: process.env, stderr: 'pipe' });
  let said = '';
  transport.stderr?.on('data', (d) => { said = (said + d).slice(-4000); });
  try { await client.connect(transport, { timeout: 25_000 }); } catch (e) {
    await client.close().catch(() => {});
    throw new Error(`${e.message}; mcp-remote said: ${said.slice(-600)}`);
  }
  return {
    list: async () => (await client.listTools()).tools.map((t) => t.name),
    call: async (tool, args) => textOf(await client.callTool({ name: tool, arguments: args })),
    close: () => client.close(),
  };
}

await basics(report, name, open, way === 'http-only' ? undefined : ['time', 'everything']);
report.exit();
