// The Inspector's command line as client.      node inspector.mjs BASE_URL http|sse
import { spawn } from 'node:child_process';
import { SERVERS, expect, reporter } from './checks.mjs';

const [base, way] = process.argv.slice(2);
const name = `inspector-${way}`;
const { check, exit } = reporter(name);
const program = `${process.env.EXT_DIR}/tools/node_modules/.bin/mcp-inspector`;

function inspect(server, ...args) {
  const url = `${base}/${server}/${way === 'sse' ? 'sse' : 'mcp'}`;
  return new Promise((ok, no) => {
    const p = spawn(process.execPath, [program, '--cli', '--transport', way, '--server-url', url, '--format', 'json', '--quiet', ...args],
      { stdio: ['ignore', 'pipe', 'pipe'], timeout: 40_000, killSignal: 'SIGKILL' });
    let out = '', err = '';
    p.stdout.on('data', (d) => { out += d; }); p.stderr.on('data', (d) => { err += d; });
    p.on('error', no);
    p.on('close', (code) => {
      if (code !== 0) return no(new Error(`exit ${code}: ${err.slice(-300)}`));
      try { const v = JSON.parse(out); ok(v.result ?? v); } catch { no(new Error(`not JSON: ${out.slice(0, 200)}`)); }
    });
  });
}

for (const server of Object.keys(SERVERS)) {
  const s = SERVERS[server](name);
  const call = async (tool, args) => {
    const r = await inspect(server, '--method', 'tools/call', '--tool-name', tool, '--tool-args-json', JSON.stringify(args));
    expect(!r.isError, JSON.stringify(r).slice(0, 200));
    return r.content.map((c) => c.text ?? '').join('\n');
  };
  await check(server, 'tools/list', async () => {
    const names = (await inspect(server, '--method', 'tools/list')).tools.map((t) => t.name);
    for (const n of s.listed) expect(names.includes(n), `no tool ${n} among ${names}`);
    return `${names.length} tools`;
  }, 45_000);
  await check(server, s.what, async () => { await s.before?.(call); s.verify(await call(s.what, s.args)); }, 90_000);
}
exit();
