// A user's browser, without the user: follows redirects with cookies and submits whatever form it gets.
//   node browser.mjs URL      prints the address and status of the last page; exit 1 when that is no success
let url = process.argv[2], method = 'GET', body;
const jar = new Map();               // one host name, several ports: cookies do not know ports either
const ENTITIES = { '&quot;': '"', '&#39;': "'", '&lt;': '<', '&gt;': '>', '&amp;': '&' };
const decode = (s) => s.replace(/&(quot|#39|lt|gt|amp);/g, (entity) => ENTITIES[entity]);
const attribute = (tag, name) => decode(new RegExp(`\\b${name}\\s*=\\s*"([^"]*)"`, 'i').exec(tag)?.[1] ?? '');
for (let page = 0; page < 25; page++) {
  const headers = { cookie: [...jar].map(([k, v]) => `${k}=${v}`).join('; ') };
  if (body) headers['content-type'] = 'application/x-www-form-urlencoded';
  const answer = await fetch(url, { method, body, headers, redirect: 'manual', signal: AbortSignal.timeout(20_000) });
  for (const line of answer.headers.getSetCookie()) {
    const [, name, value] = /^([^=]+)=([^;]*)/.exec(line);
    if (value) jar.set(name, value); else jar.delete(name);
  }
  const text = await answer.text(), next = answer.headers.get('location');
  const form = answer.ok && /<form\b[^>]*\bmethod="post"[^>]*>[\s\S]*?<\/form>/i.exec(text)?.[0];
  if (next) { url = new URL(next, url).href; method = 'GET'; body = undefined; continue; }
  if (form) {
    const inputs = [...form.matchAll(/<input\b[^>]*>/gi)].map(([tag]) => tag);
    const fields = inputs.map((tag) => [attribute(tag, 'name'), attribute(tag, 'value')]);
    url = new URL(attribute(form, 'action') || url, url).href;
    method = 'POST'; body = new URLSearchParams(fields.filter(([name]) => name)).toString();
    continue;
  }
  const words = text.replace(/<[^>]*>/g, ' ').replace(/\s+/g, ' ').trim();
  console.log(`${answer.status} ${url.replace(/[?#].*/, '')} ${words.slice(0, 200)}`);
  process.exit(answer.ok ? 0 : 1);
}
console.log('too many pages');
process.exit(1);
