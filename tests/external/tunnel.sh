#!/usr/bin/env bash
# `hubward proxy --tunnel` before real tunnel servers, pipenet's of npm: ten tunnels at once, both transports, streams that
# are idle for a minute, a name that is taken, a server that is started anew, the end.
#   tunnel.sh
# Environment: HUBWARD, HUBWARD_EXTERNAL_DIR (see setup.sh), KEEP=1 keeps the temporary folder.
set -uo pipefail
. "$(dirname "$0")/lib.sh"
[ -x "$HUBWARD" ] || { fail "tunnel - there is no program $HUBWARD (cargo build makes it)"; exit 1; }
PIPENET=$DIR/tunnel/node_modules/pipenet/dist/cli.js
IDLE=61
read -r -a PORTS <<< "$(python3 -c 'import socket
all = [socket.socket() for _ in range(5)]
[one.bind(("127.0.0.1", 0)) for one in all]
print(*[one.getsockname()[1] for one in all])')"
# One port for the connections of all, one for each tunnel, and one of the first kind that is started anew.
SHARED=${PORTS[0]} EACH=${PORTS[1]} ANEW=${PORTS[2]}

pipenet() { # pipenet NAME PORT [--tunnel-port PORT]
  local name=$1 port=$2; shift 2
  start_beside "$name" "$port" "$NODE" "$PIPENET" server --port "$port" --address 127.0.0.1 --domain localhost "$@"
}
tunnel() { # tunnel NAME SERVER_PORT [FLAG…]: a hub with a tunnel there
  local name=$1 port=$2; shift 2
  env "$MARK" HOME="$WORK" NO_PROXY=localhost "$HUBWARD" proxy --bind 127.0.0.1:0 --allow-unauthenticated --tunnel \
    --tunnel-host "http://localhost:$port" "$@" -- "$HUBWARD" demo < /dev/null > "$WORK/$name.out" 2> "$WORK/$name.log" &
  HUBS+=("$!:$name")
}
url() { # url NAME: where its tunnel leads, once that is printed
  local n found
  for n in $(seq 150); do
    found=$(grep -oE 'http://[a-z0-9-]+\.localhost:[0-9]+' "$WORK/$1.out" | tail -n 1)
    [ -z "$found" ] || { echo "$found"; return 0; }
    sleep 0.1
  done
  return 1
}
ask() { # ask FILE LABEL URL http|sse [IDLE]
  printf '{"label":"%s","url":"%s%s","way":"%s","idle":%s}\n' "$2" "$3" "$([ "$4" = sse ] && echo /sse || echo /mcp)" "$4" "${5:-0}" >> "$1"
}
asked() { RUN=("$NODE" "$DIR/js/tunnel.mjs" "$1") && run_client "" "$2"; }
known() { curl -s -o /dev/null -m 2 -w '%{http_code}' "http://127.0.0.1:$SHARED/api/tunnels/$1/status"; }

pipenet shared "$SHARED" --tunnel-port "${PORTS[3]}" && pipenet each "$EACH" && pipenet anew "$ANEW" --tunnel-port "${PORTS[4]}" || exit 1
for n in 0 1 2 3 4 5 6 7 8 9; do tunnel "many$n" "$SHARED" --tunnel-subdomain "many-$n-x"; done
tunnel random "$EACH"; tunnel named "$EACH" --tunnelSubdomain named; tunnel anew-hub "$ANEW" --tunnel-subdomain again; tunnel anew-random "$ANEW"
for n in 0 1 2 3 4 5 6 7 8 9; do
  [ "$(url "many$n")" = "http://many-$n-x.localhost:$SHARED" ] || fail "tunnel - many$n has its name: $(url "many$n")"
  ask "$WORK/first" "ten tunnels at once, $n" "http://many-$n-x.localhost:$SHARED" http
  ask "$WORK/first" "ten tunnels at once, $n (event stream)" "http://many-$n-x.localhost:$SHARED" sse
done
ask "$WORK/first" "a random name, a port of its own" "$(url random)" http
ask "$WORK/first" "a random name, a port of its own (event stream)" "$(url random)" sse
for way in http sse; do
  ask "$WORK/idle" "idle for $IDLE s, one port for all ($way)" "http://many-9-x.localhost:$SHARED" $way $IDLE
  ask "$WORK/idle" "idle for $IDLE s, a port of its own ($way)" "$(url named)" $way $IDLE
done
# All of this happens while those are idle.
"$NODE" "$DIR/js/tunnel.mjs" "$WORK/idle" > "$WORK/idle.out" 2> "$WORK/idle.err" < /dev/null & LONG=$!
asked "$WORK/first" first

tunnel late "$SHARED" --tunnel-subdomain many-0-x
late=$(url late)
if [ -n "$late" ] && [ "$late" != "http://many-0-x.localhost:$SHARED" ] && grep -q 'this one is taken' "$WORK/late.log"; then
  ok "tunnel - a name that is taken: the truth is told"
  ask "$WORK/truth" "where the truth leads" "$late" http && asked "$WORK/truth" after-late
else fail "tunnel - a name that is taken: $late"; fi

before=$(url anew-random)
ask "$WORK/anew" "a server that was started anew" "$(url anew-hub)" http
ask "$WORK/anew" "a server that was started anew, random name" "$before" sse
asked "$WORK/anew" anew-before
kill -KILL "${BESIDE[2]}"; wait "${BESIDE[2]}" 2> /dev/null; unset 'BESIDE[2]'
pipenet anew "$ANEW" --tunnel-port "${PORTS[4]}"
for n in $(seq 150); do
  [ "$(curl -s -m 2 "http://127.0.0.1:$ANEW/api/status" | grep -o '"tunnels":[0-9]*')" = '"tunnels":2' ] && break; sleep 0.2
done
asked "$WORK/anew" anew-after

pid=; for each in "${HUBS[@]}"; do [ "${each#*:}" = many8 ] && pid=${each%%:*}; done
[ "$(known many-8-x)" = 200 ] || fail "tunnel - the server knows the tunnel: $(known many-8-x)"
kill -TERM "$pid"; wait "$pid"
for n in $(seq 30); do [ "$(known many-8-x)" = 404 ] && break; sleep 0.1; done
[ "$(known many-8-x)" = 404 ] && ok "tunnel - a hub that ends leaves no tunnel behind" || fail "tunnel - the server still knows it"
for n in "${!HUBS[@]}"; do [ "${HUBS[$n]#*:}" = many8 ] && unset "HUBS[$n]"; done; HUBS=("${HUBS[@]}")

BUSY_PID=$LONG; wait "$LONG"; BUSY_PID=
RUN=(cat "$WORK/idle.out") && run_client "" idle-streams
