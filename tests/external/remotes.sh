#!/usr/bin/env bash
# Servers of others as remote upstreams: those of the SDKs over Streamable HTTP and HTTP+SSE, and two proxies between
# transports with real servers behind them. Each is used by real clients through a hub, and by `hubward connect`.
#   remotes.sh [CLIENT...]     e.g. remotes.sh ts1-http ts1-connect; without arguments all of CLIENTS
# Environment: HUBWARD, HUBWARD_EXTERNAL_DIR (see setup.sh), KEEP=1 keeps the temporary folder.
set -uo pipefail
. "$(dirname "$0")/lib.sh"
CLIENTS="ts1-http ts1-sse ts2-legacy ts2-auto ts2-pinned py-legacy py-auto py-pinned
  ts1-connect ts2-connect-legacy ts2-connect-auto ts2-connect-pinned py-connect"
NPM=$DIR/servers/node_modules/.bin PROXY=$DIR/proxies/node_modules/.bin/mcp-proxy PYPROXY=$DIR/pyproxy/bin/mcp-proxy

export HUBWARD EXT_DIR=$DIR EXT_FILES=$WORK/files EXT_REPO=$WORK/repo
mkdir -p "$EXT_FILES" "$EXT_REPO" "$WORK/home"
echo "hello from a file" > "$EXT_FILES/hello.txt"
git -C "$EXT_REPO" init -q
git -C "$EXT_REPO" -c user.name=test -c user.email=test@localhost -c commit.gpgsign=false \
  commit -q --allow-empty -m "the only commit"

# Each remote: its name, the path and the transport that hub.toml says, and what serves it at PORT. The names are those
# that the clients know: the five real servers, then the ones with the checks of eras.md.
PATHS=() PORTS=()
remote() { # remote NAME PATH TRANSPORT COMMAND... with {port} in it
  local name=$1 path=$2 transport=$3 port; shift 3
  port=$(free_port)
  start_beside "$name" "$port" "${@//\{port\}/$port}" || return 1
  printf '\n[upstreams.%s]\nurl = "http://127.0.0.1:%s%s"\n' "${name#everything-}" "$port" "$path" >> "$WORK/$name.part"
  [ "$transport" = auto ] || printf 'transport = "%s"\n' "$transport" >> "$WORK/$name.part"
  # The arguments of `hubward connect`, as JSON.
  printf '"%s": [%s"http://127.0.0.1:%s%s"]\n' "$name" \
    "$([ "$transport" = auto ] || printf -- '"--transport", "%s", ' "${transport/-/}")" "$port" "$path" >> "$WORK/connect.json"
}
PYTHON=$DIR/py/bin/python
all=yes
remote everything /mcp streamable-http env PORT={port} "$NODE" "$NPM/mcp-server-everything" streamableHttp || all=
remote everything-sse /sse sse env PORT={port} "$NODE" "$NPM/mcp-server-everything" sse || all=
remote memory /mcp auto env MEMORY_FILE_PATH="$WORK/memory.jsonl" \
  "$NODE" "$PROXY" --host 127.0.0.1 --port {port} -- "$NODE" "$NPM/mcp-server-memory" || all=
remote filesystem /sse sse "$NODE" "$PROXY" --host 127.0.0.1 --port {port} -- "$NODE" "$NPM/mcp-server-filesystem" "$EXT_FILES" || all=
remote time /mcp auto "$PYPROXY" --port {port} --pass-environment -- "$PYTHON" -m mcp_server_time --local-timezone UTC || all=
remote git /sse auto "$PYPROXY" --port {port} --pass-environment -- "$PYTHON" -m mcp_server_git --repository "$EXT_REPO" || all=
remote legacy /mcp auto "$NODE" "$DIR/js/conformance-stdio-server.mjs" --http {port} || all=
remote legacy-sse /sse auto "$NODE" "$DIR/js/conformance-stdio-server.mjs" --http-sse {port} || all=
remote modern /mcp auto "$NODE" "$DIR/js/conformance-stdio-server-2026.mjs" --modern --http {port} || all=
remote both /mcp auto "$NODE" "$DIR/js/conformance-stdio-server-2026.mjs" --http {port} || all=
remote python /mcp auto "$PYTHON" "$EXT/remotes/server.py" streamable-http {port} || all=
[ -n "$all" ] || exit 1
MOUNTS="legacy legacy-sse modern both python"
EXT_CONNECT="{$(paste -sd, "$WORK/connect.json")}"; export EXT_CONNECT

PORT=$(free_port)
hub_head "$PORT" > "$WORK/hub.toml"
for each in everything memory filesystem time git $MOUNTS; do cat "$WORK/$each.part"; done >> "$WORK/hub.toml"
start_hub "$WORK/hub.toml" "$PORT" || exit 1
FIRST=$BASE
# A hub has one mount of a name, and the clients know `everything` by it: its other transport needs a hub of its own.
PORT=$(free_port)
{ hub_head "$PORT"; sed 's/^\[upstreams.sse\]/[upstreams.everything]/' "$WORK/everything-sse.part"; } > "$WORK/sse.toml"
start_hub "$WORK/sse.toml" "$PORT" sse || exit 1
SECOND=$BASE

for client in ${*:-$CLIENTS}; do
  case $client in
    *-pinned|ts2-connect-legacy) client_command "$client" "$FIRST" $MOUNTS && run_client remote/ "$client";;
    ts2-legacy|py-legacy)
      client_command "$client" "$FIRST" && run_client remote/ "$client"
      client_command "$client" "$FIRST" $MOUNTS && run_client remote/ "$client"
      client_command "$client" "$SECOND" && EXT_SERVERS=everything run_client remote-sse/ "$client";;
    ts1-http|*-auto)
      client_command "$client" "$FIRST" && run_client remote/ "$client"
      [ "$client" = ts2-connect-auto ] || { client_command "$client" "$SECOND" && EXT_SERVERS=everything run_client remote-sse/ "$client"; };;
    *) client_command "$client" "$FIRST" && run_client remote/ "$client";;
  esac
done
[ "$FAILURES" = 0 ] || hub_tail
