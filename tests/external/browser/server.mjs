// A stdio server that counts what it runs, so that a page can be shown to have run nothing.
//   node server.mjs
import { createInterface } from 'node:readline';
let ran = 0;
const say = (message) => process.stdout.write(JSON.stringify({ jsonrpc: '2.0', ...message }) + '\n');
const text = (value) => ({ content: [{ type: 'text', text: String(value) }] });
const schema = { type: 'object', properties: { region: { type: 'string', 'x-mcp-header': 'Region' } } };
for await (const line of createInterface({ input: process.stdin })) {
  const { id, method, params } = JSON.parse(line);
  const answer = (result) => say({ id, result });
  if (method === 'initialize') {
    answer({ protocolVersion: params.protocolVersion, capabilities: { tools: { listChanged: true } }, serverInfo: { name: 'counter', version: '1' } });
  } else if (method === 'tools/list') {
    answer({ tools: [{ name: 'run', inputSchema: schema }, { name: 'ran', inputSchema: { type: 'object' } }] });
  } else if (method === 'tools/call' && params.name === 'run') {
    ran += 1;
    const progressToken = params._meta?.progressToken;
    if (progressToken !== undefined) say({ method: 'notifications/progress', params: { progressToken, progress: 1 } });
    say({ method: 'notifications/tools/list_changed' });
    answer(text(`run ${ran} in ${params.arguments?.region ?? 'no region'}`));
  } else if (method === 'tools/call') {
    answer(text(ran));
  } else if (id !== undefined) {
    say({ id, error: { code: -32601, message: `no method ${method}` } });
  }
}
