// Clients of several hubs behind a balancer, while these are restarted one after the other.
//   node fleet.mjs use BALANCER BASE_URL    until the file $EXT_ROLLED exists: the SDKs 1.x (sessions), 2.x (2026-07-28),
//                                           and the SDK 1.x before `hubward connect`
//   node fleet.mjs idle BALANCER BASE_URL   streams that are silent for 70 s
// A session ends with its hub: a client of the older eras is answered 404 then, and has to open another one. The SDKs
// leave that to the program that uses them, here `again`. Anything else that goes wrong is a failed call.
import { existsSync } from 'node:fs';
import { Client as Older } from '@modelcontextprotocol/sdk/client/index.js';
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js';
import { StreamableHTTPClientTransport as OlderHttp } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import { ElicitRequestSchema } from '@modelcontextprotocol/sdk/types.js';
import { Client as Newer, StreamableHTTPClientTransport as NewerHttp } from '@modelcontextprotocol/client';
import { expect, reporter, sleep, textOf, until } from './checks.mjs';

const [what, balancer, base] = process.argv.slice(2);
const report = reporter(`fleet ${balancer}`);
const url = new URL(`${base}/demo/mcp`);
const rolled = () => existsSync(process.env.EXT_ROLLED);
const ADA = { action: 'accept', content: { name: 'Ada' } };
const bearer = (name) => ({ Authorization: `Bearer ${name}-${process.env.EXT_TOKEN}` });
const why = (e) => `${e?.status ?? e?.data?.status ?? e?.code ?? ''} ${e?.message ?? e}`.trim().replace(/\s+/g, ' ').slice(0, 200);
// A busy machine is no failed call.
const PATIENCE = { timeout: 200_000 };

const OPEN = {
  async ts1(name) {
    const client = new Older({ name, version: '1' }, { capabilities: { elicitation: {} } });
    client.setRequestHandler(ElicitRequestSchema, () => ADA);
    await client.connect(new OlderHttp(url, { requestInit: { headers: bearer(name) } }));
    return client;
  },
  async ts2(name) {
    const client = new Newer({ name, version: '1' }, { capabilities: { elicitation: { form: {} } }, versionNegotiation: { mode: { pin: '2026-07-28' } } });
    client.setRequestHandler('elicitation/create', () => ADA);
    await client.connect(new NewerHttp(url, { requestInit: { headers: bearer(name) } }));
    return client;
  },
  async connect(name) {
    const client = new Older({ name, version: '1' }, { capabilities: { elicitation: {} } });
    client.setRequestHandler(ElicitRequestSchema, () => ADA);
    const args = ['connect', '--headers', 'Authorization', bearer(name).Authorization, url.href];
    await client.connect(new StdioClientTransport({ command: process.env.HUBWARD, args, env: process.env, stderr: 'inherit' }));
    return client;
  },
};
const isLost = (e) => e?.code === 404 || e?.status === 404 || /404|session is unknown|Not connected/.test(e?.message ?? '');

/** A client of a way, as a host keeps it: it opens another session where the old one is lost, and asks again. */
async function keep(way, name) {
  const kept = { client: await OPEN[way](name), calls: 0, lost: 0, failed: [] };
  kept.call_tool = (params) => (way === 'ts2' ? kept.client.callTool(params, PATIENCE) : kept.client.callTool(params, undefined, PATIENCE));
  kept.call = async (tool, args, expected) => {
    const once = async () => expect(textOf(await kept.call_tool({ name: tool, arguments: args })).includes(expected), `no ${expected}`);
    const again = async (left) => {
      kept.lost += 1;
      kept.client.close().catch(() => {});
      try {
        kept.client = await OPEN[way](name);
        await once();
      } catch (e) {
        // Opened in the instant in which its hub comes or goes.
        if (left === 0 || !isLost(e)) throw e;
        await again(left - 1);
      }
    };
    kept.calls += 1;
    await once().catch((e) => (way === 'ts1' && isLost(e) ? again(1) : Promise.reject(e))).catch(async (e) => {
      kept.failed.push(`${tool}: ${why(e)}`);
      await sleep(500);
    });
  };
  return kept;
}

