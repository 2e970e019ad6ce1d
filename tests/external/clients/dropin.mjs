// The TypeScript SDK 1.x before many servers, one after the other: each greets, lists its tools and calls one.
//   node dropin.mjs FILE      a line of FILE: {"label", "url", "way": "http|sse", "headers"} or {"label", "command"}
import { readFileSync } from 'node:fs';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { SSEClientTransport } from '@modelcontextprotocol/sdk/client/sse.js';
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';

const open = ({ url, way, headers = {}, command }) => {
  if (command) return new StdioClientTransport({ command: command[0], args: command.slice(1), env: process.env, stderr: 'inherit' });
  const options = { requestInit: { headers } };
  return way === 'sse' ? new SSEClientTransport(new URL(url), options) : new StreamableHTTPClientTransport(new URL(url), options);
};

for (const line of readFileSync(process.argv[2], 'utf8').split('\n').filter(Boolean)) {
  const one = JSON.parse(line);
  const client = new Client({ name: 'dropin', version: '1' });
  try {
    await client.connect(open(one));
    const names = (await client.listTools()).tools.map((tool) => tool.name);
    const plain = ['read_graph', 'whoami'].find((name) => names.includes(name));
    const [name, args] = plain ? [plain, {}] : ['echo', { text: 'hi' }];
    if (!names.includes(name)) throw new Error(`no tool ${name} among ${names}`);
    const result = await client.callTool({ name, arguments: args });
    if (result.isError) throw new Error(JSON.stringify(result).slice(0, 200));
    console.log(`ok dropin - ${one.label}`);
  } catch (error) {
    console.log(`FAIL dropin - ${one.label}: ${String(error).slice(0, 300)}`);
  }
  await client.close().catch(() => {});
}
process.exit(0);
