// How things are said: states with their shapes, durations, times and numbers.
import { h, s, text } from './dom.js';

/** What each state means to a person; `heed`: somebody should look. */
export const STATES = {
  failed: { word: 'failed', heed: true },
  needs_auth: { word: 'needs login', heed: true },
  waiting: { word: 'waiting', heed: true },
  starting: { word: 'starting' },
  ready: { word: 'ready' },
  idle: { word: 'idle' },
  retiring: { word: 'retiring' },
  disabled: { word: 'disabled' },
};
export const ORDER = Object.keys(STATES);
export const heeds = (upstream) => Boolean(STATES[upstream.state]?.heed || upstream.notice || upstream.tools?.withheld?.length || upstream.tools?.trouble);

// One shape per state, so that colour is never the only difference.
const SHAPES = {
  ready: () => [s('circle', { cx: 8, cy: 8, r: 5.5, class: 'solid' })],
  idle: () => [s('circle', { cx: 8, cy: 8, r: 4.8 })],
  starting: () => [s('circle', { cx: 8, cy: 8, r: 4.8, class: 'faint' }), s('path', { d: 'M8 3.200a4.800 4.800 0 0 1 4.800 4.800', class: 'turns' })],
  waiting: () => [s('circle', { cx: 8, cy: 8, r: 5.6 }), s('path', { d: 'M8 4.800V8l2.200 1.600' })],
  failed: () => [s('path', { d: 'M8 1.800 14.800 13.800H1.200Z', class: 'solid' }), s('path', { d: 'M8 6.200v3.400M8 11.700v.01', class: 'cut' })],
  needs_auth: () => [s('rect', { x: 3, y: 7, width: 10, height: 7, rx: 1.5, class: 'solid' }), s('path', { d: 'M5.200 7V5a2.800 2.800 0 0 1 5.600 0v2' })],
  disabled: () => [s('circle', { cx: 8, cy: 8, r: 5 }), s('path', { d: 'M4.500 11.500l7-7' })],
  retiring: () => [s('path', { d: 'M8 2.500v8M4.500 7.500 8 11l3.500-3.500M3.500 13.500h9' })],
};

export const shape = (state) =>
  s('svg', { viewBox: '0 0 16 16', width: 16, height: 16, class: 'shape', 'aria-hidden': 'true', focusable: 'false' }, (SHAPES[state] ?? SHAPES.idle)());

/** A state as it is shown everywhere: shape, then word. */
export const badge = (state) => h('span', { class: `badge is-${state in STATES ? state : 'idle'}` }, shape(state), STATES[state]?.word ?? String(state));

const UNITS = [[86_400, 'd'], [3_600, 'h'], [60, 'min'], [1, 's']];
export function span(seconds) {
  if (!Number.isFinite(seconds)) return '–';
  const [size, unit] = UNITS.find(([size]) => seconds >= size) ?? UNITS[3];
  return `${Math.max(0, Math.floor(seconds / size))} ${unit}`;
}

let ahead = 0;
/** How far the hub's clock is ahead of ours; its times are told by its own. */
export const clock = (now) => { if (Date.parse(now)) ahead = Date.parse(now) - Date.now(); };
export const age = (time) => Math.max(0, (Date.now() + ahead - Date.parse(time)) / 1000);

/** A time as its distance from now, kept true by `tick`; `form` puts it into words. */
export function since(time, form = 'for') {
  if (!Date.parse(time)) return null;
  const node = h('time', { datetime: time, title: new Date(time).toLocaleString(), 'data-form': form });
  tell(node);
  return node;
}
function tell(node) {
  const { form } = node.dataset, left = Math.ceil((Date.parse(node.dateTime) - Date.now() - ahead) / 1000), gone = form === 'in' ? '' : span(age(node.dateTime));
  text(node, form === 'in' ? (left > 0 ? `in ${span(left)}` : 'now') : form === 'ago' ? `${gone} ago` : form === 'for' ? `for ${gone}` : gone);
}
/** When something is due, counted down. */
export const due = (seconds) => since(new Date(Date.now() + ahead + seconds * 1000).toISOString(), 'in');
setInterval(() => document.querySelectorAll('time[data-form]').forEach(tell), 1_000);

/** A time of day; with the day where that is another one. */
export function hour(time) {
  const at = new Date(time);
  if (!Date.parse(time)) return h('span', {}, '–');
  const day = age(time) > 64_800 ? `${at.toLocaleDateString('en', { day: 'numeric', month: 'short' })}, ` : '';
  return h('time', { datetime: time, title: at.toLocaleString() }, day + at.toLocaleTimeString('en', { hour12: false, hourCycle: 'h23' }));
}

const few = new Intl.NumberFormat('en', { maximumFractionDigits: 1 });
const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
export const number = (value) => (Number.isFinite(value) ? few.format(value) : '–');
export const percent = (value) => (Number.isFinite(value) ? `${few.format(value)} %` : '–');
export function ms(value) {
  if (!Number.isFinite(value)) return '–';
  return value >= 1000 ? `${few.format(value / 1000)} s` : `${value >= 10 ? whole.format(value) : few.format(value)} ms`;
}
export function bytes(value) {
  if (!Number.isFinite(value)) return '–';
  return value >= 1 << 20 ? `${few.format(value / (1 << 20))} MiB` : value >= 1 << 10 ? `${few.format(value / (1 << 10))} KiB` : `${value} B`;
}
export const count = (n, one, many = `${one}s`) => `${whole.format(n ?? 0)} ${n === 1 ? one : many}`;
export const plain = (parts, by = ' · ') => parts.filter(Boolean).join(by);
