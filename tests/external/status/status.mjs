// The status page in a real Chromium, before a hub with ten upstreams in different states.
//   node status.mjs HUB_PORT GUARDED_PORT HUB_TOML PROFILE TOKEN [SCREENSHOTS]      WORK/home is the home of what it starts
// What happens happens to the hub (a signal, an edit, a call); what is looked at is the page, and how long it took.
import { execFile } from 'node:child_process';
import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { chromium } from 'playwright-core';

const [hubPort, guardedPort, toml, profile, token, screenshots] = process.argv.slice(2);
const hub = `http://127.0.0.1:${hubPort}`, guarded = `http://127.0.0.1:${guardedPort}`;
const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const run = promisify(execFile);
const SOON = 1_000;   // what happens is on the page within this time

let bad = 0;
function check(what, got, wanted = true) {
  const [is, has] = [got, wanted].map((v) => JSON.stringify(v));
  if (is === has) return console.log(`ok status - ${what}`);
  bad += 1;
  console.log(`FAIL status - ${what}: ${is?.slice(0, 400)}, has to be ${has}`);
}

const context = await chromium.launchPersistentContext(profile, {
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', headless: true, timeout: 60_000, viewport: { width: 1280, height: 900 },
  colorScheme: 'light', locale: 'en-GB', timezoneId: 'UTC', permissions: ['clipboard-read', 'clipboard-write'],
  args: ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync'],
});
const complaints = [], asked = [];
context.on('request', (request) => asked.push(request.url()));
const watch = (page) => {
  page.on('console', (message) => ['error', 'warning'].includes(message.type()) && complaints.push(`${message.type()}: ${message.text()}`));
  page.on('pageerror', (error) => complaints.push(`exception: ${error.message}`));
  page.on('dialog', (dialog) => { complaints.push(`dialog: ${dialog.message()}`); dialog.dismiss(); });
  return page;
};
const page = watch(await context.newPage());

/* The hub, without a browser. */
const status = async (name) => {
  const all = await (await fetch(`${hub}/api/v1/status`)).json();
  return name ? all.upstreams.find((upstream) => upstream.name === name) : all;
};
const post = (url, message, more = {}) => fetch(url, { method: 'POST', body: JSON.stringify({ jsonrpc: '2.0', ...message }),
  headers: { 'content-type': 'application/json', accept: 'application/json, text/event-stream', ...more } });
async function session(name, client) {
  const hello = await post(`${hub}/${name}/mcp`, { id: 0, method: 'initialize', params: { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: client, version: '2.1' } } });
  const id = hello.headers.get('mcp-session-id');
  await hello.text();
  let next = 1;
  return (tool, args = {}) => post(`${hub}/${name}/mcp`, { id: next++, method: 'tools/call', params: { name: tool, arguments: args } }, { 'mcp-session-id': id, 'mcp-protocol-version': '2025-11-25' }).then((answer) => answer.text());
}
function edit(change) {
  const text = change(readFileSync(toml, 'utf8'));
  writeFileSync(`${toml}.new`, text);
  renameSync(`${toml}.new`, toml);
  return text;
}

/* The page. */
const row = (name) => `tr:has(a.name[href="#/${name}"])`;
const shown = (name, part = 'state') => page.locator(`${row(name)} .c-${part}`).textContent({ timeout: 5_000 }).catch(() => null);
/** Waits until the page says so, and checks that it was soon after what was done. */
async function soon(what, act, says, argument, limit = SOON) {
  const began = Date.now();
  await act();
  const done = Date.now();
  let took = null;
  try {
    await page.waitForFunction(says, argument, { timeout: 15_000, polling: 20 });
    took = Date.now() - began;
  } catch { /* then it is null */ }
  // An act that takes time itself is over before anything can be seen of it.
  check(`${what}${took === null ? '' : ` (${took} ms)`}`, took !== null && took - (done - began) < limit ? 'soon' : `${took} ms`, 'soon');
}
const rowSays = ([name, part, pattern]) => new RegExp(pattern).test(document.querySelector(`tr:has(a.name[href="#/${name}"])`)?.querySelector(`.c-${part}`)?.textContent ?? '');
async function accessible(what, where = page) {
  for (const colorScheme of ['light', 'dark']) {
    await where.emulateMedia({ colorScheme });
    const found = await where.evaluate(`${axe}; axe.run(document).then((r) => r.violations.map((v) => v.id + ' ' + v.nodes.slice(0, 3).map((n) => n.target.join(' ')).join(', ')))`);
    check(`axe finds nothing in ${what}, ${colorScheme}`, found, []);
  }
  await where.emulateMedia({ colorScheme: 'light' });
}
const narrow = (where = page) => where.evaluate(() => document.documentElement.scrollWidth <= innerWidth);
const focused = () => page.evaluate(() => { const on = document.activeElement; return on.getAttribute('aria-label') ?? on.textContent.trim().slice(0, 60); });
async function home() { await page.goto(`${hub}/#/`); await page.waitForSelector('.beat.live'); await page.waitForSelector('tbody tr'); }

