#!/usr/bin/env bash
# Web pages in a real Chromium (browser/browser.mjs) before a hub: pages that are allowed, pages that are not, and a name
# that was made to lead to this machine. What they ran is counted by the server itself.
# Environment: HUBWARD, HUBWARD_EXTERNAL_DIR (see setup.sh), CHROMIUM (default /usr/bin/chromium), KEEP=1.
set -uo pipefail
. "$(dirname "$0")/lib.sh"
export CHROMIUM=${CHROMIUM:-/usr/bin/chromium}
[ -x "$CHROMIUM" ] || { fail "browser - there is no $CHROMIUM; apt-get install chromium, or say where with CHROMIUM"; exit 1; }

PORT=$(free_port) PAGES=$(free_port)
{
  hub_head "$PORT" | sed "s|^drain_timeout.*|&\nallowed_hosts = [\"hub.test\"]\nallowed_origins = [\"http://app.test:$PAGES\"]|"
  printf '\n[upstreams.tools]\ncommand = "%s"\nargs = ["%s"]\nisolation = "shared"\n' "$NODE" "$DIR/browser/server.mjs"
} > "$WORK/hub.toml"
start_hub "$WORK/hub.toml" "$PORT" || exit 1
mkdir -p "$WORK/home"
RUN=("$NODE" "$DIR/browser/browser.mjs" "$PORT" "$PAGES" "$WORK/profile")
run_client "" browser