async function use() {
  const all = [];
  await Promise.all(Object.keys(OPEN).flatMap((way) => [0, 1].map((n) => report.check('-', `${way} ${n}: list, call, question`, async () => {
    const kept = await keep(way, `${way}-${n}`);
    const tools = (await kept.client.listTools()).tools.map((tool) => tool.name);
    expect(tools.includes('echo'), `tools: ${tools}`);
    await kept.call('echo', { text: 'grüße' }, 'grüße');
    await kept.call('ask_name', {}, 'Hello, Ada');
    expect(!kept.failed.length, kept.failed[0]);
    all.push([way, n, kept]);
  }, PATIENCE.timeout))));
  // Streams of 2026-07-28 that tell of changes end with their hub, and are asked for again.
  const streams = { opened: 0, open: false, failed: [] };
  const [, , listener] = all.find(([way, n]) => way === 'ts2' && n === 0) ?? [];
  const listen = async () => {
    while (!rolled()) {
      try {
        const subscription = await listener.client.listen({ toolsListChanged: true });
        streams.opened += 1; streams.open = true;
        await Promise.race([subscription.closed, until(600_000, '', rolled)]);
        if (!rolled()) streams.open = false;
      } catch (e) { streams.failed.push(why(e)); await sleep(100); }
    }
  };
  if (listener) listen();
  console.error('fleet: in use');
  // One client of each way makes long calls, which are under way when their hub is told to end.
  await Promise.all(all.map(async ([, n, kept]) => {
    while (!rolled()) {
      if (n === 0) await kept.call('slow', { seconds: 4 }, '');
      else { await kept.call('echo', { text: `${kept.calls}` }, `${kept.calls}`); await sleep(250); }
    }
  }));
  for (const way of Object.keys(OPEN)) {
    const kept = all.filter(([of]) => of === way).map(([, , one]) => one);
    const sum = (of) => kept.reduce((total, one) => total + of(one), 0);
    await report.check('-', `${way}: no call failed during the update`, () => {
      const failed = kept.flatMap((one) => one.failed);
      expect(!failed.length, `${failed.length} of ${sum((one) => one.calls)} calls: ${[...new Set(failed)].slice(0, 3).join('; ')}`);
      expect(kept.length === 2 && kept.every((one) => one.calls > 3), `too few calls: ${kept.map((one) => one.calls)}`);
      return `${sum((one) => one.calls)} calls, ${sum((one) => one.lost)} sessions opened again`;
    });
  }
  await report.check('-', 'ts2: the stream of changes is there again', () => {
    expect(streams.open && streams.opened > 1, `opened ${streams.opened} times, open: ${streams.open}; ${streams.failed.slice(0, 3)}`);
    return `opened ${streams.opened} times, ${streams.failed.length} attempts in vain`;
  });
  await Promise.all(all.map(([, , kept]) => kept.client.close().catch(() => {})));
}

const json = { 'content-type': 'application/json', accept: 'application/json, text/event-stream', ...bearer('idle') };
const post = (headers, body) => fetch(url, { method: 'POST', headers: { ...json, ...headers }, body: JSON.stringify({ jsonrpc: '2.0', ...body }) });
/** What comes on a stream, each event with its time, and when it ended. */
function follow(response) {
  const seen = { status: response.status, events: [], comments: 0, ended: null, began: Date.now() };
  (async () => {
    let rest = '';
    for await (const chunk of response.body.pipeThrough(new TextDecoderStream())) {
      const blocks = (rest + chunk).split('\n\n'); rest = blocks.pop();
      for (const block of blocks) {
        const data = block.split('\n').filter((line) => line.startsWith('data: ')).map((line) => line.slice(6)).join('\n');
        if (data) seen.events.push([Date.now(), data]);
        else seen.comments += 1;
      }
    }
  })().catch((e) => { seen.why = why(e.cause ?? e); }).finally(() => { seen.ended = Date.now(); });
  return seen;
}
/** Something that `happens` (it answers when) is on a stream within a second. */
const arrives = async (stream, text, happens) => {
  // A machine may be busy for a moment; what is held back is late every time.
  let late;
  for (let n = 0; n < 4; n += 1) {
    const known = stream.events.length, since = await happens(n);
    const event = () => stream.events.slice(known).find(([, data]) => data.includes(text));
    await until(60_000, `an event with ${text}`, () => event() || stream.ended);
    expect(event(), `the stream ended after ${Math.round((stream.ended - stream.began) / 1000)} s: ${stream.why ?? 'closed'}`);
    late = Math.max(0, event()[0] - since);
    if (late < 1000) return `${late} ms`;
  }
  throw new Error(`after ${late} ms`);
};

