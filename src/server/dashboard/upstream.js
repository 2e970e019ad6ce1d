// One upstream: how it stands, how to connect to it, what it offers, and what happened to it.
import { copies, each, h, put, say, tabs, text } from './dom.js';
import * as chart from './chart.js';
import { get } from './live.js';
import { trouble } from './overview.js';
import { badge, bytes, count, hour, ms, number, percent, plain, shape, since, span } from './words.js';

// What the stream does not tell is asked again when it says that something changed, and now and then.
const FRESH = 400, STALE = 2_500;
const OUTCOMES = { ok: ['ready', 'ok'], tool_error: ['waiting', 'tool error'], error: ['failed', 'error'], failed: ['failed', 'failed'], cancelled: ['disabled', 'cancelled'] };
// Only these are offered as links: an address that the browser would run is not among them.
const SCHEMES = ['vscode:', 'vscode-insiders:', 'cursor:', 'https:'];

const none = (what) => h('p', { class: 'none' }, what);
const scroll = (label, ...children) => h('div', { class: 'scroll', tabindex: 0, role: 'region', 'aria-label': label }, children);
function card(id, title, ...children) {
  return h('section', { class: `card k-${id}`, 'aria-labelledby': `t-${id}` }, h('h2', { id: `t-${id}`, tabindex: -1 }, title), children);
}

/** What stands between backticks is code. */
const coded = (what) => String(what ?? '').split('`').map((part, i) => (i % 2 ? h('code', {}, part) : part));

/** The URL to give to a client, and its configuration for each of them. */
function connect(detail) {
  const { url, needs_token: token, clients } = detail.connect ?? {};
  if (!url) return none('There is no URL yet.');
  const others = (detail.mounts ?? []).filter((mount) => mount !== url);
  const snippet = (client) => [
    h('p', { class: 'where' }, coded(client.where)),
    h('div', { class: 'snippet' }, h('pre', { tabindex: 0, role: 'region', 'aria-label': `The configuration for ${client.label}` }, h('code', {}, client.text)), copies(client.text, `the configuration for ${client.label}`)),
    h('p', { class: 'also' }, link(client), client.note && h('span', {}, coded(client.note))),
  ];
  const shown = (clients ?? []).length ? tabs('client', clients, sessionStorage.getItem('hubward.client'), snippet, (id) => sessionStorage.setItem('hubward.client', id)) : null;
  shown?.list.setAttribute('aria-label', 'Client');
  return [
    h('div', { class: 'url' }, h('code', { id: 'url' }, url), copies(url, 'the URL')),
    others.length > 0 && h('p', { class: 'soft' }, 'Also at ', others.map((mount, i) => [i > 0 && ', ', h('code', {}, mount)])),
    token && h('p', { class: 'soft' }, 'Clients have to show a token here: put it into the variable ', h('code', {}, 'HUB_TOKEN'), '. ', h('code', {}, 'hubward token new'), ' makes one.'),
    shown?.list, shown?.panel,
  ];
}
function link({ link, label }) {
  let scheme = null;
  try { scheme = link && new URL(link).protocol; } catch { /* then it is no link */ }
  return SCHEMES.includes(scheme) && h('a', { class: 'button', href: link, rel: 'noreferrer' }, `Add to ${label}`);
}

/** Who somebody says to be: text, or the object that programs introduce themselves with. */
const titled = (who) => (who && typeof who === 'object' ? plain([who.title ?? who.name, who.version].map((part) => part && String(part)), ' ') : who);

/** How it stands, in pairs of a word and a value. */
function facts(u) {
  const fact = (name, value, soft) => value !== null && value !== undefined && value !== '' && h('div', {}, h('dt', {}, name), h('dd', {}, value, soft && h('span', { class: 'soft' }, soft)));
  return h('dl', { class: 'facts' },
    fact('Kind', u.kind, u.kind === 'remote' ? u.url : u.command), fact('Server', titled(u.server)),
    fact('Revision', u.revision, u.era && `${u.era} era`),
    fact('Clients', number(u.clients ? (u.clients.legacy ?? 0) + (u.clients.modern ?? 0) : u.sessions), u.clients && `${u.clients.legacy ?? 0} legacy, ${u.clients.modern ?? 0} modern`),
    fact('In flight', number(u.in_flight ?? 0)), fact('Calls', number(u.calls), Number.isFinite(u.calls_per_minute) && `${number(u.calls_per_minute)} a minute`),
    fact('p50 / p95', Number.isFinite(u.p50_ms) ? `${ms(u.p50_ms)} / ${ms(u.p95_ms)}` : '–'),
    fact('Errors', percent(u.error_percent), u.errors > 0 && `${count(u.errors, 'call')} unanswered`),
    fact('Restarts', number(u.restarts ?? 0)), fact('Isolation', u.isolation, `${u.start} start`),
    fact(u.kind === 'remote' ? 'Connections' : 'Processes', (u.pids ?? []).length ? u.pids.join(', ') : 'none'));
}

