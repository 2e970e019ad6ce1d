// All upstreams at once: one sentence, what went wrong with the file, and a row each, of which only changed ones are drawn.
import { copies, each, h, put, text } from './dom.js';
import { ORDER, STATES, badge, count, due, heeds, ms, number, percent, plain, shape, since } from './words.js';

const CERTIFICATE_DAYS = 30;

/** The certificate, in words that turn urgent. */
const ends = ({ days_left: left, error }) =>
  error ? 'its renewal failed' : left < 0 ? 'has expired' : left === 0 ? 'expires today' : `expires in ${count(left, 'day')}`;

/** What is wrong with the hub itself, whichever page is looked at. */
export function alerts(box, hub) {
  const bad = (hub?.certificates ?? []).filter((one) => one.error || one.days_left <= CERTIFICATE_DAYS);
  put(box, [hub?.reload?.rejected, hub?.reload?.generation, bad, hub?.draining], () => [
    hub?.draining && h('p', { class: 'alert' }, shape('retiring'), h('span', {}, h('strong', {}, 'The hub is shutting down.'), ' It finishes what is under way.')),
    hub?.reload?.rejected && h('section', { class: 'alert bad', 'aria-labelledby': 'rejected' }, shape('failed'), h('div', {},
      h('h2', { id: 'rejected' }, 'The last edit of hub.toml was rejected'),
      h('p', {}, `Generation ${hub.reload.generation} runs on as if nothing had happened. Mend the file and save it.`),
      h('pre', { tabindex: 0, role: 'region', 'aria-label': 'What is wrong with hub.toml' }, hub.reload.rejected))),
    bad.map((one) => h('p', { class: 'alert' }, shape('waiting'), h('span', {}, h('strong', {}, `The certificate of ${(one.names ?? []).join(', ')} ${ends(one)}.`),
      one.error && ` ${one.error}`))),
  ]);
}

const COLUMNS = [
  { id: 'name', label: 'Upstream', of: (u) => u.name },
  { id: 'state', label: 'State', of: (u) => ORDER.indexOf(u.state) },
  { id: 'clients', label: 'Clients', of: (u) => -clients(u), number: true },
  { id: 'flight', label: 'In flight', of: (u) => -(u.in_flight ?? 0), number: true },
  { id: 'rate', label: 'Calls/min', of: (u) => -(u.calls_per_minute ?? -1), number: true },
  { id: 'time', label: 'p50 / p95', of: (u) => -(u.p95_ms ?? -1), number: true },
  { id: 'errors', label: 'Errors', of: (u) => -(u.error_percent ?? -1), number: true },
  { id: 'restarts', label: 'Restarts', of: (u) => -(u.restarts ?? 0), number: true },
];
const clients = (u) => (u.clients ? (u.clients.legacy ?? 0) + (u.clients.modern ?? 0) : (u.sessions ?? 0));
const eras = (u) => plain([u.clients?.legacy && `${u.clients.legacy} legacy`, u.clients?.modern && `${u.clients.modern} modern`], '\n');

// In these a reason is one of the past.
const CALM = ['ready', 'idle'];
/** The reason in one line, and what to type next. */
export function trouble(u) {
  const pins = u.tools?.withheld?.length, drift = u.tools?.changed?.length;
  return [
    u.reason && (CALM.includes(u.state) ? h('p', { class: 'soft' }, `last trouble: ${u.reason}`) : h('p', { class: 'reason' }, u.reason)),
    u.retry_in_seconds > 0 && u.state === 'waiting' && h('p', { class: 'soft' }, 'next try ', due(u.retry_in_seconds)),
    u.notice && h('p', { class: 'reason' }, u.notice),
    u.tools?.trouble && h('p', { class: 'reason' }, u.tools.trouble),
    pins ? h('p', { class: 'reason' }, `${count(pins, 'tool')} withheld until somebody accepts the change`)
      : drift ? h('p', { class: 'soft' }, `${count(drift, 'tool')} changed since they were first seen`) : null,
    u.next && h('p', { class: 'next' }, h('code', {}, u.next), copies(u.next, `the command ${u.next}`)),
  ];
}

