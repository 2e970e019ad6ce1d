#!/usr/bin/env node
// Test server of revision 2026-07-28 with the extension io.modelcontextprotocol/tasks (SEP-2663) and every tool that
// the tasks-* scenarios of the conformance suite call. By hand, because the SDK has no such tasks.
//   node tasks-stdio-server.mjs              stdio (what a hub mounts)
//   node tasks-stdio-server.mjs --http PORT  the same server straight over HTTP (the ceiling)
import { createServer } from 'node:http';
import { createInterface } from 'node:readline';
import { randomUUID } from 'node:crypto';

const REVISION = '2026-07-28', NS = 'io.modelcontextprotocol/', TASKS = NS + 'tasks';
const OVER = ['completed', 'failed', 'cancelled'];
const tasks = new Map(), listens = new Map();
const sleep = (ms, signal) => new Promise((ok) => { const t = setTimeout(ok, ms); signal?.addEventListener('abort', () => { clearTimeout(t); ok(); }); });
const text = (s, isError) => ({ content: [{ type: 'text', text: String(s) }], ...(isError ? { isError } : {}) });
class Refused extends Error { constructor(code, message, data) { super(message); Object.assign(this, { code, data }); } }
const ask = (message, field, type) => ({ method: 'elicitation/create', params: { mode: 'form', message,
  requestedSchema: { type: 'object', properties: { [field]: { type } }, required: [field] } } });

// A tool's function gets its arguments and the task it runs as (none when it runs at once).
const wait = async ({ seconds = 0, label = '' }, task) => { await sleep(seconds * 1000, task?.stop.signal); return text(`computed ${label} in ${seconds} s`); };
const tools = {
  greet: { never: true, args: { name: 'string' }, run: ({ name }) => text(`Hello, ${name}!`) },
  slow_compute: { args: { seconds: 'number', label: 'string' }, run: wait },
  failing_job: { only: true, run: async (_a, task) => { await sleep(1000, task.stop.signal); return text('the job failed', true); } },
  protocol_error_job: { only: true, run: async (_a, task) => { await sleep(100, task.stop.signal); throw new Refused(-32603, 'the job broke'); } },
  confirm_delete: { only: true, args: { filename: 'string' }, run: async ({ filename }, task) => {
    const { answer } = await task.ask({ answer: ask(`Delete ${filename}?`, 'confirm', 'boolean') });
    return text(answer.content?.confirm ? `deleted ${filename}` : `kept ${filename}`);
  } },
  multi_input: { only: true, run: async (_a, task) => {
    const { one, two } = await task.ask({ one: ask('First name?', 'name', 'string'), two: ask('Second name?', 'name', 'string') });
    return text(`${one.content?.name} and ${two.content?.name}`);
  } },
  // Asks first, as any call may, and becomes a task once it has the answer.
  test_tool_with_task: { only: true, first: ({ inputResponses }) => inputResponses?.user_name?.content?.name ? undefined
    : { resultType: 'input_required', inputRequests: { user_name: ask('What is your name?', 'name', 'string') }, requestState: 'asked-for-the-name' },
  run: async (_a, task) => { await sleep(100, task.stop.signal); return text(`Hello, ${task.params.inputResponses.user_name.content.name}!`); } },
};

const shown = ({ taskId, status, createdAt, lastUpdatedAt, ttlMs, pollIntervalMs }) => ({ taskId, status, createdAt, lastUpdatedAt, ttlMs, pollIntervalMs });
const detailed = (t) => ({ ...shown(t),
  ...(t.status === 'completed' ? { result: t.result } : t.status === 'failed' ? { error: t.error } : t.status === 'input_required' ? { inputRequests: t.pending } : {}) });
function move(task, status, more) {
  if (OVER.includes(task.status)) return;
  Object.assign(task, { status, lastUpdatedAt: new Date().toISOString() }, more);
  for (const l of listens.values()) if (l.taskIds.includes(task.taskId)) l.notify('notifications/tasks', detailed(task));
}
function start(tool, params) {
  const now = new Date().toISOString();
  const task = { taskId: randomUUID(), status: 'working', createdAt: now, lastUpdatedAt: now, ttlMs: 300_000, pollIntervalMs: 200,
    params, pending: {}, answers: {}, stop: new AbortController() };
  task.ask = (requests) => new Promise((ok) => { task.go = ok; move(task, 'input_required', { pending: { ...requests }, answers: {} }); });
  tasks.set(task.taskId, task);
  setTimeout(() => tasks.delete(task.taskId), task.ttlMs).unref();
  (async () => tool.run(params.arguments ?? {}, task))().then((result) => move(task, 'completed', { result: { resultType: 'complete', ...result } }),
    (e) => move(task, 'failed', { error: { code: e.code ?? -32603, message: e.message } }));
  return task;
}

