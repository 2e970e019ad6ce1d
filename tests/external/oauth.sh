#!/usr/bin/env bash
# OAuth before a real authorization server (oauth/provider.mjs): logins at the hub's URL and at the command line's,
# refresh by many processes at once, revocation, bigger scopes, device codes, the registration of the client.
#   oauth.sh [opaque|jwt]      the access tokens that the authorization server gives; default opaque
# Environment: HUBWARD, HUBWARD_EXTERNAL_DIR (see setup.sh), KEEP=1 keeps the temporary folder.
set -uo pipefail
. "$(dirname "$0")/lib.sh"
FORMAT=${1:-opaque} CROWD=20
mkdir -p "$WORK/cli"; export "${MARK?}" NO_COLOR=1 BROWSER=true

PART=oauth TOOLS="whoami write echo fetch read_file tool"
. "$EXT/oauth/lib.sh" || exit 1
refreshes() { told 's.token.refresh_token ?? 0'; }
eventually() { # eventually COMMAND…: its output once it succeeds, the last one otherwise
  local n out
  for n in $(seq 12); do out=$("$@") && break; sleep 0.5; done
  echo "$out"
}

# 1. A hub that is not logged in yet.
PORT=$(free_port)
{ hub_head "$PORT"; printf '\n[upstreams.guarded]\nurl = "%s"\nauth = { oauth = {} }\n' "$URL"; } > "$WORK/hub.toml"
start_hub "$WORK/hub.toml" "$PORT" || exit 1
SAID=("$WORK/hub.out" "$WORK/hub.log")
has "nobody is made to wait for a login" "$(look "$BASE/guarded/mcp")" failed
visit_login "login at the URL that the hub prints" "$CODE_URL" "${SAID[@]}"
is "tools through the hub" "$(eventually look "$BASE/guarded/mcp")" "$TOOLS"
is "the request for authorization" \
  "$(told 's.authorize.map((a) => [a.scope, a.resource, a.state, a.method].join())[0]')" \
  "mcp:basic offline_access,$URL,true,S256"
is "one registration" "$(told s.registered)" 1
control refuse
is "a token that is no longer taken is refreshed" "$(eventually look "$BASE/guarded/mcp" whoami)" ada
is "by one refresh" "$(refreshes)" 1
has "a bigger scope is asked for" "$(look "$BASE/guarded/mcp" write)" failed
visit_login "login for the bigger scope" "$CODE_URL" "${SAID[@]}"
is "the tool that needs it" "$(eventually look "$BASE/guarded/mcp" write)" written
is "old and new scope together" "$(told 's.authorize.at(-1).scope.split(" ").sort().join(" ")')" "mcp:basic mcp:write offline_access"
control revoke
has "a revoked grant is noticed" "$(look "$BASE/guarded/mcp")" failed
visit_login "login after the revocation" "$CODE_URL" "${SAID[@]}"
is "tools after it" "$(eventually look "$BASE/guarded/mcp")" "$TOOLS"
is "still one registration" "$(told s.registered)" 1
is "nothing secret in what the hub says" \
  "$(cat "${SAID[@]}" | grep -acE 'refresh_token|access_token|Bearer [A-Za-z0-9_-]{20}|eyJ[A-Za-z0-9_-]{20}')" 0
is "files of the hub are for its user alone" "$(find "$WORK" -newer "$WORK/hub.toml" -type f -perm /077 \
  -exec grep -laE '"?(access|refresh)_token"?' {} + | grep -v '/\(hub\|provider\)\.\(out\|log\)$')" ""

# 2. The command line, which has no part in what the hub has.
cli tools "$URL" > "$WORK/none.out" 2>&1
is "tools without a login: exit 3" $? 3
login() { # login FILE [FLAG…]: in the background, LOGIN
  local out=$1; shift
  LIMIT=60 cli auth login "$URL" "$@" > "$out" 2>&1 & LOGIN=$!
}
login "$WORK/login.out"
visit_login "login at the URL that auth login prints" "$CODE_URL" "$WORK/login.out" || kill "$LOGIN" 2> /dev/null
wait "$LOGIN"; is "auth login ends well" $? 0
has "tools at the command line" "$(cli tools "$URL" 2>&1)" whoami
cli auth status "$URL" > "$WORK/status.out" 2>&1
is "auth status" $? 0

# 3. Many processes at once with a token that has run out. The provider ends the grant when a refresh token comes twice.
control "ttl?s=2"; control refuse
has "a token for two seconds" "$(cli tools "$URL" 2>&1)" whoami
control "ttl?s=3600"; sleep 3
failed=$(told 's.token_failed.refresh_token ?? 0') before=$(refreshes) pids=() good=0
for n in $(seq $CROWD); do cli tools "$URL" > "$WORK/crowd.$n" 2>&1 & pids+=($!); done
for pid in "${pids[@]}"; do wait "$pid" && good=$((good + 1)); done
is "$CROWD processes at once all succeed" "$good" "$CROWD"
is "by one refresh among them" $(($(refreshes) - before)) 1
control refuse; before=$(refreshes) pids=() good=0
for n in $(seq $CROWD); do cli tools "$URL" > "$WORK/crowd.$n" 2>&1 & pids+=($!); done
for pid in "${pids[@]}"; do wait "$pid" && good=$((good + 1)); done
is "$CROWD processes whose token is refused all succeed" "$good" "$CROWD"
is "by one refresh among these" $(($(refreshes) - before)) 1
is "no refresh token was used twice" "$(told 's.token_failed.refresh_token ?? 0')" "$failed"
has "connect uses the same login" \
  "$(HOME=$WORK/cli XDG_RUNTIME_DIR=$WORK/cli look -- "$HUBWARD" connect "$URL" -- whoami)" ada

# 4. The registration.
client=$(told 's.clients.at(-1)')
has "auth client show" "$(cli auth client show "$URL" 2>&1)" "$client"
cli auth client update "$URL" "client_name=renamed by the test" --yes > "$WORK/update.out" 2>&1
is "auth client update" $? 0
has "auth client show after the update, with its new token" "$(cli auth client show "$URL" 2>&1)" "renamed by the test"
cli auth client delete "$URL" --yes > "$WORK/delete.out" 2>&1
is "auth client delete" $? 0
is "the client is gone at the server" "$(told "s.clients.includes('$client')")" false

# 5. A login with a code for another device, then the end of it.
login "$WORK/device.out" --device
visit_login "login with a device code" "$DEVICE_URL" "$WORK/device.out" || kill "$LOGIN" 2> /dev/null
wait "$LOGIN"; is "auth login --device ends well" $? 0
has "tools with it" "$(cli tools "$URL" 2>&1)" whoami
before=$(told s.revocations)
cli auth logout "$URL" > "$WORK/logout.out" 2>&1
is "auth logout" $? 0
is "the tokens are revoked" "$([ "$(told s.revocations)" -gt "$before" ] && echo yes)" yes
cli tools "$URL" > "$WORK/after.out" 2>&1
is "tools after the logout: exit 3" $? 3
has "the hub's own login is untouched" "$(eventually look "$BASE/guarded/mcp" whoami)" ada

if [ "$FAILURES" != 0 ]; then
  hub_tail
  for each in none login status update delete device logout after; do
    echo "---- $each"; tail -n 8 "$WORK/$each.out" 2> /dev/null | cut -c1-300
  done
  echo "---- the provider: $(curl -s -m 5 "$AS/stats" | cut -c1-1500)"
  grep -av 'NOTICE\|WARNING' "$WORK/provider.log" | tail -n 12
fi
