// The TypeScript SDK 1.x before many tunnels, all at once: each greets, lists its tools, calls one, and where it is told
// to stays idle and calls again. Names below localhost lead here.
//   node tunnel.mjs FILE      a line of FILE: {"label", "url", "way": "http|sse", "idle": seconds}
import dns from 'node:dns';
import { readFileSync } from 'node:fs';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { SSEClientTransport } from '@modelcontextprotocol/sdk/client/sse.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';

const { lookup } = dns;
dns.lookup = (name, options, done) => name.endsWith('.localhost') ? lookup('127.0.0.1', options, done) : lookup(name, options, done);
const sleep = (ms) => new Promise((ok) => setTimeout(ok, ms));
const expect = (so, what) => { if (!so) throw new Error(what); };

async function one({ url, way, idle = 0 }) {
  // Event streams, what came on them, and whether they ended.
  const streams = [];
  const watched = async (to, init) => {
    const answer = await fetch(to, init);
    if ((init?.method ?? 'GET') !== 'GET' || !answer.ok) return answer;
    const stream = { text: '', ended: false };
    streams.push(stream);
    const [here, there] = answer.body.tee();
    (async () => {
      for await (const chunk of here) stream.text += Buffer.from(chunk).toString();
    })().catch(() => {}).finally(() => { stream.ended = true; });
    return new Response(there, { status: answer.status, headers: answer.headers });
  };
  const Transport = way === 'sse' ? SSEClientTransport : StreamableHTTPClientTransport;
  const client = new Client({ name: 'tunnel', version: '1' });
  await client.connect(new Transport(new URL(url), { fetch: watched }));
  const echo = async (text) => {
    const result = await client.callTool({ name: 'echo', arguments: { text } });
    expect(JSON.stringify(result.content).includes(text), JSON.stringify(result).slice(0, 200));
  };
  const tools = (await client.listTools()).tools.map((tool) => tool.name);
  expect(tools.includes('echo'), `no tool echo among ${tools}`);
  await echo('hi');
  if (idle) {
    await sleep(idle * 1000);
    expect(streams.length === 1 && !streams[0].ended, `${streams.length} streams, ended: ${streams.map((s) => s.ended)}`);
    const comments = streams[0].text.split(': keep-alive').length - 1;
    expect(comments >= Math.floor(idle / 30), `${comments} comments in ${idle} s`);
    await echo('still here');
  }
  await client.close();
}

const report = async (line) => {
  try {
    await one(line);
    console.log(`ok tunnel - ${line.label}`);
  } catch (error) {
    console.log(`FAIL tunnel - ${line.label}: ${String(error?.cause ?? error).slice(0, 300)}`);
  }
};
await Promise.all(readFileSync(process.argv[2], 'utf8').split('\n').filter(Boolean).map(JSON.parse).map(report));
process.exit(0);
