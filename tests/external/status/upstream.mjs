// A stdio server for the status page: it answers, is slow, says strange things on stderr, or fails, as it is told.
//   node upstream.mjs [--name NAME] [--slow SECONDS] [--noise LINES]
import { createInterface } from 'node:readline';
const flag = (name, or) => { const at = process.argv.indexOf(`--${name}`); return at < 0 ? or : (process.argv[at + 1] ?? true); };
const say = (message) => process.stdout.write(JSON.stringify({ jsonrpc: '2.0', ...message }) + '\n');
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
const tools = [
  { name: 'search', title: 'Search', description: 'Looks for something.\nTakes its time.', inputSchema: { type: 'object' } },
  { name: 'create_issue', title: 'Create an issue', description: 'Writes down what is wrong.', inputSchema: { type: 'object' } },
  { name: 'delete_page', description: '<img src=x onerror="document.title=1"><script>document.title=1</script>', inputSchema: { type: 'object' } },
];
const STRANGE = ['<script>window.owned = 1</script>', '<img src=x onerror="window.owned = 1">', '"><svg onload=window.owned=1>', '<b>bold</b> & &lt;i&gt;',
  '</span></li></ol><h1>hello</h1>', 'javascript:window.owned=1', '{{constructor.constructor("window.owned=1")()}}', '<a href="https://evil.test/">click</a>'];
for (let i = 0; i < Number(flag('noise', 0)); i += 1) process.stderr.write(`line ${i} ${STRANGE[i % STRANGE.length]}\n`);
let asked = 0;
for await (const line of createInterface({ input: process.stdin })) {
  const { id, method, params } = JSON.parse(line);
  if (id === undefined) continue;
  const answer = (result) => say({ id, result });
  if (method === 'initialize') {
    await sleep(1000 * Number(flag('slow', 0)));
    answer({ protocolVersion: params.protocolVersion, capabilities: { tools: {}, prompts: {}, resources: {} }, serverInfo: { name: flag('name', 'server'), version: '1.4.2' } });
  } else if (method === 'tools/list') answer({ tools });
  else if (method === 'prompts/list') answer({ prompts: [{ name: 'review', title: 'Review', description: 'Reviews a change.' }] });
  else if (method === 'resources/list') answer({ resources: [{ name: 'readme', uri: 'file:///readme', description: 'How it began.' }] });
  else if (method === 'resources/templates/list') answer({ resourceTemplates: [{ name: 'page', uriTemplate: 'page://{number}' }] });
  else if (method === 'tools/call') {
    asked += 1;
    setTimeout(() => answer({ content: [{ type: 'text', text: `found ${params.name}` }], isError: params.arguments?.fail === true }), params.arguments?.wait ?? (asked * 37) % 90);
  } else say({ id, error: { code: -32601, message: `no method ${method}` } });
}
