// An authorization server (oidc-provider) and an MCP server that it protects, in one process and on loopback only.
//   node provider.mjs AS_PORT MCP_PORT [opaque|jwt]      the MCP server is at http://127.0.0.1:MCP_PORT/mcp
// Logins and consents happen by themselves: who follows the redirects, with cookies, arrives where the client waits.
// Clients register themselves (RFC 7591) and manage that (RFC 7592; the token for it rotates). PKCE and `resource` are
// required, refresh tokens rotate, and using one twice ends the whole grant. The MCP server asks for mcp:basic, and its
// tool `write` for mcp:write besides.
// At the authorization server, for a script:
//   GET  /stats                what happened so far, as JSON
//   POST /control/ttl?s=N      access tokens from now on live N seconds
//   POST /control/refuse       the MCP server refuses all access tokens it has seen, as if they had expired
//   POST /control/revoke       every grant is revoked, refresh tokens too
import { randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
import { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js';
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js';
import express from 'express';
import { exportJWK, generateKeyPair, jwtVerify } from 'jose';
import Provider, { errors } from 'oidc-provider';
import { z } from 'zod';

const [asPort, mcpPort] = process.argv.slice(2).map(Number), format = process.argv[4] ?? 'opaque';
const issuer = `http://127.0.0.1:${asPort}`, resource = `http://127.0.0.1:${mcpPort}/mcp`;
const SCOPES = 'mcp:basic mcp:write';
let ttl = 3600;

const { publicKey, privateKey } = await generateKeyPair('RS256', { extractable: true });
const signing = { ...await exportJWK(privateKey), alg: 'RS256', use: 'sig', kid: 'the-key' };
const stats = { authorize: [], token: {}, token_failed: {}, registered: 0, management: {}, revocations: 0, device: 0,
  clients: [], mcp: { unauthorized: 0, insufficient: 0, served: 0 } };
const count = (where, what) => { where[what] = (where[what] ?? 0) + 1; };

const provider = new Provider(issuer, {
  jwks: { keys: [signing] },
  scopes: ['openid', 'offline_access', ...SCOPES.split(' ')],
  cookies: { keys: [randomUUID()] },
  pkce: { required: () => true },
  rotateRefreshToken: true,
  expiresWithSession: () => false,
  issueRefreshToken: (_ctx, client) => client.grantTypeAllowed('refresh_token'),
  interactions: { url: (_ctx, interaction) => `/interaction/${interaction.uid}` },
  findAccount: (_ctx, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
  ttl: { AccessToken: () => ttl, ClientCredentials: () => ttl, RefreshToken: 86_400, Grant: 86_400, Interaction: 600,
    Session: 3600, DeviceCode: 300 },
  features: {
    devInteractions: { enabled: false },
    registration: { enabled: true },
    registrationManagement: { enabled: true, rotateRegistrationAccessToken: true },
    revocation: { enabled: true },
    introspection: { enabled: true },
    clientCredentials: { enabled: true },
    deviceFlow: { enabled: true },
    resourceIndicators: {
      enabled: true,
      // Without `resource` a token would be of no use: better refused here than found out at the MCP server.
      defaultResource: () => undefined,
      useGrantedResource: () => true,
      getResourceServerInfo: (_ctx, indicator) => {
        if (indicator !== resource) throw new errors.InvalidTarget();
        const jwt = { sign: { alg: 'RS256' } };
        return { scope: SCOPES, audience: resource, accessTokenTTL: ttl, accessTokenFormat: format, jwt };
      },
    },
  },
});
provider.on('server_error', (_ctx, e) => console.error('server_error', e));
const ERRORS = ['authorization', 'grant', 'registration_create', 'registration_update', 'revocation'];
for (const what of ERRORS) {
  provider.on(`${what}.error`, (_ctx, e) => console.error(what, e.message, e.error_description ?? ''));
}

provider.use(async (ctx, next) => {
  if (ctx.path === '/auth') {
    const { client_id, scope, resource: indicator, state, code_challenge_method: method } = ctx.query;
    stats.authorize.push({ client_id, scope, resource: indicator, state: Boolean(state), method });
  }
  await next();
  const ok = ctx.status < 400;
  if (ctx.path === '/token') count(ok ? stats.token : stats.token_failed, ctx.oidc?.params?.grant_type ?? 'unknown');
  else if (ctx.path === '/reg' && ok) { stats.registered += 1; stats.clients.push(ctx.body.client_id); }
  else if (ctx.path.startsWith('/reg/')) {
    count(stats.management, `${ctx.method} ${ctx.status}`);
    if (ctx.method === 'DELETE' && ok) stats.clients = stats.clients.filter((id) => id !== ctx.path.slice(5));
  } else if (ctx.path === '/token/revocation' && ok) stats.revocations += 1;
  else if (ctx.path === '/device/auth' && ok) stats.device += 1;
});

// The user of this server has an account, and agrees to everything.
async function interact(req, res) {
  const { prompt, params, session, grantId } = await provider.interactionDetails(req, res);
  if (prompt.name === 'login') return provider.interactionFinished(req, res, { login: { accountId: 'ada' } });
  const grant = (grantId && await provider.Grant.find(grantId))
    || new provider.Grant({ accountId: session.accountId, clientId: params.client_id });
  const { missingOIDCScope, missingOIDCClaims, missingResourceScopes } = prompt.details;
  if (missingOIDCScope) grant.addOIDCScope(missingOIDCScope.join(' '));
  if (missingOIDCClaims) grant.addOIDCClaims(missingOIDCClaims);
  for (const [indicator, scopes] of Object.entries(missingResourceScopes ?? {})) {
    grant.addResourceScope(indicator, scopes.join(' '));
  }
  const id = await grant.save();
  grants.add(id);
  return provider.interactionFinished(req, res, { consent: { grantId: id } }, { mergeWithLastSubmission: true });
}

const grants = new Set(), seen = new Set(), refused = new Set();
async function control(url, res) {
  if (url.pathname === '/control/ttl') ttl = Number(url.searchParams.get('s'));
  else if (url.pathname === '/control/refuse') for (const token of seen) refused.add(token);
  else if (url.pathname === '/control/revoke') {
    for (const id of grants) {
      for (const model of ['AccessToken', 'RefreshToken']) await provider[model].revokeByGrantId(id);
      await (await provider.Grant.find(id))?.destroy();
    }
    grants.clear();
  } else { res.writeHead(404).end(); return; }
  res.end('done\n');
}
const callback = provider.callback();
createServer((req, res) => {
  const url = new URL(req.url, issuer);
  const mishap = (e) => { console.error(e); if (!res.headersSent) res.writeHead(500).end(`${e.message}\n`); };
  if (url.pathname === '/stats') res.end(JSON.stringify(stats));
  else if (url.pathname.startsWith('/control/')) control(url, res).catch(mishap);
  else if (url.pathname.startsWith('/interaction/')) interact(req, res).catch(mishap);
  else callback(req, res);
}).listen(asPort, '127.0.0.1');

// The protected server.
async function scopesOf(token) {
  seen.add(token);
  if (refused.has(token)) return undefined;
  if (format === 'jwt') {
    const { payload } = await jwtVerify(token, publicKey, { issuer, audience: resource }).catch(() => ({}));
    return payload?.scope?.split(' ');
  }
  const found = await provider.AccessToken.find(token);
  return found?.isValid && [found.aud].flat().includes(resource) ? [...found.scopes] : undefined;
}
const metadata = `http://127.0.0.1:${mcpPort}/.well-known/oauth-protected-resource/mcp`;
function challenge(res, status, error, scope) {
  const words = [...(error ? [`error="${error}"`] : []), `scope="${scope}"`, `resource_metadata="${metadata}"`];
  res.status(status).set('WWW-Authenticate', `Bearer ${words.join(', ')}`).json({ error: error ?? 'unauthorized' });
}
function makeServer() {
  const server = new McpServer({ name: 'guarded', version: '1' });
  const said = (text) => ({ content: [{ type: 'text', text }] });
  server.registerTool('whoami', { description: 'needs mcp:basic' }, () => said('ada'));
  server.registerTool('write', { description: 'needs mcp:write' }, () => said('written'));
  // The tools that others' documents call: each says what it was called with.
  const told = (name, inputSchema) => server.registerTool(name, { inputSchema }, (given) => said(`${name} ${JSON.stringify(given)}`));
  told('echo', { message: z.string(), timestamp: z.boolean().optional() });
  told('fetch', { url: z.string(), headers: z.record(z.string(), z.string()).optional() });
  told('read_file', { path: z.string() });
  told('tool', { key: z.string().optional(), nested: z.object({ foo: z.string() }).optional(),
    key1: z.string().optional(), key2: z.string().optional() });
  server.registerResource('readme', 'doc://readme', {}, () => ({ contents: [{ uri: 'doc://readme', text: 'read me' }] }));
  server.registerPrompt('greet', {}, () => ({ messages: [{ role: 'user', content: { type: 'text', text: 'hello' } }] }));
  return server;
}
const app = express(), sessions = new Map();
const description = { resource, authorization_servers: [issuer], scopes_supported: ['mcp:basic'],
  bearer_methods_supported: ['header'] };
app.get('/.well-known/oauth-protected-resource/mcp', (_req, res) => res.json(description));
app.use(express.json());
app.all('/mcp', async (req, res) => {
  const token = /^Bearer (.+)$/i.exec(req.headers.authorization ?? '')?.[1], scopes = token && await scopesOf(token);
  if (!scopes) {
    stats.mcp.unauthorized += 1;
    return challenge(res, 401, token ? 'invalid_token' : undefined, 'mcp:basic');
  }
  const needed = req.body?.method === 'tools/call' && req.body.params?.name === 'write' ? 'mcp:write' : 'mcp:basic';
  if (!scopes.includes(needed)) {
    stats.mcp.insufficient += 1;
    return challenge(res, 403, 'insufficient_scope', needed);
  }
  stats.mcp.served += 1;
  const id = req.headers['mcp-session-id'];
  let transport = id && sessions.get(id);
  const refuse = (status, code, message) =>
    res.status(status).json({ jsonrpc: '2.0', id: null, error: { code, message } });
  if (id && !transport) return refuse(404, -32001, 'Session not found');
  if (!transport) {
    if (req.body?.method !== 'initialize') return refuse(400, -32000, 'No session');
    transport = new StreamableHTTPServerTransport({ sessionIdGenerator: randomUUID,
      onsessioninitialized: (s) => { sessions.set(s, transport); } });
    transport.onclose = () => sessions.delete(transport.sessionId);
    await makeServer().connect(transport);
  }
  await transport.handleRequest(req, res, req.body);
});
app.listen(mcpPort, '127.0.0.1', () => console.error(`${issuer} protects ${resource}, ${format} access tokens`));
