// What every client program checks at the five real servers, whatever SDK is behind `conn`:
//   conn.list()             names of the tools
//   conn.call(name, args)   text of the result; throws when the tool says isError
// One line per check: "ok CLIENT SERVER WHAT" or "FAIL CLIENT SERVER WHAT: REASON".
export const sleep = (ms) => new Promise((ok) => setTimeout(ok, ms));
export const limit = (ms, what, promise) => {
  let timer;
  return Promise.race([promise, new Promise((_, no) => { timer = setTimeout(() => no(new Error(`${what}: nothing within ${ms} ms`)), ms); })])
    .finally(() => clearTimeout(timer));
};
export const expect = (condition, message) => { if (!condition) throw new Error(message); };
export const until = async (ms, what, condition) => {
  for (const end = Date.now() + ms; Date.now() < end; await sleep(25)) if (condition()) return;
  throw new Error(`${what}: nothing within ${ms} ms`);
};
export const textOf = (result) => {
  const text = (result.content ?? []).filter((c) => c.type === 'text').map((c) => c.text).join('\n');
  if (result.isError) throw new Error(`isError: ${text.slice(0, 200)}`);
  return text;
};

export function reporter(client) {
  let failed = 0;
  // The SDKs report some stream errors out of band: a check that suffers from one fails by itself.
  process.on('unhandledRejection', (e) => console.error(`${client}: unhandled: ${e?.stack ?? e}`));
  setTimeout(() => { console.log(`FAIL ${client} - the whole program: out of time`); process.exit(1); },
    Number(process.env.CLIENT_LIMIT_MS ?? 180_000)).unref();
  return {
    async check(server, what, fn, ms = 30_000) {
      try {
        const note = await limit(ms, what, (async () => fn())());
        console.log(`ok ${client} ${server} ${what}${note ? ` (${note})` : ''}`);
        return true;
      } catch (e) {
        failed += 1;
        console.log(`FAIL ${client} ${server} ${what}: ${String(e?.message ?? e).replace(/\s+/g, ' ').slice(0, 300)}`);
        if (e?.stack) console.error(`${client} ${server} ${what}: ${e.stack}`);
        return false;
      }
    },
    exit() { process.exit(failed ? 1 : 0); },
  };
}

const has = async (conn, ...names) => {
  const tools = await conn.list();
  for (const n of names) expect(tools.includes(n), `no tool ${n} among ${tools.join()}`);
  return `${tools.length} tools`;
};

/** Per server: what must be listed, and one call with the result checked. */
export const SERVERS = {
  everything: (client) => ({
    listed: ['echo', 'get-sum'],
    what: 'get-sum', args: { a: 19, b: 23 },
    verify: (text) => expect(text.includes('42'), text),
  }),
  memory: (client) => {
    const name = `entity-of-${client}-${process.pid}`;
    return {
      listed: ['create_entities', 'read_graph'],
      before: (call) => call('create_entities', { entities: [{ name, entityType: 'test', observations: ['remembers grüße'] }] }),
      what: 'search_nodes', args: { query: name },
      verify: (text) => expect(text.includes(name) && text.includes('remembers grüße'), text),
    };
  },
  filesystem: () => ({
    listed: ['read_text_file', 'write_file', 'list_directory'],
    what: 'read_text_file', args: { path: `${process.env.EXT_FILES}/hello.txt` },
    verify: (text) => expect(text.trim() === 'hello from a file', text),
  }),
  time: () => ({
    listed: ['get_current_time', 'convert_time'],
    what: 'convert_time', args: { source_timezone: 'UTC', time: '12:00', target_timezone: 'Asia/Tokyo' },
    verify: (text) => expect(/T21:00:00\+09:00/.test(text), text),
  }),
  git: () => ({
    listed: ['git_status', 'git_log'],
    what: 'git_log', args: { repo_path: process.env.EXT_REPO },
    verify: (text) => expect(text.includes('the only commit'), text),
  }),
};

