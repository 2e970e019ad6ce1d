#!/usr/bin/env bash
# The status page in a real Chromium (status/status.mjs) before a hub with ten upstreams in different states, and before
# one that wants a token: what happens is seen within a second, and nothing that a server says is more than text.
#   status.sh [--screenshots]      writes docs/status-*.png besides
# Environment: HUBWARD, HUBWARD_EXTERNAL_DIR (see setup.sh), CHROMIUM (default /usr/bin/chromium), KEEP=1.
set -uo pipefail
. "$(dirname "$0")/lib.sh"
export CHROMIUM=${CHROMIUM:-/usr/bin/chromium}
[ -x "$CHROMIUM" ] || { fail "status - there is no $CHROMIUM; apt-get install chromium, or say where with CHROMIUM"; exit 1; }
SHOTS=
[ "${1:-}" = --screenshots ] && { SHOTS=$(cd "$EXT/../.." && pwd)/docs; mkdir -p "$SHOTS"; }

# The servers are found as `node`, and the snippets' `npx` finds the Inspector where it was installed.
PATH=$(dirname "$NODE"):$PATH
export INSPECTOR=$DIR/tools npm_config_offline=true npm_config_update_notifier=false
PORT=$(free_port) GUARDED=$(free_port) AS_PORT=$(free_port) MCP_PORT=$(free_port) NOBODY=$(free_port) TOKEN=the-token-of-the-status-page
start_beside provider "$AS_PORT" "$NODE" "$DIR/oauth/provider.mjs" "$AS_PORT" "$MCP_PORT" opaque || exit 1

upstream() { # upstream NAME KEYS [FLAG…]
  local name=$1 keys=$2 flags=""; shift 2
  for flag in "$@"; do flags="$flags, \"$flag\""; done
  printf '\n[upstreams.%s]\ncommand = "node"\nargs = ["%s", "--name", "%s"%s]\nera = "legacy"\n%b\n' \
    "$name" "$EXT/status/upstream.mjs" "$name" "$flags" "$keys"
}
SHARED='isolation = "shared"\nstart = "eager"'
{
  hub_head "$PORT"
  upstream github "$SHARED"
  upstream browser "$SHARED" --slow 1
  upstream wiki "$SHARED\nrequest_timeout = \"3s\""
  upstream notes "$SHARED"
  upstream search "$SHARED\nstart_timeout = \"10m\"" --slow 600 --noise 200
  upstream files 'isolation = "shared"'
  upstream archive 'enabled = false'
  printf '\n[upstreams.tickets]\ncommand = "/opt/no-such-program"\nstart = "eager"\nrestart = { max = 1, backoff_min = "100ms", backoff_max = "100ms" }\n'
  printf '\n[upstreams.linear]\nurl = "http://127.0.0.1:%s/mcp"\nstart = "eager"\nauth = { oauth = {} }\n' "$MCP_PORT"
  printf '\n[upstreams.billing]\nurl = "http://127.0.0.1:%s/mcp"\nstart = "eager"\n' "$NOBODY"
} > "$WORK/hub.toml"
start_hub "$WORK/hub.toml" "$PORT" || exit 1
mkdir -p "$WORK/guarded" "$WORK/home"
{
  hub_head "$GUARDED"
  printf '\n[hub.auth]\ntokens = [{ name = "ada", sha256 = "%s" }]\n' "$(printf %s "$TOKEN" | sha256sum | cut -d' ' -f1)"
  upstream secret-tools "$SHARED"
} > "$WORK/guarded/hub.toml"
start_hub "$WORK/guarded/hub.toml" "$GUARDED" guarded || exit 1

RUN=("$NODE" "$DIR/browser/status.mjs" "$PORT" "$GUARDED" "$WORK/hub.toml" "$WORK/profile" "$TOKEN" ${SHOTS:+"$SHOTS"})
run_client "" status