async function idle() {
  const SILENT = 70_000;
  const hello = await post({}, { id: 1, method: 'initialize', params: { protocolVersion: '2025-06-18', capabilities: {}, clientInfo: { name: 'idle', version: '1' } } });
  const session = { 'mcp-session-id': hello.headers.get('mcp-session-id'), 'mcp-protocol-version': '2025-06-18' };
  await hello.text();
  await post(session, { method: 'notifications/initialized' });
  const call = (id, name, args, meta = {}) => post(session, { id, method: 'tools/call', params: { name, arguments: args, ...meta } });
  const get = follow(await fetch(url, { headers: { ...json, ...session, accept: 'text/event-stream' } }));
  const legacy = follow(await fetch(`${base}/demo/sse`, { headers: { ...json, accept: 'text/event-stream' } }));
  // It is told before it is answered.
  const add = (name) => async (n) => { await (await call(n, 'add_tool', { name: `${name}-${n}` })).text(); return Date.now(); };
  await report.check('-', 'the first event comes within a second (GET)', () => arrives(get, 'list_changed', add('first')), PATIENCE.timeout);
  await report.check('-', 'the first event comes within a second (HTTP+SSE)', () => until(1000, 'an event', () => legacy.events.length).catch(() => expect(legacy.events.length, 'nothing within a second')));
  await report.check('-', 'progress comes as it is made (POST)', async () => {
    const stream = follow(await call(2, 'slow', { seconds: 2, steps: 4 }, { _meta: { progressToken: 'p' } }));
    await until(60_000, 'the result', () => stream.ended);
    const times = stream.events.filter(([, data]) => data.includes('notifications/progress')).map(([at]) => at);
    expect(times.length > 3, `${times.length} of 4 in ${JSON.stringify(stream).slice(0, 250)}`);
    expect(times.at(-1) - times[0] > 1000, `all of it within ${times.at(-1) - times[0]} ms`);
  });
  // From here on nobody says anything but the hub's comments.
  const since = Date.now(), quiet = get.events.length;
  const long = call(3, 'slow', { seconds: 60 }).then(follow);
  await sleep(SILENT);
  await report.check('-', 'a stream that was silent for 70 s is open and brings the next event (GET)', async () => {
    expect(!get.ended, `it ended after ${Math.round((get.ended - since) / 1000)} s: ${get.why ?? 'closed'}`);
    expect(get.events.length === quiet, `it was not silent: ${JSON.stringify(get.events.slice(quiet)).slice(0, 200)}`);
    return `${await arrives(get, 'list_changed', add('last'))}, ${get.comments} comments`;
  }, PATIENCE.timeout);
  await report.check('-', 'a stream that was silent for 70 s is open (HTTP+SSE)', () => {
    expect(!legacy.ended, `it ended after ${Math.round((legacy.ended - legacy.began) / 1000)} s`);
    expect(legacy.comments > 2, `${legacy.comments} comments`);
  });
  await report.check('-', 'a call that was silent for 60 s is answered (POST)', async () => {
    const stream = await long;
    await until(30_000, 'the answer', () => stream.ended);
    expect(stream.events.some(([, data]) => data.includes('"result"')), `it ended after ${Math.round((stream.ended - since) / 1000)} s: ${stream.why ?? stream.events.at(-1) ?? 'closed'}`);
  });
}

await { use, idle }[what]();
report.exit();