// EXT_SERVERS and EXT_ERA_CHECKS leave out what a script has no server for.
const among = (all, names) => (names ? all.filter((each) => names.split(',').includes(each)) : all);

/** Connects to each server, lists, calls, closes. `open(server)` gives a conn with close(). */
export async function basics({ check }, client, open, servers = among(Object.keys(SERVERS), process.env.EXT_SERVERS)) {
  for (const server of servers) {
    let conn;
    const s = SERVERS[server](client);
    if (!await check(server, 'connect', async () => { conn = await open(server); return conn.note; })) continue;
    await check(server, 'tools/list', () => has(conn, ...s.listed));
    await check(server, s.what, async () => { await s.before?.(conn.call); s.verify(await conn.call(s.what, s.args)); });
    await check(server, 'close', () => conn.close());
  }
}

/**
 * The traffic in the other direction, at server-everything. `conn` brings besides list and call:
 *   callWithProgress(name, args, onProgress)  and, where the revision has them,
 *   setLevel(level), subscribe(uri), unsubscribe(uri), readResource(uri), getPrompt(name, args), complete(params)
 *   seen = { log: [], updated: [], sampling: [], elicitation: [], roots: 0 }, filled by handlers
 * The answers that the handlers have to give are ANSWERS.
 */
export const ANSWERS = {
  sampling: { role: 'assistant', model: 'model-of-the-test', content: { type: 'text', text: 'sampled by the client' }, stopReason: 'endTurn' },
  elicitation: { action: 'accept', content: { name: 'Ada of the test' } },
  roots: { roots: [{ uri: 'file:///root-of-the-test', name: 'root-of-the-test' }] },
};
export async function features({ check }, conn, { streams = true } = {}) {
  const on = (what, fn) => check('everything', what, fn);
  await on('progress of a long call', async () => {
    const got = [];
    const text = await conn.callWithProgress('trigger-long-running-operation', { duration: 1, steps: 5 }, (p) => got.push(p.progress));
    expect(text.includes('completed'), text);
    // A client drops a note that arrives in one piece with the result: the last one may be missing.
    // In the newer era the call may be interrupted by a question. The TypeScript SDK then tells a note again that it has
    // told before; and of what comes while the client is away the hub keeps the last for when it is back.
    const once = got.filter((p, i) => p > Math.max(0, ...got.slice(0, i)));
    const whole = once.length >= 4 && once.every((p, i) => p === i + 1) && once.length === new Set(got).size;
    expect(streams ? whole : once.length >= 3, `progress seen: ${got}`);
    return `${once.length} of 5`;
  });
  await on('two calls at once', async () => {
    const [slow, quick] = await Promise.all([
      conn.call('trigger-long-running-operation', { duration: 0.5, steps: 1 }), conn.call('echo', { message: 'quick' })]);
    expect(slow.includes('completed') && quick.includes('quick'), `${slow} / ${quick}`);
  });
  await on('sampling round trip', async () => {
    const text = await conn.call('trigger-sampling-request', { prompt: 'a question', maxTokens: 10 });
    expect(text.includes('sampled by the client'), text);
    expect(JSON.stringify(conn.seen.sampling).includes('a question'), 'the handler saw another prompt');
  });
  await on('elicitation round trip', async () => {
    const text = await conn.call('trigger-elicitation-request', {});
    expect(text.includes('Ada of the test'), text);
    expect(conn.seen.elicitation.length > 0, 'the handler was not called');
  });
  if (!streams) return;
  await on('roots round trip', async () => {
    const text = await conn.call('get-roots-list', {});
    expect(text.includes('root-of-the-test'), text);
    expect(conn.seen.roots > 0, 'the handler was not called');
  });
  await on('logging', async () => {
    await conn.setLevel('debug');
    await conn.call('toggle-simulated-logging', {});
    await until(8000, 'log message', () => conn.seen.log.length > 0);
    await conn.call('toggle-simulated-logging', {});
    return conn.seen.log[0].level;
  });
  await on('subscribe and updated', async () => {
    const uri = 'demo://resource/dynamic/text/1';
    await conn.subscribe(uri);
    await conn.call('toggle-subscriber-updates', {});
    await until(8000, 'resource update', () => conn.seen.updated.includes(uri));
    await conn.call('toggle-subscriber-updates', {});
    await conn.unsubscribe(uri);
  });
  await on('resources/read', async () => {
    const { contents } = await conn.readResource('demo://resource/dynamic/text/1');
    expect(contents[0]?.text?.length > 0, JSON.stringify(contents));
  });
  await on('prompts/get', async () => {
    const { messages } = await conn.getPrompt('args-prompt', { city: 'Zürich', state: 'ZH' });
    expect(JSON.stringify(messages).includes('Zürich'), JSON.stringify(messages));
  });
  await on('completion', async () => {
    const { completion } = await conn.complete({ ref: { type: 'ref/prompt', name: 'completable-prompt' }, argument: { name: 'department', value: 'E' } });
    expect(completion.values.includes('Engineering'), JSON.stringify(completion));
  });
}

