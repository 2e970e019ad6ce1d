# Sourced after ../lib.sh: an authorization server with the MCP server that it protects (provider.mjs), a user's browser,
# and the command line with credentials of its own. FORMAT: its access tokens.
AS_PORT=$(free_port) MCP_PORT=$(free_port)
start_beside provider "$AS_PORT" "$NODE" "$DIR/oauth/provider.mjs" "$AS_PORT" "$MCP_PORT" "$FORMAT" || exit 1
AS=http://127.0.0.1:$AS_PORT URL=http://127.0.0.1:$MCP_PORT/mcp

control() { curl -sf -m 5 -X POST "$AS/control/$1" > /dev/null; }
told() { # told JAVASCRIPT: an expression over `s`, the provider's counters
  curl -sf -m 5 "$AS/stats" | "$NODE" -e '
    const s = JSON.parse(require("fs").readFileSync(0)); const v = eval(process.argv[1]);
    console.log(typeof v === "object" ? JSON.stringify(v) : v ?? 0)' "$1"
}
look() { bounded 30 "$NODE" "$DIR/oauth/tools.mjs" "$@"; }
browse() { bounded 60 "$NODE" "$DIR/oauth/browser.mjs" "$1"; }
# The command line, with credentials of its own; never a terminal.
cli() { env HOME="$WORK/cli" XDG_RUNTIME_DIR="$WORK/cli" timeout -k 5 "${LIMIT:-30}" "$HUBWARD" "$@" < /dev/null; }

# The last URL for a login in FILE… that is not in $VISITED yet; waits for it.
VISITED=" "
login_url() { # login_url PATTERN FILE…: sets FOUND
  local pattern=$1 n url; shift
  for n in $(seq 100); do
    url=$(grep -aohE "$pattern" "$@" 2> /dev/null | tail -n 1)
    if [ -n "$url" ] && [[ $VISITED != *" $url "* ]]; then VISITED="$VISITED$url " FOUND=$url; return 0; fi
    sleep 0.1
  done
  FOUND=; return 1
}
CODE_URL="$AS/auth\\?[^][:space:]\"'\`<>()]*" DEVICE_URL="$AS/device[^][:space:]\"'\`<>()]*"
visit_login() { # visit_login WHAT PATTERN FILE…
  local what=$1; shift
  if login_url "$@"; then is "$what" "$(browse "$FOUND" | cut -c1-3)" 200
  else fail "$PART - $what: no URL was printed"; return 1; fi
}