const offered = (label, items, of) => items && h('div', {}, h('h3', {}, `${label} (${items.length})`), items.length === 0 ? none('None.') : h('ul', { class: 'offers' }, items.map((item) => h('li', {}, of(item)))));
const offer = (code, title, what, withheld) => h('details', {}, h('summary', {}, h('code', {}, code), title && h('span', { class: 'soft' }, title),
  withheld && h('span', { class: 'badge is-waiting' }, shape('waiting'), 'withheld')), h('p', {}, what || 'No description.'));

function tools(detail, lists) {
  const t = detail.tools ?? {}, own = lists?.tools ?? detail.tool_list;
  return [
    lists?.error && h('p', { class: 'reason' }, lists.error),
    t.changed?.length > 0 && h('ul', { class: 'drift' }, t.changed.map((one) => h('li', {}, h('code', {}, one.name), ` ${one.what}`))),
    own?.length ? offered('Tools', own, (x) => offer(x.name, x.title, x.description, x.withheld)) : none(lists ? 'It has no tools.' : 'No list of its tools has passed yet.'),
    lists && offered('Prompts', lists.prompts, (x) => offer(x.name, x.title, x.description)),
    lists && offered('Resources', lists.resources, (x) => offer(x.uri ?? x.name, x.name, x.description)),
    lists && offered('Resource templates', lists.templates, (x) => offer(x.uriTemplate ?? x.uri ?? x.name, x.name, x.description)),
    t.hash && h('p', { class: 'soft' }, `hash ${t.hash}`, t.since && [', ', since(t.since, 'ago')], t.pinned && ', pinned'),
  ];
}

const table = (label, heads, rows) => scroll(label, h('table', { class: 'lines' }, h('thead', {}, h('tr', {}, heads.map((head) => h('th', { scope: 'col' }, head)))), rows));
const busy = (c) => (c.busy ? 'calls or listens' : `idle for ${span(c.idle_seconds)}`);
const clients = (list) => (list?.length ? table('Who is connected', ['Who', 'Client', 'Revision', 'By', 'Here for', 'Now'], h('tbody', {}, list.map((c) => h('tr', {},
  [c.principal ?? 'anybody', titled(c.client) || '–', c.revision ?? '–', c.transport ?? '–', span(c.age_seconds), busy(c)].map((value) => h('td', {}, value)))))) : none('Nobody is connected.'));

function call(one) {
  const [state, word] = OUTCOMES[one.outcome] ?? ['idle', one.outcome];
  return h('tr', {}, h('td', {}, hour(one.time)), h('td', {}, h('code', {}, plain([one.method, one.tool], ' '))), h('td', {}, one.principal ?? 'anybody'),
    h('td', {}, h('span', { class: `badge is-${state}` }, shape(state), plain([word, one.code], ' '))), h('td', {}, ms(one.ms)), h('td', {}, `${bytes(one.bytes_in)} / ${bytes(one.bytes_out)}`));
}

/** Keys for things that have none: what they say, and how often it was said before. The oldest first. */
function keyed(list) {
  const seen = new Map(), old = [...(list ?? [])];
  if (Date.parse(old[0]?.time) > Date.parse(old.at(-1)?.time)) old.reverse();
  return old.map((item) => {
    const says = JSON.stringify(item), n = seen.get(says) ?? 0;
    seen.set(says, n + 1);
    return { item, key: `${says}${n}` };
  });
}

