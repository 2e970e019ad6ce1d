// Two small charts of the last hour, drawn by hand: each says in words what it shows.
import { h, s } from './dom.js';
import { count, ms, number } from './words.js';

const WIDE = 600, HIGH = 110, MINUTES = 60;

/** A whole hour, also of a hub that is younger. */
export const hour = (minutes) => [...Array.from({ length: Math.max(0, MINUTES - minutes.length) }, () => ({})), ...minutes].slice(-MINUTES);

function frame(title, says, legend, drawing) {
  return h('figure', { class: 'chart' }, h('figcaption', {}, h('strong', {}, title), h('span', { class: 'legend' }, legend)),
    s('svg', { viewBox: `0 0 ${WIDE} ${HIGH}`, preserveAspectRatio: 'none', role: 'img', 'aria-label': says }, drawing),
    h('div', { class: 'axis', 'aria-hidden': 'true' }, h('span', {}, '1 h ago'), h('span', {}, 'now')));
}
const mark = (kind, word) => h('span', { class: `mark ${kind}` }, s('svg', { viewBox: '0 0 18 10', width: 18, height: 10, 'aria-hidden': 'true' },
  kind === 'calls' || kind === 'errors' ? s('rect', { x: 5, y: 1, width: 8, height: 8, class: kind }) : s('path', { d: 'M0 5h18', class: kind })), word);
const when = (at, of) => (of - 1 - at === 0 ? 'this minute' : `${of - 1 - at} min ago`);

/** Calls upwards, errors downwards: they differ by more than their colour. */
export function calls(minutes) {
  const most = Math.max(1, ...minutes.map((m) => m.calls ?? 0)), bad = Math.max(0, ...minutes.map((m) => m.errors ?? 0));
  const all = minutes.reduce((sum, m) => sum + (m.calls ?? 0), 0), errors = minutes.reduce((sum, m) => sum + (m.errors ?? 0), 0);
  const floor = bad ? HIGH * 0.72 : HIGH - 2, width = WIDE / Math.max(1, minutes.length), depth = HIGH - floor - 3;
  const bar = (m, i) => s('g', {}, s('title', {}, `${when(i, minutes.length)}: ${count(m.calls ?? 0, 'call')}, ${count(m.errors ?? 0, 'error')}`),
    s('rect', { x: i * width, y: 0, width, height: HIGH, class: 'touch' }),
    m.calls > 0 && s('rect', { x: i * width + 1, width: width - 2, height: Math.max(2, (m.calls / most) * (floor - 4)), y: floor - Math.max(2, (m.calls / most) * (floor - 4)), class: 'calls' }),
    m.errors > 0 && s('rect', { x: i * width + 1, width: width - 2, height: Math.max(3, (m.errors / Math.max(bad, 1)) * depth), y: floor + 2, class: 'errors' }));
  return frame('Calls per minute', `Calls in the last hour: ${number(all)}, at most ${number(most)} in a minute; ${count(errors, 'error')}.`,
    [mark('calls', `calls, at most ${number(all ? most : 0)}`), mark('errors', count(errors, 'error'))],
    [s('path', { d: `M0 ${floor}H${WIDE}`, class: 'floor' }), minutes.map(bar)]);
}

/** The median as a line, the 95th percentile dashed above it. */
export function latency(minutes) {
  const top = Math.max(1, ...minutes.map((m) => m.p95_ms ?? m.p50_ms ?? 0)), width = WIDE / Math.max(1, minutes.length);
  const known = minutes.filter((m) => Number.isFinite(m.p50_ms));
  const point = (value, i) => `${(i * width + width / 2).toFixed(1)} ${(HIGH - 3 - (value / top) * (HIGH - 10)).toFixed(1)}`;
  // A minute without calls interrupts the line; one alone is drawn as a short dash.
  const line = (of) => minutes.reduce((path, m, i) => {
    if (!Number.isFinite(of(m))) return path;
    const before = i > 0 && Number.isFinite(of(minutes[i - 1]));
    return `${path}${before ? 'L' : 'M'}${point(of(m), i)}${before ? '' : 'h2'}`;
  }, '');
  const last = known.at(-1), says = last ? `The last minute with calls: median ${ms(last.p50_ms)}, 95th percentile ${ms(last.p95_ms)}; the most in the last hour was ${ms(top)}.` : 'No calls in the last hour.';
  return frame('Latency', says, [mark('p50', `p50 ${ms(last?.p50_ms)}`), mark('p95', `p95 ${ms(last?.p95_ms)}`)], [
    s('path', { d: `M0 ${HIGH - 1}H${WIDE}`, class: 'floor' }),
    s('path', { d: line((m) => m.p95_ms) || 'M0 0', class: 'p95' }), s('path', { d: line((m) => m.p50_ms) || 'M0 0', class: 'p50' }),
    minutes.map((m, i) => s('g', {}, s('title', {}, `${when(i, minutes.length)}: ${Number.isFinite(m.p50_ms) ? `p50 ${ms(m.p50_ms)}, p95 ${ms(m.p95_ms)}` : 'no calls'}`),
      s('rect', { x: i * width, y: 0, width, height: HIGH, class: 'touch' }))),
  ]);
}
