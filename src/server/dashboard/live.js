// What the hub tells as it happens: one event stream, read by fetch, because EventSource cannot send a token.

const WAIT_MIN = 500, WAIT_MAX = 15_000;
// The hub says something at least every so often; silence for longer is a connection that died without a word.
const SILENCE_MAX = 60_000;
// A page that nobody looks at gives its connection back: browsers have six of them for each address.
const HIDDEN_MAX = 30_000;
const EVENT_MAX = 8 << 20;
const KEY = 'hubward.token';

// Kept for this tab and until it closes, never in a URL, never in a cookie.
let token = sessionStorage.getItem(KEY);
export const hasToken = () => token !== null;
export function useToken(value) {
  token = value;
  if (value === null) sessionStorage.removeItem(KEY);
  else sessionStorage.setItem(KEY, value);
}

/** Why the hub did not answer what was asked; 401 is for the form, the rest is told. */
export class Refused extends Error {
  constructor(status, message) { super(message); this.status = status; }
}

async function ask(path, options) {
  const headers = { accept: 'application/json', ...options?.headers, ...(token !== null && { authorization: `Bearer ${token}` }) };
  const answer = await fetch(`api/v1/${path}`, { ...options, headers, cache: 'no-store' });
  if (answer.ok) return answer;
  const body = await answer.text().catch(() => '');
  let why = body.slice(0, 500);
  try { const parsed = JSON.parse(body); why = parsed.error?.message ?? parsed.error ?? why; } catch { /* then it is a text */ }
  throw new Refused(answer.status, String(why || `the hub answered ${answer.status}`));
}
export const get = async (path, signal) => (await ask(path, { signal })).json();

/** Reads an event stream to its end. */
async function read(body, hear, heard) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  for (let rest = '';;) {
    const { value, done } = await reader.read();
    if (done) return;
    heard();
    const parts = (rest + value).replaceAll('\r\n', '\n').split('\n\n');
    rest = parts.pop();
    if (rest.length > EVENT_MAX) throw new Error('an event without an end');
    for (const part of parts) {
      const lines = part.split('\n'), of = (name) => lines.filter((line) => line.startsWith(`${name}:`)).map((line) => line.slice(name.length + 1).replace(/^ /, ''));
      const data = of('data').join('\n');
      if (data) hear(of('event')[0] ?? 'message', JSON.parse(data));
    }
  }
}

/**
 * Follows the hub for as long as the page is there. `hear(event, data)` gets what it says, `tell(state)` how we stand:
 * connecting, live, lost (with `why` and `wait`), closed (the hub wants to know who asks), paused.
 */
export function follow(hear, tell) {
  let own, timer, quiet, away, shut = false, tries = 0;
  const again = (why) => {
    const wait = Math.min(WAIT_MAX, WAIT_MIN * 2 ** tries++) * (0.8 + Math.random() * 0.4);
    tell({ is: 'lost', why, until: Date.now() + wait });
    timer = setTimeout(open, wait);
  };
  const stop = () => { clearTimeout(timer); clearTimeout(quiet); own?.abort(); own = null; };
  async function open() {
    stop();
    shut = false;
    const mine = (own = new AbortController());
    const heard = () => {
      clearTimeout(quiet);
      quiet = setTimeout(() => { if (own === mine) { stop(); again('the hub went silent'); } }, SILENCE_MAX);
    };
    tell({ is: 'connecting' });
    heard();
    let why = 'the hub ended the stream';
    try {
      const answer = await ask('events', { headers: { accept: 'text/event-stream' }, signal: mine.signal });
      await read(answer.body, (event, data) => {
        if (own !== mine) return;
        if (event === 'settled') { tries = 0; tell({ is: 'live' }); }
        hear(event, data);
      }, heard);
    } catch (error) {
      if (own !== mine) return;
      if (error instanceof Refused && error.status === 401) { stop(); shut = true; return tell({ is: 'closed', why: error.message }); }
      why = error instanceof Refused ? error.message : 'the hub does not answer';
    }
    if (own === mine) { stop(); again(why); }
  }
  document.addEventListener('visibilitychange', () => {
    clearTimeout(away);
    if (document.hidden) away = setTimeout(() => { if (!shut) { stop(); tell({ is: 'paused' }); } }, HIDDEN_MAX);
    else if (!own && !shut) open();
  });
  addEventListener('online', () => { tries = 0; if (!own && !shut) open(); });
  open();
  return { open: () => { tries = 0; open(); }, stop };
}
