// The page: which view the address names, how the connection stands, and who may look.
import { h, put, say, text } from './dom.js';
import { follow, hasToken, useToken } from './live.js';
import { alerts, overview } from './overview.js';
import { upstream } from './upstream.js';
import { STATES, clock, heeds } from './words.js';

const $ = (id) => document.getElementById(id);
const main = $('main'), beat = $('beat'), forget = $('forget');
// Words for those who listen come together, and not more often than this.
const HUSH = 1_000;

let hub = null, view = null, frame = 0, whole = true, fresh = null, link = { is: 'connecting' };
const all = new Map(), changed = new Set(), news = new Map();
const alert = h('div', { class: 'alerts' }), place = h('div');
const list = overview();

/* What the hub tells. */
function hear(event, data) {
  if (event === 'hub') { hub = data; clock(data.now); }
  else if (event === 'upstream') {
    const before = all.get(data.name);
    all.set(data.name, data);
    fresh?.add(data.name);
    changed.add(data.name);
    whole ||= !before;
    if (before && before.state !== data.state && !fresh) heard(data.name, plainly(data));
  } else if (event === 'gone') {
    if (all.delete(data.name)) heard(data.name, `${data.name} was removed`);
    whole = true;
  } else if (event === 'settled') {
    // Who was not named again is not there any more.
    if (fresh) for (const name of all.keys()) if (!fresh.has(name)) all.delete(name);
    fresh = null;
    whole = true;
  }
  // Until all is told, what was known stays as it was.
  if (!fresh) frame ||= requestAnimationFrame(draw);
}
const plainly = (u) => `${u.name} is ${STATES[u.state]?.word ?? u.state}${u.reason ? `: ${u.reason.slice(0, 120)}` : ''}`;
let quiet;
function heard(name, what) {
  news.set(name, what);
  quiet ??= setTimeout(() => {
    quiet = undefined;
    say(news.size > 3 ? `${news.size} upstreams changed their state` : [...news.values()].join('. '));
    news.clear();
  }, HUSH);
}

function draw() {
  frame = 0;
  alerts(alert, hub);
  view.draw(hub, all, whole ? null : changed);
  // Rows are brought up to date when they are looked at again.
  whole = view !== list;
  changed.clear();
  const heed = [...all.values()].filter(heeds).length;
  document.title = `${heed ? `(${heed}) ` : ''}${view === list ? 'hubward' : `${view.name} – hubward`}`;
  text($('foot'), hub?.version ? `hubward ${hub.version}` : '');
}

/* Which view. */
function route(event) {
  const parts = location.hash.replace(/^#\/?/, '').split('/');
  let name = parts[0];
  try { name = decodeURIComponent(name); } catch { /* as it is */ }
  if (name && view?.name === name) return parts[1] && view.at(parts[1]);
  if (!name && view === list) return;
  view?.close?.();
  view = name ? upstream(name) : list;
  place.replaceChildren(view.node);
  whole = true;
  draw();
  if (!event) return;
  scrollTo(0, 0);
  if (parts[1]) view.at(parts[1]);
  else view.title.focus({ preventScroll: true });
}

/* How the connection stands. */
const WORDS = { connecting: 'Connecting …', live: 'Live', paused: 'Paused', closed: 'Not let in' };
let counting;
function tell(now) {
  const before = link;
  // While it is tried again, it is still lost.
  link = now.is === 'connecting' && before.is === 'lost' ? { ...before, trying: true } : now;
  if (link.is === 'live' && before.is === 'lost') say('Connected again');
  if (now.is === 'connecting') fresh = new Set();
  clearInterval(counting);
  counting = link.is === 'lost' && !link.trying ? setInterval(standing, 1_000) : undefined;
  standing();
  forget.hidden = !hasToken();
  if (link.is === 'closed') door(link.why);
  else if (!place.isConnected) { main.replaceChildren(alert, place); view.draw(hub, all); }
}
function standing() {
  const left = Math.max(0, Math.ceil((link.until - Date.now()) / 1_000));
  beat.className = `beat ${link.is}`;
  put(beat, [link.is, link.why, link.trying], () => [h('span', { class: 'dot', 'aria-hidden': 'true' }), h('span', {}, link.is === 'lost' ? `Not connected: ${link.why}.` : WORDS[link.is]),
    link.is === 'lost' && h('span', { class: 'left', 'aria-hidden': 'true' }), link.is === 'lost' && h('button', { type: 'button', class: 'quiet', click: () => line.open() }, 'Try now')]);
  const wait = beat.querySelector('.left');
  if (wait) text(wait, link.trying ? 'Trying …' : `Next try in ${left} s`);
}

/* Who may look. */
function door(why) {
  const had = hasToken();
  hub = null;
  all.clear();
  draw();
  const field = h('input', { type: 'password', id: 'token', autocomplete: 'off', spellcheck: 'false', required: true, 'aria-describedby': 'token-why' });
  const form = h('form', { class: 'door', submit: (event) => {
    event.preventDefault();
    useToken(field.value.trim().replace(/^bearer\s+/i, ''));
    line.open();
  } }, h('h1', { tabindex: -1 }, 'Who is asking?'),
    h('p', { id: 'token-why' }, 'This hub answers only those it knows. Paste a token: it stays in this tab, until you close it, and is sent in a header, never in an address.'),
    had && why && h('p', { class: 'reason', role: 'alert' }, `That token was not taken: ${why}.`),
    h('label', { for: 'token' }, 'Token'), h('div', { class: 'beside' }, field, h('button', { type: 'submit', class: 'button' }, 'Look')),
    h('p', { class: 'soft' }, h('code', {}, 'hubward token new NAME'), ' makes one, where the hub runs.'));
  useToken(null);
  forget.hidden = true;
  main.replaceChildren(form);
  field.focus();
}

forget.addEventListener('click', () => { useToken(null); line.open(); });
$('skip').addEventListener('click', (event) => { event.preventDefault(); main.focus(); });
addEventListener('hashchange', route);
addEventListener('keydown', (event) => {
  if (event.key !== '/' || event.ctrlKey || event.metaKey || event.altKey || event.target.closest('input, textarea') || view !== list) return;
  event.preventDefault();
  list.focusFilter();
});

main.replaceChildren(alert, place);
route();
const line = follow(hear, tell);