/** The page of one upstream; `close()` ends its questions. */
export function upstream(name) {
  let detail = null, lists = null, u = null, asked = 0, timer, due = 0, shut = false;
  const stop = new AbortController();
  const title = h('h1', { tabindex: -1 }, name), state = h('div', { class: 'state' }), why = h('div', { class: 'why' }), fact = h('div');
  const parts = { connect: h('div'), charts: h('div', { class: 'charts' }), tools: h('div', { class: 'scrolls' }), clients: h('div'), config: h('div') };
  const list = h('button', { type: 'button', class: 'quiet', click: ask }, 'List now');
  const lines = h('ol', { class: 'log' }), logs = scroll('The last lines on stderr, and of the hub about it', lines), noLines = none('Nothing yet.');
  const recent = h('tbody'), callsTable = table('The last calls', ['When', 'What', 'Who', 'Outcome', 'Took', 'In / out'], recent), noCalls = none('No call yet.');
  const timeline = h('ol', { class: 'timeline' }), noEvents = none('Nothing happened yet.');
  const sections = h('div', { class: 'cards' },
    h('div', { class: 'column' }, card('connect', 'Connect', parts.connect),
      card('tools', 'What it offers', h('div', { class: 'beside' }, list, h('span', { class: 'soft' }, 'asks the server, and starts it if need be')), parts.tools)),
    h('div', { class: 'column' }, card('charts', 'The last hour', parts.charts), card('timeline', 'Timeline', noEvents, scroll('Events, the newest first', timeline))),
    card('log', 'What it says', noLines, logs), card('clients', 'Clients and streams', parts.clients),
    card('calls', 'Last calls', noCalls, callsTable), card('config', 'Effective configuration', parts.config));
  const gone = h('p', { class: 'none', hidden: true });
  const node = h('div', { class: 'one' }, h('nav', { 'aria-label': 'Breadcrumb', class: 'crumbs' }, h('a', { href: '#/' }, 'All upstreams')), h('div', { class: 'head' }, title, state), gone, why, fact, sections);

  async function ask() {
    if (list.getAttribute('aria-disabled')) return;
    // Not `disabled`: that would take the keyboard's place away.
    list.setAttribute('aria-disabled', 'true');
    text(list, 'Asking …');
    try {
      lists = await get(`upstreams/${encodeURIComponent(name)}/lists`, stop.signal);
      say(`${name} lists ${count(lists.tools?.length, 'tool')}`);
    } catch (error) {
      if (shut) return;
      lists = { error: error.message, tools: detail?.tool_list };
    }
    list.removeAttribute('aria-disabled');
    text(list, 'List again');
    drawDetail();
  }
  async function fetchDetail() {
    clearTimeout(timer);
    due = Infinity;
    try {
      const now = await get(`upstreams/${encodeURIComponent(name)}`, stop.signal);
      if (shut) return;
      detail = now;
      if (!u) drawHead(now);
      drawDetail();
    } catch (error) {
      if (shut) return;
      if (!detail) { gone.hidden = false; text(gone, error.status === 404 ? `There is no upstream ${name} here.` : error.message); sections.hidden = true; }
    }
    asked = Date.now();
    due = 0;
    later(STALE);
  }
  /** Asks again in a while, or sooner if that was agreed already. */
  function later(wait) {
    const at = Math.max(Date.now() + wait, asked + FRESH);
    if (shut || (due && due <= at)) return;
    due = at;
    clearTimeout(timer);
    timer = setTimeout(() => (document.hidden ? ((due = 0), later(STALE)) : fetchDetail()), at - Date.now());
  }
  function drawHead(now) {
    put(state, [now.state, now.since], () => [badge(now.state), ' ', since(now.since)]);
    put(why, [now.reason, now.notice, now.next, now.tools, now.state, Math.ceil(now.retry_in_seconds ?? 0)], () => trouble(now));
    const { stderr, reason, notice, ...rest } = now;
    put(fact, rest, () => facts(now));
  }
  function drawDetail() {
    sections.hidden = false;
    gone.hidden = true;
    const d = detail ?? {};
    put(parts.connect, [d.connect, d.mounts], () => connect(d));
    put(parts.charts, d.minutes, () => (d.minutes?.length ? [chart.calls, chart.latency].map((draw) => draw(chart.hour(d.minutes))) : none('No figures yet.')));
    put(parts.tools, [d.tools, d.tool_list, lists], () => tools(d, lists));
    put(parts.clients, d.clients_list, () => clients(d.clients_list));
    put(parts.config, d.config, () => (d.config ? h('div', { class: 'snippet' }, h('pre', { tabindex: 0, role: 'region', 'aria-label': 'Its table in hub.toml, with every default' }, h('code', {}, d.config)), copies(d.config, 'the configuration')) : none('Nothing to show.')));
    const end = logs.scrollHeight - logs.scrollTop - logs.clientHeight < 24, log = d.log ?? (u?.stderr ?? []).map((line) => ({ line }));
    each(lines, keyed(log), (one) => one.key, ({ item }) => h('li', { class: item.kind === 'hub' && 'hub' }, item.time && hour(item.time), h('span', {}, item.line)));
    logs.hidden = !log.length;
    noLines.hidden = log.length > 0;
    if (end) logs.scrollTop = logs.scrollHeight;
    each(recent, keyed(d.recent).reverse(), (one) => one.key, ({ item }) => call(item));
    callsTable.hidden = !d.recent?.length;
    noCalls.hidden = !callsTable.hidden;
    each(timeline, keyed(d.timeline).reverse(), (one) => one.key, ({ item }) => h('li', {}, hour(item.time), h('strong', {}, item.event), h('span', {}, item.text)));
    timeline.parentNode.hidden = !d.timeline?.length;
    noEvents.hidden = !timeline.parentNode.hidden;
  }
  fetchDetail();
  return {
    node, title, name,
    draw(_, all) {
      const now = all.get(name);
      if (now === u) return;
      if (!now && u) { put(state, 'gone', () => h('span', { class: 'badge is-disabled' }, shape('disabled'), 'removed')); put(why, 'gone', () => h('p', { class: 'reason' }, 'It is not in hub.toml any more.')); sections.hidden = true; }
      else if (now) { if (!u && detail === null && asked) later(0); drawHead(now); if (detail) later(0); sections.hidden = false; }
      u = now ?? null;
    },
    /** Leads to a part of the page, once it is there. */
    at(part) { document.getElementById(`t-${part}`)?.scrollIntoView?.({ block: 'start' }); document.getElementById(`t-${part}`)?.focus({ preventScroll: true }); },
    close() { shut = true; clearTimeout(timer); stop.abort(); },
  };
}