function row(u) {
  const cell = (id, attributes, ...children) => h('td', { role: 'cell', class: `c-${id}`, 'data-label': COLUMNS.find((c) => c.id === id)?.label, ...attributes }, children);
  const parts = {};
  const keep = (name, node) => (parts[name] = node);
  const node = h('tr', { role: 'row' },
    h('th', { role: 'rowheader', scope: 'row', class: 'c-name' },
      h('a', { href: `#/${encodeURIComponent(u.name)}`, class: 'name' }, u.name), keep('kind', h('span', { class: 'soft' }))),
    cell('state', {}, keep('state', h('div', { class: 'state' })), keep('why', h('div', { class: 'why' }))),
    ...COLUMNS.filter((column) => column.number).map(({ id }) => cell(id, {}, keep(id, h('span')), keep(`${id}2`, h('span', { class: 'soft' })))),
    h('td', { role: 'cell', class: 'c-go' }, h('a', { href: `#/${encodeURIComponent(u.name)}/connect`, class: 'go', 'aria-label': `Connect a client to ${u.name}` }, 'Connect')));
  node.parts = parts;
  return node;
}

function show(node, u) {
  if (node.shown === u) return;
  node.shown = u;
  const { parts } = node;
  node.classList.toggle('heed', heeds(u));
  text(parts.kind, plain([u.kind, plain([u.revision, u.era], ' ')]));
  put(parts.state, [u.state, u.since], () => [badge(u.state), ' ', since(u.since)]);
  put(parts.why, [u.reason, u.notice, u.next, u.tools?.withheld, u.tools?.changed?.length, u.tools?.trouble, u.state, Math.ceil(u.retry_in_seconds ?? 0)], () => trouble(u));
  figure(parts.clients, clients(u));
  text(parts.clients2, eras(u));
  figure(parts.flight, u.in_flight ?? 0);
  figure(parts.rate, number(u.calls_per_minute));
  text(parts.rate2, u.calls ? `of ${number(u.calls)}` : '');
  figure(parts.time, Number.isFinite(u.p50_ms) ? `${ms(u.p50_ms)} / ${ms(u.p95_ms)}` : '–');
  figure(parts.errors, percent(u.error_percent));
  text(parts.errors2, u.errors ? `${number(u.errors)} unanswered` : '');
  figure(parts.restarts, u.restarts ?? 0);
}
/** A number; what is nothing steps back. */
function figure(node, value) {
  text(node, value);
  node.classList.toggle('nil', ['0', '–', '0 %'].includes(String(value)));
}

