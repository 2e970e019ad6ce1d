// Web pages in a real Chromium before a hub: what allowed ones can do and read, and that others run nothing.
//   node browser.mjs HUB_PORT PAGES_PORT PROFILE
// The hub is http://hub.test:HUB_PORT, and allows pages of http://app.test:PAGES_PORT; all names lead to 127.0.0.1.
import { createServer } from 'node:http';
import { chromium } from 'playwright-core';

const [hubPort, pagesPort, profile] = process.argv.slice(2);
const hub = `http://hub.test:${hubPort}`, local = `http://127.0.0.1:${hubPort}`;
const pages = createServer((_, answer) => answer.setHeader('content-type', 'text/html').end('<!doctype html><title>page</title>'));
await new Promise((ready) => pages.listen(Number(pagesPort), '127.0.0.1', ready));

let bad = 0;
function check(what, got, wanted) {
  const [is, has] = [got, wanted].map((v) => JSON.stringify(v));
  if (is === has) return console.log(`ok browser - ${what}`);
  bad += 1;
  console.log(`FAIL browser - ${what}: ${is?.slice(0, 300)}, has to be ${has}`);
}

// Without a browser: what only the hub and its server know.
const NEWEST = '2026-07-28', META = 'io.modelcontextprotocol/';
const modern = (name, args) => ({
  method: 'POST',
  headers: { 'content-type': 'application/json', accept: 'application/json, text/event-stream',
    'mcp-protocol-version': NEWEST, 'mcp-method': 'tools/call', 'mcp-name': name,
    ...(args.region && { 'mcp-param-region': args.region }) },
  body: JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'tools/call', params: { name, arguments: args, _meta: {
    [`${META}protocolVersion`]: NEWEST, [`${META}clientCapabilities`]: {}, [`${META}clientInfo`]: { name: 'page', version: '1' } } } }),
});
const ran = async () => Number((await (await fetch(`${local}/tools/mcp`, modern('ran', {}))).json()).result.content[0].text);
const sessions = async () => (await (await fetch(`${local}/api/v1/status`)).json()).sessions;
const initialize = { method: 'POST', headers: { 'content-type': 'application/json', accept: 'application/json, text/event-stream' },
  body: JSON.stringify({ jsonrpc: '2.0', id: 0, method: 'initialize', params: {
    protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: 'page', version: '1' } } }) };
const call = (id, meta) => JSON.stringify({ jsonrpc: '2.0', id, method: 'tools/call', params: { name: 'run', arguments: {}, ...(meta && { _meta: meta }) } });

