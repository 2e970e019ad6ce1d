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

# Each remote: its name, the path and the transport that hub.toml says, and what serves it. The names are those
# that the clients know: the five real servers, then the ones with the checks of eras.md.
remote() { # remote NAME PATH TRANSPORT COMMAND... with {port} in it
  local name=$1 path=$2 transport=$3 port; shift 3
  port=$(free_port)
  start_beside "$name" "$port" "${@//\{port\}/$port}" || return 1
  printf '\n[upstreams.%s]\nurl = "http://127.0.0.1:%s%s"\n' "$name" "$port" "$path" >> "$WORK/$name.part"
  [ "$transport" = auto ] || printf 'transport = "%s"\n' "$transport" >> "$WORK/$name.part"
  # The arguments of `hubward connect`, as JSON.
  local flags=; [ "$transport" = auto ] || flags="\"--transport\", \"$transport\", "
  printf '"%s": [%s"http://127.0.0.1:%s%s"]\n' "$name" "$flags" "$port" "$path" >> "$WORK/connect.json"
}
PYTHON=$DIR/py/bin/python
all=yes
remote everything /mcp streamable-http env PORT={port} "$NODE" "$NPM/mcp-server-everything" streamableHttp || all=
remote everything-sse /sse sse env PORT={port} "$NODE" "$NPM/mcp-server-everything" sse || all=
remote memory /mcp auto env MEMORY_FILE_PATH="$WORK/memory.jsonl" \
  "$NODE" "$PROXY" --host 127.0.0.1 --port {port} -- "$NODE" "$NPM/mcp-server-memory" || all=
remote filesystem /sse sse \
  "$NODE" "$PROXY" --host 127.0.0.1 --port {port} -- "$NODE" "$NPM/mcp-server-filesystem" "$EXT_FILES" || all=
remote time /mcp auto "$PYPROXY" --port {port} --pass-environment -- \
  "$PYTHON" -m mcp_server_time --local-timezone UTC || all=
remote git /sse auto "$PYPROXY" --port {port} --pass-environment -- \
  "$PYTHON" -m mcp_server_git --repository "$EXT_REPO" || all=
remote legacy /mcp auto "$NODE" "$DIR/js/conformance-stdio-server.mjs" --http {port} || all=
remote legacy-sse /sse auto "$NODE" "$DIR/js/conformance-stdio-server.mjs" --http-sse {port} || all=
remote modern /mcp auto "$NODE" "$DIR/js/conformance-stdio-server-2026.mjs" --modern --http {port} || all=
remote both /mcp auto "$NODE" "$DIR/js/conformance-stdio-server-2026.mjs" --http {port} || all=
remote python /mcp auto "$PYTHON" "$EXT/remotes/server.py" streamable-http {port} || all=
remote python-sse /sse sse "$PYTHON" "$EXT/remotes/server.py" sse {port} || all=
[ -n "$all" ] || exit 1
MOUNTS="legacy legacy-sse modern both python python-sse"
EXT_CONNECT="{$(paste -sd, "$WORK/connect.json")}"; export EXT_CONNECT

PORT=$(free_port)
hub_head "$PORT" > "$WORK/hub.toml"
for each in everything memory filesystem time git $MOUNTS; do cat "$WORK/$each.part"; done >> "$WORK/hub.toml"
start_hub "$WORK/hub.toml" "$PORT" || exit 1
FIRST=$BASE
# A hub has one mount of a name, and the clients know `everything` by it: its other transport needs a hub of its own.
PORT=$(free_port)
{ hub_head "$PORT"; sed 's/everything-sse/everything/' "$WORK/everything-sse.part"; } > "$WORK/sse.toml"
start_hub "$WORK/sse.toml" "$PORT" sse || exit 1
SECOND=$BASE

real() { # real CLIENT: the five real servers
  client_command "$1" "$FIRST" && run_client remote/ "$1"
}
over_sse() { # over_sse CLIENT: everything, which talks most, over the older transport
  client_command "$1" "$SECOND" && EXT_SERVERS=everything run_client remote-sse/ "$1"
}
eras() { # eras CLIENT: the checks of eras.md
  local most=connect,list,call,progress,elicitation,sampling,cancel
  client_command "$1" "$FIRST" legacy legacy-sse modern both && run_client remote/ "$1"
  # The Python SDK has log levels and subscriptions in the newer era only; a client of the older one gets the latter.
  case $1 in
    *-pinned) client_command "$1" "$FIRST" python && run_client remote/ "$1";;
    *) client_command "$1" "$FIRST" python && EXT_ERA_CHECKS=$most,subscription run_client remote/ "$1";;
  esac
  client_command "$1" "$FIRST" python-sse && EXT_ERA_CHECKS=$most run_client remote/ "$1"
}
connect_ends() { # connect_ends SERVER: a host that closes our stdin is about to wait for our end
  local began out url took
  url=$(sed -nE "s/^\"$1\": .*\"(http.*)\"\]/\1/p" "$WORK/connect.json")
  out=$({ printf '{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25",'
    printf '"capabilities":{},"clientInfo":{"name":"host","version":"1"}}}\n'; sleep 1
    printf '{"jsonrpc":"2.0","method":"notifications/initialized"}\n'; sleep 1; date +%s%N > "$WORK/closed"
  } | HOME=$WORK/home timeout -k 5 15 "$HUBWARD" connect "$url" 2> "$WORK/ends.err")
  began=$(cat "$WORK/closed") took=$((($(date +%s%N) - began) / 1000000))
  case $out in *'"result"'*) ;; *) fail "connect $1 ends with its stdin: it did not answer"; return;; esac
  if [ "$took" -lt 1500 ]; then ok "connect $1 ends with its stdin"
  else fail "connect $1 ends with its stdin: $took ms after it"; tail -n 5 "$WORK/ends.err"; fi
}
case ${*:-$CLIENTS} in *connect*) for each in legacy filesystem modern; do connect_ends "$each"; done;; esac

for client in ${*:-$CLIENTS}; do
  case $client in
    *-pinned|ts2-connect-legacy) eras "$client";;
    ts2-legacy|py-legacy) real "$client"; over_sse "$client"; eras "$client";;
    ts1-http|ts2-auto|py-auto) real "$client"; over_sse "$client";;
    *) real "$client";;
  esac
done
