// An identity provider (oidc-provider) that issues signed access tokens for the mounts of a hub; on loopback only.
//   node idp.mjs PORT          client `ide` with secret `secret`, by client credentials; any resource, scopes mcp and other
// For a script:
//   POST /control/rotate       another key from now on; the old one is published no more
//   POST /control/ttl?s=N      tokens from now on live N seconds
//   GET  /forge?kind=KIND&token=TOKEN   what somebody without the key can make of a token: none, hs256, tampered
import { createServer } from 'node:http';
import { randomUUID } from 'node:crypto';
import { exportJWK, exportSPKI, generateKeyPair, SignJWT } from 'jose';
import Provider from 'oidc-provider';

const port = Number(process.argv[2]), issuer = `http://127.0.0.1:${port}`;
let ttl = 3600, current;

const make = async () => {
  const { publicKey, privateKey } = await generateKeyPair('RS256', { extractable: true });
  const key = { ...await exportJWK(privateKey), alg: 'RS256', use: 'sig', kid: randomUUID() };
  const provider = new Provider(issuer, {
    jwks: { keys: [key] },
    clients: [{ client_id: 'ide', client_secret: 'secret', grant_types: ['client_credentials'], redirect_uris: [],
      response_types: [], token_endpoint_auth_method: 'client_secret_post' }],
    scopes: ['mcp', 'other'],
    cookies: { keys: [randomUUID()] },
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => undefined,
        getResourceServerInfo: (_ctx, resource) => ({ scope: 'mcp other', audience: resource, accessTokenTTL: ttl,
          accessTokenFormat: 'jwt', jwt: { sign: { alg: 'RS256' } } }),
      },
    },
  });
  provider.on('server_error', (_ctx, e) => console.error('server_error', e));
  provider.on('grant.error', (_ctx, e) => console.error('grant', e.message, e.error_description ?? ''));
  return { provider: provider.callback(), publicKey, kid: key.kid };
};

const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
const forge = async (kind, token) => {
  const [, body, signature] = token.split('.');
  const claims = JSON.parse(Buffer.from(body, 'base64url'));
  switch (kind) {
    case 'none': return `${part({ alg: 'none', typ: 'at+jwt', kid: current.kid })}.${body}.`;
    case 'hs256': {
      // The public key as a shared secret: whoever takes the method from the token is taken in.
      const secret = new TextEncoder().encode(await exportSPKI(current.publicKey));
      return new SignJWT(claims).setProtectedHeader({ alg: 'HS256', typ: 'at+jwt', kid: current.kid }).sign(secret);
    }
    default: return `${token.split('.')[0]}.${part({ ...claims, sub: 'somebody-else' })}.${signature}`;
  }
};

current = await make();
createServer(async (request, response) => {
  const url = new URL(request.url, issuer);
  const say = (text) => response.end(text);
  if (url.pathname === '/control/rotate') { current = await make(); say('rotated'); }
  else if (url.pathname === '/control/ttl') { ttl = Number(url.searchParams.get('s')); say('set'); }
  else if (url.pathname === '/forge') say(await forge(url.searchParams.get('kind'), url.searchParams.get('token')));
  else current.provider(request, response);
}).listen(port, '127.0.0.1');