/** The page of all upstreams. `draw(hub, upstreams)` brings it up to date. */
export function overview() {
  let sort = { id: 'name', turned: false }, only = null, hub = null, all = new Map();
  const title = h('h1', { tabindex: -1 }), facts = h('dl', { class: 'facts' }), chips = h('div', { class: 'chips', role: 'group', 'aria-label': 'Show only upstreams that are' });
  const filter = h('input', { type: 'search', id: 'filter', placeholder: 'Filter', 'aria-label': 'Filter upstreams by name, kind, state or reason', autocomplete: 'off', spellcheck: 'false', input: () => list() });
  const body = h('tbody', { role: 'rowgroup' }), none = h('p', { class: 'none', hidden: true });
  const heads = COLUMNS.map((column) => h('th', { role: 'columnheader', scope: 'col', class: `c-${column.id}` },
    h('button', { type: 'button', click: () => { sort = { id: column.id, turned: sort.id === column.id && !sort.turned }; list(); } }, column.label)));
  const table = h('table', { role: 'table', class: 'all' }, h('caption', { class: 'unseen' }, 'Upstreams'),
    h('thead', { role: 'rowgroup' }, h('tr', { role: 'row' }, heads, h('th', { role: 'columnheader', scope: 'col', class: 'c-go' }, h('span', { class: 'unseen' }, 'Connect')))), body);
  const node = h('div', {}, title, facts, h('div', { class: 'bar' }, chips, filter), table, none);

  function headline() {
    const heed = [...all.values()].filter(heeds).length, of = all.size;
    if (!hub) return 'Asking the hub …';
    if (of === 0) return 'No upstream yet';
    if (heed) return `${heed} of ${count(of, 'upstream')} ${heed === 1 ? 'needs' : 'need'} attention`;
    return of === 1 ? 'The one upstream is well' : `All ${of} upstreams are well`;
  }
  function chipsOf() {
    const counts = new Map();
    for (const u of all.values()) counts.set(u.state, (counts.get(u.state) ?? 0) + 1);
    const shown = [...new Set([...ORDER, ...counts.keys()])].filter((state) => counts.has(state));
    if (only && !counts.has(only)) only = null;
    each(chips, shown, (state) => state, (state) => h('button', { type: 'button', class: `chip is-${state}`, click: () => { only = only === state ? null : state; list(); } },
      h('span', { class: 'n' }), shape(state), h('span', {}, STATES[state]?.word ?? state)), (chip, state) => {
      text(chip.querySelector('.n'), counts.get(state));
      chip.setAttribute('aria-pressed', String(only === state));
    });
  }
  /** Which rows, in which order; and each as it is now. */
  function list() {
    chipsOf();
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    const fits = (u) => (!only || u.state === only) && words.every((word) => `${u.name} ${u.kind} ${u.state} ${STATES[u.state]?.word} ${u.reason ?? ''} ${u.server?.name ?? ''} ${u.revision ?? ''} ${u.era ?? ''}`.toLowerCase().includes(word));
    const { of } = COLUMNS.find((column) => column.id === sort.id), sign = sort.turned ? -1 : 1;
    const compare = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
    const rows = [...all.values()].filter(fits).sort((a, b) => sign * compare(of(a), of(b)) || compare(a.name, b.name));
    heads.forEach((head, i) => COLUMNS[i].id === sort.id ? head.setAttribute('aria-sort', sort.turned ? 'descending' : 'ascending') : head.removeAttribute('aria-sort'));
    each(body, rows, (u) => u.name, row, show);
    table.hidden = rows.length === 0;
    none.hidden = rows.length > 0 || !hub;
    text(none, all.size ? 'No upstream is like that.' : 'Append a table [upstreams.NAME] to hub.toml and save: it appears here within a second.');
  }
  function told() {
    const r = hub.reload ?? {}, fact = (name, ...value) => h('div', {}, h('dt', {}, name), h('dd', {}, value));
    put(facts, [r, hub.started, hub.listeners, hub.sessions, hub.streams, hub.certificates, hub.tunnel, hub.supervisor_panics], () => [
      fact('Generation', `${r.generation ?? 0}`, r.applied && [', ', since(r.applied, 'ago')], r.plan && h('span', { class: 'soft' }, r.plan)),
      fact('Up', since(hub.started, 'only') ?? '–'),
      fact('Listens at', (hub.listeners ?? []).map((at, i) => [i > 0 && h('br'), at])),
      fact('Sessions', number(hub.sessions), h('span', { class: 'soft' }, count(hub.streams, 'open stream'))),
      hub.tunnel && fact('Tunnel', hub.tunnel.url ?? hub.tunnel.state, h('span', { class: 'soft' }, hub.tunnel.error)),
      (hub.certificates ?? []).map((one) => fact('Certificate', (one.names ?? []).join(', '), h('span', { class: 'soft' }, ends(one)))),
      hub.supervisor_panics > 0 && fact('Supervisor panics', number(hub.supervisor_panics)),
    ]);
  }
  return {
    node, title,
    /** `changed`: the only upstreams that are different, where their set and places are as before. */
    draw(nowHub, nowAll, changed) {
      hub = nowHub;
      all = nowAll;
      text(title, headline());
      if (hub) told();
      if (!changed || sort.id !== 'name' || only || filter.value) return list();
      chipsOf();
      for (const name of changed) { const there = body.nodes?.get(name); if (there) show(there, all.get(name)); }
    },
    focusFilter() { filter.focus(); },
  };
}