try {
  // Some life, before anybody looks.
  const [github, claude] = [await session('github', 'cursor'), await session('github', 'claude-code')];
  for (let i = 0; i < 24; i += 1) await Promise.all([github('search'), claude(i % 9 === 4 ? 'create_issue' : 'search', { fail: i % 9 === 4 })]);

  // 1. Everything at a glance.
  await home();
  const names = await page.locator('tbody .name').allTextContents();
  check('all ten upstreams have a row', names, ['archive', 'billing', 'browser', 'files', 'github', 'linear', 'notes', 'search', 'tickets', 'wiki']);
  const first = { archive: /disabled/, billing: /waiting/, browser: /ready/, files: /idle/, github: /ready/, linear: /needs login/, notes: /ready/, search: /starting/, tickets: /failed/, wiki: /ready/ };
  for (const [name, pattern] of Object.entries(first)) {
    await page.waitForFunction(rowSays, [name, 'state', pattern.source], { timeout: 15_000 }).catch(() => {});
    check(`${name} is ${pattern.source}`, pattern.test(await shown(name) ?? '') || await shown(name));
  }
  const states = new Map((await status()).upstreams.map((upstream) => [upstream.name, upstream.state]));
  check('the upstreams are in different states', new Set(states.values()).size, 7);
  check('a broken command says why', /no-such-program/.test(await shown('tickets')) || await shown('tickets'));
  check('a login says what to type', /hubward auth login linear/.test(await shown('linear')) || await shown('linear'));
  check('calls, clients and revision are there', [/2/.test(await shown('github', 'clients')), /48/.test(await shown('github', 'rate')), /2025-11-25/.test(await shown('github', 'name'))], [true, true, true]);
  check('each state has a word and a shape', await page.$$eval('tbody .badge', (all) => all.every((badge) => badge.querySelector('svg') && badge.textContent.trim())));
  await accessible('the overview');

  if (screenshots) {
    // A little history first.
    for (let i = 0; i < 100; i += 1) await Promise.all([github('search'), i % 3 || claude('create_issue', { fail: i % 20 === 7 }), page.waitForTimeout(600 + 500 * Math.sin(i / 9))]);
    const shot = async (name, place, colorScheme, width, height, before) => {
      await page.setViewportSize({ width, height });
      await page.emulateMedia({ colorScheme });
      await page.goto(`${hub}/${place}`);
      await before?.();
      await page.waitForTimeout(2_000);
      await page.screenshot({ path: `${screenshots}/status-${name}.png` });
    };
    await shot('light', '#/', 'light', 1280, 1260);
    await shot('dark', '#/github', 'dark', 1280, 1120, () => page.click('text=List now'));
    await shot('phone', '#/', 'light', 360, 780);
    await page.setViewportSize({ width: 1280, height: 900 });
    await home();
  }

  // 2. What happens is seen.
  const { pids: [pid] } = await status('browser');
  await soon('kill -9 is seen, with its cause', () => process.kill(pid, 'SIGKILL'), rowSays, ['browser', 'state', 'signal 9|SIGKILL']);
  await soon('and the restart', () => {}, rowSays, ['browser', 'restarts', '^1$'], 10_000);
  const { pids: [blocked] } = await status('wiki');
  const wiki = await session('wiki', 'cursor');
  await page.waitForFunction(rowSays, ['wiki', 'flight', '^0$']);
  process.kill(blocked, 'SIGSTOP');
  let stuck;
  await soon('a call of a blocked server is seen to wait', () => { stuck = wiki('search'); }, rowSays, ['wiki', 'flight', '^1$'], SOON + 500);
  await stuck;
  await soon('and to fail', () => {}, rowSays, ['wiki', 'errors', '1 unanswered'], SOON + 500);
  process.kill(blocked, 'SIGCONT');
  await soon('a new upstream with a broken command is seen, with its cause', () => edit((text) => `${text}\n[upstreams.zeta]\ncommand = "/no-such-program-either"\nstart = "eager"\n`),
    rowSays, ['zeta', 'state', 'no-such-program-either']);
  await soon('an upstream that was removed is gone', () => edit((text) => text.replace(/\n\[upstreams\.zeta\][^[]*/, '\n')),
    () => !document.querySelector('a.name[href="#/zeta"]'));
  await soon('an upstream that is disabled says so', () => edit((text) => text.replace('[upstreams.files]\n', '[upstreams.files]\nenabled = false\n')), rowSays, ['files', 'state', 'disabled']);
  let good;
  await soon('a rejected edit shows its drawn error', () => { good = readFileSync(toml, 'utf8'); edit((text) => text.replace('[upstreams.files]\n', '[upstreams.files]\ncomand = "x"\n')); },
    () => /comand[^]*\^\^\^\^\^\^/.test(document.querySelector('.alert.bad pre')?.textContent ?? ''));
  check('with what runs on', /Generation \d+ runs on/.test(await page.locator('.alert.bad').textContent()));
  await accessible('the overview with a rejected edit');
  await soon('a good edit takes it away', () => edit(() => good.replace('[upstreams.files]\nenabled = false\n', '[upstreams.files]\n')), () => !document.querySelector('.alert.bad'));

  // 3. One upstream.
  await page.click(`${row('search')} .name`);
  await page.waitForSelector('.log li');
  check('its page has its name', await page.textContent('h1'), 'search');
  check('the heading has the focus', await focused(), 'search');
  await page.waitForFunction(() => /line 199/.test(document.querySelector('.log')?.textContent ?? ''));
  const lines = await page.$$eval('.log li > span', (all) => all.map((line) => line.textContent));
  const told = await (await fetch(`${hub}/api/v1/upstreams/search`)).json();
  check('all that is kept of stderr is shown', lines.length, told.log.length);
  check('which is all of it', lines.length, 200);
  check('its last line is the last', /^line 199 /.test(lines.at(-1)) || lines.at(-1));
  check('hostile stderr stays text', [lines.some((line) => line.includes('<script>window.owned')), await page.$$eval('.log *', (all) => [...new Set(all.map((node) => node.localName))].sort().filter((name) => !['li', 'span', 'time'].includes(name))), await page.evaluate(() => window.owned ?? null)], [true, [], null]);
  await page.goto(`${hub}/#/notes`);
  await page.click('text=List now');
  await page.waitForSelector('text=List again');
  const offers = await page.locator('.k-tools').textContent();
  check('tools, prompts, resources and templates are listed', ['create_issue', 'review', 'file:///readme', 'page://{number}'].map((part) => offers.includes(part)), [true, true, true, true]);
  check('a hostile description stays text', [await page.locator('.k-tools img, .k-tools script').count(), offers.includes('onerror=')], [0, true]);
  check('the keyboard stays where it was', await focused(), 'List again');
  check('the configuration is there', (await page.locator('.k-config').textContent()).includes('upstream.mjs'));
  check('the timeline is there', /ready/.test(await page.locator('.k-timeline').textContent()));
  await accessible('the page of an upstream');
  await page.goto(`${hub}/#/github`);
  await page.waitForSelector('.k-calls tbody tr');
  const calls = await page.locator('.k-calls').textContent();
  check('the last calls are there, failures too', [/tools\/call search/, /tool error/].map((pattern) => pattern.test(calls)), [true, true]);
  check('the clients are there', /cursor[^]*claude-code|claude-code[^]*cursor/.test(await page.locator('.k-clients').textContent()));
  check('the charts say in words what they show', await page.$$eval('.chart svg[role=img]', (all) => all.map((one) => /\d/.test(one.getAttribute('aria-label')))), [true, true]);
  const last = () => document.querySelector('.k-calls tbody time').dateTime;
  await soon('a new call is seen there', () => github('search'), (before) => document.querySelector('.k-calls tbody time').dateTime !== before, await page.evaluate(last), 2 * SOON);
  const { pids: [main] } = await status('github');
  await soon('kill -9 is seen there too', () => process.kill(main, 'SIGKILL'), () => /signal 9|SIGKILL/.test(document.querySelector('.k-timeline')?.textContent ?? ''), undefined, 2 * SOON);

  // 4. Connect.
  await page.goto(`${hub}/#/`);
  await page.click(`${row('github')} .go`);
  await page.waitForSelector('#client-claude-code');
  const url = `${hub}/github/mcp`;
  check('the URL is there', await page.textContent('#url'), url);
  await page.click('.url .copy');
  await page.waitForFunction(() => document.querySelector('.url .copy span').textContent === 'Copied');
  check('the copy button copies it', await page.evaluate(() => navigator.clipboard.readText()), url);
  const tabs = await page.$$eval('[role=tab]', (all) => all.map((tab) => tab.textContent));
  check('there is a tab for each client', tabs.length, 11);
  await page.focus('#client-claude-code');
  for (const [key, wanted] of [['ArrowRight', tabs[1]], ['End', tabs.at(-1)], ['ArrowRight', tabs[0]], ['ArrowLeft', tabs.at(-1)], ['Home', tabs[0]]]) {
    await page.keyboard.press(key);
    check(`${key} leads to ${wanted}`, [await focused(), await page.textContent('[role=tab][aria-selected=true]')], [wanted, wanted]);
  }
  check('only the chosen tab is a stop of the keyboard', await page.$$eval('[role=tab]', (all) => all.filter((tab) => tab.tabIndex === 0).length), 1);
  for (const [i, id] of (await page.$$eval('[role=tab]', (all) => all.map((tab) => tab.id))).entries()) {
    await page.click(`#${id}`);
    const text = await page.locator('[role=tabpanel] pre').textContent();
    if (!text.includes(url)) check(`${tabs[i]} gets the URL`, text);
  }
  check('links lead to VS Code and Cursor', await (async () => {
    const links = [];
    for (const id of ['vscode', 'cursor']) { await page.click(`#client-${id}`); links.push((await page.getAttribute('[role=tabpanel] a.button', 'href')).split('?')[0]); }
    return links;
  })(), ['vscode:mcp/install', 'cursor://anysphere.cursor-deeplink/mcp/install']);
  await accessible('the connect panel');
  // What was copied is typed as it is, into a shell.
  const paste = async (where, env = {}) => {
    await where.click('#client-inspector');
    await where.click('[role=tabpanel] .copy');
    await where.waitForFunction(() => document.querySelector('[role=tabpanel] .copy span').textContent === 'Copied');
    const snippet = await where.evaluate(() => navigator.clipboard.readText());
    const done = await run('bash', ['-c', snippet], { cwd: process.env.INSPECTOR, env: { ...process.env, ...env }, timeout: 60_000 }).catch((error) => error);
    return { snippet, out: `${done.stdout}${done.code ? done.stderr : ''}` };
  };
  await page.bringToFront();
  const pasted = await paste(page);
  check('the copied snippet works in the Inspector', /"?create_issue"?/.test(pasted.out) || pasted);

  // 5. By keyboard alone.
  await home();
  await page.reload();
  await page.waitForSelector('tbody tr');
  await page.keyboard.press('Tab');
  check('the first stop skips to the content', await focused(), 'Skip to the content');
  await page.keyboard.press('Enter');
  check('and does', await page.evaluate(() => document.activeElement.id), 'main');
  await page.keyboard.press('/');
  await page.keyboard.type('linear');
  check('a slash leads to the filter', await page.locator('tbody .name').allTextContents(), ['linear']);
  let reached = [];
  for (let i = 0; i < 14; i += 1) { await page.keyboard.press('Tab'); reached.push(await focused()); }
  check('a row is reached by tabs alone, and what it offers', ['linear', 'Copy the command hubward auth login linear', 'Connect a client to linear'].map((name) => reached.includes(name)), [true, true, true]);
  await page.focus(`${row('linear')} .name`);
  check('the focus can be seen', await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle), 'solid');
  await page.keyboard.press('Enter');
  await page.waitForSelector('.crumbs');
  check('Enter leads to its page', await page.textContent('h1'), 'linear');
  await page.goBack();
  check('and back', await page.waitForSelector('tbody tr').then(() => true));

  // 6. A phone, and movement.
  const phone = watch(await context.newPage());
  await phone.setViewportSize({ width: 360, height: 740 });
  await phone.goto(`${hub}/#/`);
  await phone.waitForSelector('tbody tr');
  check('a phone does not scroll sideways', await narrow(phone));
  await accessible('the overview on a phone', phone);
  await phone.goto(`${hub}/#/search`);
  await phone.waitForSelector('.log li');
  check('nor on the page of an upstream', await narrow(phone));
  await phone.emulateMedia({ reducedMotion: 'reduce' });
  check('nothing moves for who wants no motion', await phone.evaluate(() => document.getAnimations().length), 0);
  await phone.close();

  // 7. Many.
  const extra = Array.from({ length: 990 }, (_, i) => `[upstreams.bulk-${String(i).padStart(3, '0')}]\ncommand = "/bin/true"\n`).join('');
  await home();
  await page.fill('#filter', '');
  await soon('a thousand upstreams are there', () => edit((text) => `${text}\n# many\n${extra}`), () => document.querySelectorAll('tbody tr').length >= 1000, undefined, 5 * SOON);
  const typed = Date.now();
  await page.fill('#filter', 'bulk-77');
  await page.waitForFunction(() => document.querySelectorAll('tbody tr').length === 10);
  check('the filter is quick', Date.now() - typed < 2 * SOON || Date.now() - typed);
  await page.fill('#filter', '');
  const { pids: [again] } = await status('browser');
  await soon('among them a kill is seen', () => process.kill(again, 'SIGKILL'), rowSays, ['browser', 'restarts', '^2$'], 3 * SOON);
  edit((text) => text.replace(/\n# many[^]*/, '\n'));
  await page.waitForFunction(() => document.querySelectorAll('tbody tr').length < 20);

  // 8. Who does not say who it is sees a question and nothing else.
  const door = await context.newPage();
  const answered = [];
  door.on('response', async (answer) => answer.status() === 200 && answered.push(await answer.text().catch(() => '')));
  await door.goto(`${guarded}/`);
  await door.waitForSelector('#token');
  const { version } = await status();
  check('the page names neither an upstream nor the version', [await door.content(), ...answered].some((text) => text.includes('secret-tools') || text.includes(version)), false);
  await accessible('the question', door);
  await door.fill('#token', 'not-the-token-of-anybody');
  await door.keyboard.press('Enter');
  check('a wrong token is refused', /not taken/.test(await door.locator('.door [role=alert]').textContent()));
  await door.fill('#token', token);
  await door.keyboard.press('Enter');
  await door.waitForSelector('a.name[href="#/secret-tools"]');
  await door.reload();
  check('the right one is kept by the tab', await door.waitForSelector('a.name[href="#/secret-tools"]').then(() => true));
  check('and nowhere else', await door.evaluate((token) => [document.cookie, location.href.includes(token), JSON.stringify(localStorage).includes(token)], token), ['', false, false]);
  await door.goto(`${guarded}/#/secret-tools/connect`);
  await door.bringToFront();
  await door.waitForSelector('#client-inspector');
  const known = await paste(door, { HUB_TOKEN: token });
  check('no snippet holds the token', known.snippet.includes(token), false);
  check('with the token in HUB_TOKEN it works in the Inspector', /create_issue/.test(known.out) || known);
  await door.click('#forget');
  check('a forgotten token is asked for again', await door.waitForSelector('#token').then(() => true));
  await door.fill('#token', token);
  await door.keyboard.press('Enter');
  await door.waitForSelector('a.name[href="#/secret-tools"], #client-inspector');
  const file = join(dirname(toml), 'guarded', 'hub.toml');
  writeFileSync(`${file}.new`, readFileSync(file, 'utf8').replace(/sha256 = "[^"]*"/, `sha256 = "${'0'.repeat(64)}"`));
  renameSync(`${file}.new`, file);
  check('who is thrown out is asked again, and sees nothing more', await door.waitForSelector('#token', { timeout: 10_000 }).then(() => door.locator('a.name, #url').count()), 0);
  await door.close();

  // 9. What must not have happened.
  check('nothing was asked elsewhere', [...new Set(asked.filter((address) => ![hub, guarded].includes(new URL(address).origin)))], []);
  check('the token was in no address', asked.some((address) => address.includes(token)), false);
  check('the console is silent', [...new Set(complaints)], []);
} finally {
  await context.close();
}
process.exit(bad ? 1 : 0);