/**
 * Everything at one mount of a test server of the conformance suite, `legacy` or `modern`: the cells of eras.md.
 * `open(mount, capabilities)` gives a conn as above with besides it `modern` and
 *   callWithSignal(name, args, signal), logged(name, args, level), listen(uri) that gives a function to end it.
 */
export const ERA_CHECKS = ['connect', 'list', 'call', 'progress', 'log level', 'elicitation', 'sampling', 'subscription', 'cancel'];
export async function eras({ check }, open, mount, modern) {
  let conn;
  const logs = async (level) => {
    conn.seen.log.length = 0;
    await conn.logged('test_tool_with_logging', {}, level);
    await sleep(200);
    return conn.seen.log.length;
  };
  const checks = {
    connect: async () => {
      conn = await open(mount, { sampling: {}, elicitation: { form: {} } });
      expect(conn.modern === modern, `the other era came out: ${conn.note}`);
      return conn.note;
    },
    list: () => has(conn, 'x_echo', 'test_sampling'),
    call: async () => { const text = await conn.call('x_echo', { token: 'grüße' }); expect(text === 'grüße', text); },
    progress: async () => {
      const got = [];
      await conn.callWithProgress('test_tool_with_progress', {}, (p) => got.push(p.progress));
      expect(got.join() === '0,50,100', `progress seen: ${got}`);
    },
    'log level': async () => {
      // Nobody on the way from a server of the older era of ours to an older client filters.
      if (modern || !mount.startsWith('legacy')) expect(await logs('error') === 0, 'messages below the level');
      const n = await logs('info');
      expect(n === 3, `${n} of 3 messages`);
    },
    elicitation: async () => { const text = await conn.call('test_elicitation', { message: 'who?' }); expect(text.includes('Ada of the test'), text); },
    sampling: async () => { const text = await conn.call('test_sampling', { prompt: 'what?' }); expect(text.includes('sampled by the client'), text); },
    subscription: async () => {
      const uri = 'test://watched-resource', end = await conn.listen(uri);
      await conn.call('x_touch', {});
      await until(5000, 'resource update', () => conn.seen.updated.includes(uri));
      await end();
    },
    cancel: async () => {
      const before = Number(await conn.call('x_cancelled', {})), stop = new AbortController();
      const slow = conn.callWithSignal('x_slow', { ms: 20_000 }, stop.signal).then(() => true, () => false);
      await sleep(400);
      stop.abort();
      expect(!await slow, 'the call came to its end');
      for (let n = 0; n < 40; n++, await sleep(50)) if (Number(await conn.call('x_cancelled', {})) > before) return;
      throw new Error('the server has not seen it');
    },
  };
  for (const what of among(ERA_CHECKS, process.env.EXT_ERA_CHECKS)) await check(mount, what, () => { expect(what === 'connect' || conn, 'not connected'); return checks[what](); }, 20_000);
  await conn?.close().catch(() => {});
}
