// One look at an MCP server, with the TypeScript SDK 1.x: prints its tools, or the text of one call.
//   node tools.mjs URL [TOOL]                    Streamable HTTP
//   node tools.mjs -- COMMAND ARGS… [-- TOOL]    stdio
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';

const args = process.argv.slice(2);
let tool = args[1], transport;
if (args[0] === '--') {
  const end = args.indexOf('--', 1), words = args.slice(1, end < 0 ? undefined : end);
  tool = end < 0 ? undefined : args[end + 1];
  const [command, ...rest] = words;
  transport = new StdioClientTransport({ command, args: rest, env: { ...process.env }, stderr: 'inherit' });
} else transport = new StreamableHTTPClientTransport(new URL(args[0]));
setTimeout(() => { console.log('nothing within 20 s'); process.exit(1); }, 20_000).unref();
const client = new Client({ name: 'look', version: '1' });
try {
  await client.connect(transport);
  if (tool) {
    const { content, isError } = await client.callTool({ name: tool, arguments: {} });
    if (isError) throw new Error(content[0]?.text);
    console.log(content[0].text);
  } else console.log((await client.listTools()).tools.map((t) => t.name).join(' '));
  await transport.terminateSession?.();
  await client.close();
} catch (e) {
  console.log(`failed: ${String(e?.message ?? e).replace(/\s+/g, ' ').slice(0, 300)}`);
  process.exit(1);
}