const context = await chromium.launchPersistentContext(profile, {
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', headless: true, timeout: 60_000,
  args: ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync',
    `--host-resolver-rules=${['app', 'evil', 'hub'].map((name) => `MAP ${name}.test 127.0.0.1`).join(',')}`],
});
try {
  const page = await context.newPage();
  const at = (origin) => page.goto(`${origin}/`, { timeout: 30_000 });
  // A fetch in the page: what it may know of the answer, or the name of the error.
  const ask = (url, init) => page.evaluate(async ([url, init]) => {
    try {
      const answer = await fetch(url, init);
      const text = await answer.text();
      return { status: answer.status, session: answer.headers.get('mcp-session-id'), type: answer.type, text };
    } catch (error) { return { error: error.name }; }
  }, [url, init]);
  const json = (answer) => { try { return JSON.parse(answer.text); } catch { return {}; } };

  // 1. A page that is allowed.
  await at(`http://app.test:${pagesPort}`);
  const hello = await ask(`${hub}/tools/mcp`, initialize);
  check('an allowed page opens a session', [hello.status, json(hello).result?.serverInfo?.name], [200, 'counter']);
  check('and reads its id', typeof hello.session, 'string');
  const headers = { ...initialize.headers, 'mcp-session-id': hello.session, 'mcp-protocol-version': '2025-11-25' };
  const called = await ask(`${hub}/tools/mcp`, { method: 'POST', headers, body: call(1) });
  check('calls a tool', called.text?.includes('run 1 in no region'), true);
  const streamed = await ask(`${hub}/tools/mcp`, { method: 'POST', headers, body: call(2, { progressToken: 't' }) });
  check('reads the event stream of a call', ['notifications/progress', 'run 2 in no region'].map((part) => streamed.text?.includes(part)), [true, true]);
  const heard = await page.evaluate(async ([url, headers, body]) => {
    const stop = new AbortController();
    setTimeout(() => stop.abort(), 20_000);
    const stream = await fetch(url, { headers: { ...headers, accept: 'text/event-stream' }, signal: stop.signal });
    const reader = stream.body.pipeThrough(new TextDecoderStream()).getReader();
    const posted = fetch(url, { method: 'POST', headers, body });
    let all = '';
    while (!all.includes('list_changed')) all += (await reader.read()).value;
    // What earlier calls left there may be read before this one has run.
    await (await posted).text();
    stop.abort();
    return [stream.status, stream.headers.get('content-type')];
  }, [`${hub}/tools/mcp`, headers, call(3)]).catch((error) => error.message);
  check('reads the stream of what belongs to no call', heard, [200, 'text/event-stream']);
  const resumed = await ask(`${hub}/tools/mcp`, { headers: { ...headers, accept: 'text/event-stream', 'last-event-id': '99-99' } });
  check('may send Last-Event-ID', resumed.status, 400);
  const gone = await ask(`${hub}/tools/mcp`, { method: 'POST', headers: { ...headers, 'mcp-session-id': 'gone' }, body: call(4) });
  check('reads why a session is unknown', [gone.status, /initialize a new one/.test(json(gone).error?.message)], [404, true]);
  const newer = modern('run', { region: 'eu' });
  newer.headers.authorization = 'Bearer x';
  const param = await ask(`${hub}/tools/mcp`, newer);
  check('calls without a session, with Authorization and Mcp-Param-Region', [param.status, json(param).result?.content?.[0]?.text], [200, 'run 4 in eu']);
  newer.headers['mcp-param-region'] = 'us';
  const mismatch = await ask(`${hub}/tools/mcp`, newer);
  check('reads that a header differs from its argument', [mismatch.status, /Mcp-Param-Region/.test(mismatch.text)], [400, true]);
  check('may not send a header that is in no list', await ask(`${hub}/tools/mcp`, { headers: { 'x-other': '1' } }), { error: 'TypeError' });
  check('reads the status', (await ask(`${hub}/api/v1/status`)).status, 200);
  const endpoint = await page.evaluate((url) => new Promise((done) => {
    const source = new EventSource(url);
    const end = (what) => { source.close(); done(what); };
    source.addEventListener('endpoint', (event) => end(event.data.split('?')[0]));
    source.onerror = () => end('an error');
  }), `${hub}/tools/sse`);
  check('opens HTTP+SSE with EventSource', endpoint, '/tools/message');
  const ended = await ask(`${hub}/tools/mcp`, { method: 'DELETE', headers });
  check('ends its session', ended.status, 204);
  const before = [await ran(), 4];
  check('the server ran what it was asked', before[0], before[1]);

  // 2. The same code where it is not allowed; a session of HTTP+SSE needs no header that a form could not send.
  const stop = new AbortController();
  const leaked = await fetch(`${local}/tools/sse`, { headers: { accept: 'text/event-stream' }, signal: stop.signal });
  const opened = new TextDecoder().decode((await leaked.body.getReader().read()).value);
  const message = `${hub}${/data: ?(\S+)/.exec(opened)[1]}`;
  const open = await sessions();
  const foreign = async (whose) => {
    check(`${whose} opens no session`, await ask(`${hub}/tools/mcp`, initialize), { error: 'TypeError' });
    check(`${whose} runs no tool with Mcp-Param-Region`, await ask(`${hub}/tools/mcp`, modern('run', { region: 'eu' })), { error: 'TypeError' });
    check(`${whose} does not read the status`, await ask(`${hub}/api/v1/status`), { error: 'TypeError' });
    for (const type of ['text/plain', 'application/x-www-form-urlencoded']) {
      const blind = await ask(message, { method: 'POST', mode: 'no-cors', headers: { 'content-type': type }, body: call(9) });
      check(`${whose} sends ${type} without a preflight, and sees nothing`, [blind.type, blind.text], ['opaque', '']);
    }
  };
  await at(`http://evil.test:${pagesPort}`);
  await foreign('a foreign page');
  await page.evaluate(([url, body]) => navigator.sendBeacon(url, new Blob([body], { type: 'text/plain' })), [message, call(9)]);
  const form = await context.newPage();
  await form.goto(`http://evil.test:${pagesPort}/`);
  const [submitted] = await Promise.all([
    form.waitForResponse((answer) => answer.url() === message && answer.request().isNavigationRequest(), { timeout: 20_000 }),
    form.evaluate(([url, body]) => {
      const form = Object.assign(document.createElement('form'), { action: url, method: 'post', enctype: 'text/plain' });
      const [name, value] = [body.slice(0, -1), body.slice(-1)];
      form.append(Object.assign(document.createElement('input'), { name, value }));
      document.body.append(form);
      form.submit();
    }, [message, call(9)]),
  ]);
  check('a form of a foreign page is refused', submitted.status(), 403);
  await form.close();
  // A page without an origin, though it is in one that is allowed.
  await at(`http://app.test:${pagesPort}`);
  const boxed = await page.evaluate((url) => new Promise((done) => {
    addEventListener('message', (event) => done(event.data));
    const script = `fetch(${JSON.stringify(url)}).then(() => 'read', (e) => e.name).then((w) => parent.postMessage(origin + ' ' + w, '*'))`;
    document.body.append(Object.assign(document.createElement('iframe'), { sandbox: 'allow-scripts', srcdoc: `<script>${script}<\/script>` }));
  }), `${hub}/api/v1/status`);
  check('a page in a sandbox has no origin and reads nothing', boxed, 'null TypeError');

  // 3. A name of somebody else's that leads here: the page is of the hub's own address, as far as the browser knows.
  const rebound = await at(`http://evil.test:${hubPort}`);
  check('a rebinding name is refused', rebound.status(), 403);
  const own = `http://evil.test:${hubPort}`;
  for (const [what, path, init] of [['status', '/api/v1/status', {}], ['session', '/tools/mcp', initialize], ['tool', '/tools/mcp', modern('run', { region: 'eu' })]]) {
    const refused = await ask(`${own}${path}`, init);
    check(`a rebinding name gets no ${what}`, [refused.status, /Host/.test(refused.text)], [403, true]);
  }
  await foreign('a page of a rebinding name');
  check('nothing of all this ran', [await ran(), await sessions()], [before[1], open]);
  stop.abort();

  // 4. A loopback page of another port is one of this machine's, which a hub on loopback serves unasked.
  await at(`http://127.0.0.1:${pagesPort}`);
  check('a loopback page opens a session', (await ask(`${local}/tools/mcp`, initialize)).status, 200);
} finally {
  await context.close();
  pages.closeAllConnections();
  pages.close();
}
process.exit(bad ? 1 : 0);