const methods = {
  'server/discover': () => ({ supportedVersions: [REVISION], capabilities: { tools: {}, extensions: { [TASKS]: {} } }, ttlMs: 0, cacheScope: 'private' }),
  'tools/list': () => ({ ttlMs: 0, cacheScope: 'private', tools: Object.entries(tools).map(([name, { args = {} }]) => ({ name, description: 'tool of the tasks-* scenarios',
    inputSchema: { type: 'object', properties: Object.fromEntries(Object.entries(args).map(([k, type]) => [k, { type }])) } })) }),
  'tools/call': (params, able) => {
    const tool = tools[params.name];
    if (!tool) throw new Refused(-32602, `Unknown tool: ${params.name}`);
    if (!able && tool.only) needTasks(able);
    const first = tool.first?.(params);
    if (first) return first;
    return able && !tool.never ? { resultType: 'task', ...shown(start(tool, params)) } : tool.run(params.arguments ?? {});
  },
  'tasks/get': (params, able) => detailed(known(params, able)),
  'tasks/cancel': (params, able) => { const t = known(params, able); move(t, 'cancelled'); t.stop.abort(); return {}; },
  'tasks/update': (params, able) => {
    const t = known(params, able);
    for (const [k, v] of Object.entries(params.inputResponses ?? {})) if (k in t.pending) { t.answers[k] = v; delete t.pending[k]; }
    if (t.status === 'input_required' && !Object.keys(t.pending).length) { move(t, 'working'); t.go(t.answers); }
    return {};
  },
};
function needTasks(able) {
  if (!able) throw new Refused(-32021, 'Missing required client capability', { requiredCapabilities: { extensions: { [TASKS]: {} } } });
}
function known({ taskId }, able) {
  needTasks(able);
  return tasks.get(taskId) ?? (() => { throw new Refused(-32602, `Unknown task: ${taskId}`); })();
}

/** One message in; `send` is called for everything that it brings out. */
async function handle({ id, method, params }, send) {
  if (id === undefined) { if (method === 'notifications/cancelled') listens.delete(params?.requestId); return; }
  try {
    const meta = params?._meta ?? {}, version = meta[NS + 'protocolVersion'], can = meta[NS + 'clientCapabilities'];
    if (method === 'initialize' || (version && version !== REVISION)) {
      throw new Refused(-32022, 'Unsupported protocol version', { supported: [REVISION], requested: version ?? params?.protocolVersion });
    }
    if (!version || typeof can !== 'object') throw new Refused(-32602, 'Invalid params: the _meta of the revision is missing');
    if (method === 'subscriptions/listen') {
      const taskIds = params.notifications?.taskIds ?? [];
      const notify = (what, p) => send({ jsonrpc: '2.0', method: what, params: { ...p, _meta: { [NS + 'subscriptionId']: id } } });
      listens.set(id, { taskIds, notify });
      return void notify('notifications/subscriptions/acknowledged', { notifications: { taskIds } });
    }
    if (!methods[method]) throw new Refused(-32601, `Method not found: ${method}`);
    const result = await methods[method](params, !!can.extensions?.[TASKS]);
    send({ jsonrpc: '2.0', id, result: { resultType: 'complete', ...result, _meta: { [NS + 'serverInfo']: { name: 'tasks-stdio', version: '1.0.0' } } } });
  } catch (e) { send({ jsonrpc: '2.0', id, error: { code: e.code ?? -32603, message: e.message, ...(e.data ? { data: e.data } : {}) } }); }
}

const flag = process.argv.indexOf('--http');
if (flag > 0) {
  createServer(async (req, res) => {
    if (req.method !== 'POST') return void res.writeHead(405).end();
    let body = ''; for await (const piece of req) body += piece;
    const reply = (m) => {
      if (m.method && !res.headersSent) res.writeHead(200, { 'content-type': 'text/event-stream' });
      if (res.headersSent) return void res.write(`data: ${JSON.stringify(m)}\n\n`);
      const status = { [-32020]: 400, [-32021]: 400, [-32022]: 400, [-32601]: 404, [-32602]: 400 }[m.error?.code] ?? 200;
      res.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(m));
    };
    const m = JSON.parse(body), named = /^tasks\//.test(m.method) ? m.params?.taskId : m.params?.name;
    if (m.id === undefined) { await handle(m, () => {}); return void res.writeHead(202).end(); }
    res.on('close', () => listens.delete(m.id));
    const wrong = req.headers['mcp-method'] !== m.method || (/^tasks\/(get|update|cancel)$|^tools\/call$/.test(m.method) && req.headers['mcp-name'] !== named);
    if (wrong) return reply({ jsonrpc: '2.0', id: m.id, error: { code: -32020, message: 'Header mismatch' } });
    await handle(m, reply);
  }).listen(Number(process.argv[flag + 1]), '127.0.0.1', () => console.error('listening'));
} else {
  const send = (m) => process.stdout.write(`${JSON.stringify(m)}\n`);
  createInterface({ input: process.stdin }).on('line', (line) => { if (line.trim()) handle(JSON.parse(line), send); }).on('close', () => process.exit(0));
}
