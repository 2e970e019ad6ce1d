#!/usr/bin/env bash
# A hub that takes the signed tokens of a real identity provider (oauth/idp.mjs): discovery by the hub's metadata,
# audience per mount, scopes, expiry, another key, and tokens that were forged.
#   jwt.sh                     Environment: HUBWARD, HUBWARD_EXTERNAL_DIR (see setup.sh), KEEP=1 keeps the temporary folder.
set -uo pipefail
. "$(dirname "$0")/lib.sh"
export "${MARK?}" NO_COLOR=1
PART=jwt

IDP_PORT=$(free_port) PORT=$(free_port)
start_beside idp "$IDP_PORT" "$NODE" "$DIR/oauth/idp.mjs" "$IDP_PORT" || exit 1
IDP=http://127.0.0.1:$IDP_PORT
{
  hub_head "$PORT"
  printf '\n[hub.auth]\njwt = { issuer = "%s", scopes = ["mcp"], algorithms = ["RS256", "ES256"] }\n' "$IDP"
  printf '\n[upstreams.a]\ncommand = "hubward"\nargs = ["demo"]\n\n[upstreams.b]\ncommand = "hubward"\nargs = ["demo"]\n'
} > "$WORK/hub.toml"
start_hub "$WORK/hub.toml" "$PORT" || exit 1

field() { "$NODE" -e 'const s = JSON.parse(require("fs").readFileSync(0)); console.log(eval("s" + process.argv[1]))' "$1"; }
token() { # token RESOURCE [SCOPE]
  curl -sf -m 10 "$TOKEN_URL" -d grant_type=client_credentials -d client_id=ide -d client_secret=secret \
    -d "scope=${2-mcp}" --data-urlencode "resource=$1" | field .access_token
}
HELLO='{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"curl","version":"1"}}}'
knock() { # knock PATH [TOKEN]: the status
  curl -s -m 30 -o /dev/null -D "$WORK/head" -w '%{http_code}' "$BASE$1" -H 'content-type: application/json' \
    -H 'accept: application/json, text/event-stream' ${2:+-H "authorization: Bearer $2"} -d "$HELLO"
}
challenge() { tr -d '\r' < "$WORK/head" | sed -n 's/^www-authenticate: //Ip'; }
forged() { curl -sf -m 10 -G "$IDP/forge" --data-urlencode "kind=$1" --data-urlencode "token=$2"; }

# 1. A client that knows nothing but the URL finds the way.
is "without a token" "$(knock /a/mcp)" 401
DOCUMENT=$(challenge | sed -n 's/.*resource_metadata="\([^"]*\)".*/\1/p')
is "the challenge names the metadata" "$DOCUMENT" "$BASE/.well-known/oauth-protected-resource/a/mcp"
METADATA=$(curl -sf -m 5 "$DOCUMENT")
RESOURCE=$(echo "$METADATA" | field .resource)
is "the resource is the URL" "$RESOURCE" "$BASE/a/mcp"
ISSUER=$(echo "$METADATA" | field '.authorization_servers[0]')
TOKEN_URL=$(curl -sf -m 5 "$ISSUER/.well-known/openid-configuration" | field .token_endpoint)
GOOD=$(token "$RESOURCE")
is "with a token for it" "$(knock /a/mcp "$GOOD")" 200

# 2. What a token is good for.
is "at another mount" "$(knock /b/mcp "$GOOD")" 401
is "of another mount" "$(knock /a/mcp "$(token "$BASE/b/mcp")")" 401
is "for somebody else" "$(knock /a/mcp "$(token https://elsewhere.example/mcp)")" 401
is "without the scope" "$(knock /a/mcp "$(token "$RESOURCE" other)")" 403
case $(challenge) in *'error="insufficient_scope"'*'scope="mcp"'*) is "the scope is named" yes yes;; *) is "the scope is named" "$(challenge)" insufficient_scope;; esac
is "in the query" "$(knock "/a/mcp?access_token=$GOOD")" 401

# 3. Forgeries.
for kind in none hs256 tampered; do
  is "forged: $kind" "$(knock /a/mcp "$(forged "$kind" "$GOOD")")" 401
done
is "the good one, after them" "$(knock /a/mcp "$GOOD")" 200

# 4. Another key: tokens of the new one are taken, those of the old one no more.
curl -sf -m 5 -X POST "$IDP/control/rotate" > /dev/null
NEW=$(token "$RESOURCE") CODE=
for _ in $(seq 30); do CODE=$(knock /a/mcp "$NEW"); [ "$CODE" = 200 ] && break; sleep 0.5; done
is "a token of the new key" "$CODE" 200
is "a token of the old key" "$(knock /a/mcp "$GOOD")" 401

# 5. Expiry: a second of life, and thirty that clocks may differ.
curl -sf -m 5 -X POST "$IDP/control/ttl?s=1" > /dev/null
SHORT=$(token "$RESOURCE")
is "a short token, now" "$(knock /a/mcp "$SHORT")" 200
for _ in $(seq 40); do CODE=$(knock /a/mcp "$SHORT"); [ "$CODE" = 401 ] && break; sleep 1; done
is "a short token, later" "$CODE" 401
is "no token in the log" "$(grep -acE 'eyJ[A-Za-z0-9_-]{20}' "$WORK/hub.log")" 0

stop_hub
[ "$FAILURES" = 0 ]
