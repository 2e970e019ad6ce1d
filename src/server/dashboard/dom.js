// Elements made of text and attributes. Nothing on this page ever parses HTML: names, reasons and stderr are a stranger's.

const SVG = 'http://www.w3.org/2000/svg';

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === 'function') node.addEventListener(name, value);
    else node.setAttribute(name, value === true ? '' : value);
  }
  node.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

/** An element; a function among the attributes listens to the event of that name. */
export const h = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
export const s = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

/** Sets a text where it differs, so that what stays the same is neither painted nor read aloud again. */
export function text(node, value) {
  value = value === null || value === undefined ? '' : String(value);
  if (node.textContent !== value) node.textContent = value;
}

/** Puts children there if they differ in what they say; `key` is all they are made from. */
export function put(node, key, make) {
  const known = JSON.stringify(key) ?? '';
  if (node.known === known) return;
  node.known = known;
  node.replaceChildren(...[make()].flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
}

/** Shows a list: a child per item and key, made once, moved and removed as the list wants. */
export function each(parent, items, keyOf, make, show) {
  const nodes = (parent.nodes ??= new Map()), held = document.activeElement, wanted = new Set();
  let next = parent.firstChild;
  for (const item of items) {
    const key = keyOf(item);
    if (wanted.has(key)) continue;
    wanted.add(key);
    let node = nodes.get(key);
    if (!node) nodes.set(key, (node = make(item)));
    if (node === next) next = next.nextSibling;
    else parent.insertBefore(node, next);
    show?.(node, item);
  }
  for (const [key, node] of nodes) if (!wanted.has(key)) { nodes.delete(key); node.remove(); }
  if (held !== document.activeElement && held?.isConnected) held.focus({ preventScroll: true });
}

let hush;
/** Says something to those who listen to the page. */
export function say(what) {
  const said = document.getElementById('said');
  said.textContent = what;
  clearTimeout(hush);
  hush = setTimeout(() => (said.textContent = ''), 5_000);
}

/** Copies, also where the page is neither https nor on this machine and has no clipboard. */
async function copy(what) {
  if (navigator.clipboard) return navigator.clipboard.writeText(what);
  const held = document.activeElement, box = h('textarea', { class: 'unseen', readonly: true });
  box.value = what;
  document.body.append(box);
  box.select();
  const done = document.execCommand('copy');
  box.remove();
  held?.focus();
  if (!done) throw new Error('the browser did not copy');
}

/** A button that copies a text; `name` says which, for those who do not see where it stands. */
export function copies(what, name) {
  let back;
  const label = h('span', {}, 'Copy');
  return h('button', { type: 'button', class: 'copy', click: async () => {
    clearTimeout(back);
    try {
      await copy(what);
      text(label, 'Copied');
      say(`Copied ${name}`);
    } catch {
      text(label, 'Not copied');
      say(`${name} could not be copied`);
    }
    back = setTimeout(() => text(label, 'Copy'), 2_000);
  } }, label, h('span', { class: 'unseen' }, ` ${name}`));
}

/** Tabs as the ARIA practices have them: one stop for the keyboard, arrows, Home and End between them. */
export function tabs(name, items, chosen, show, choose) {
  const panel = h('div', { role: 'tabpanel', id: `${name}-panel`, tabindex: 0 });
  const all = items.map((item) => h('button', { type: 'button', role: 'tab', id: `${name}-${item.id}`, 'aria-controls': panel.id,
    click: () => pick(item.id) }, item.label));
  function pick(id) {
    const at = Math.max(0, items.findIndex((item) => item.id === id));
    all.forEach((tab, i) => { tab.setAttribute('aria-selected', i === at); tab.tabIndex = i === at ? 0 : -1; });
    panel.setAttribute('aria-labelledby', all[at].id);
    panel.replaceChildren(...show(items[at]));
    choose?.(items[at].id);
    return all[at];
  }
  const list = h('div', { role: 'tablist', class: 'tabs', keydown: (event) => {
    const at = all.indexOf(document.activeElement), last = all.length - 1;
    const to = { ArrowRight: at === last ? 0 : at + 1, ArrowLeft: at <= 0 ? last : at - 1, Home: 0, End: last }[event.key];
    if (to === undefined || at < 0) return;
    event.preventDefault();
    pick(items[to].id).focus();
  } }, all);
  pick(chosen);
  return { list, panel };
}
