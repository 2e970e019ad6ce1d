#!/usr/bin/env bash
# Hubs behind nginx, HAProxy and Caddy (Debian's): one hub before their configuration as it comes, and three hubs that
# are restarted and upgraded one after the other while real clients use them. The balancers' files are in fleet/;
# docs/behind-a-proxy.md shows them.
#   fleet.sh                   Environment: HUBWARD, HUBWARD_EXTERNAL_DIR (see setup.sh), KEEP=1 keeps the temporary folder.
set -uo pipefail
shopt -s extglob
. "$(dirname "$0")/lib.sh"
ROOT=$DIR/balancers
LIBS=$(find "$ROOT/usr/lib" -maxdepth 1 -type d 2> /dev/null | paste -sd:)
BALANCERS="nginx haproxy caddy"
[ -x "$ROOT/usr/sbin/nginx" ] || { fail "fleet - start: no balancers in $ROOT (setup.sh unpacks them on Debian)"; exit 1; }
export NO_COLOR=1 HUBWARD EXT_ROLLED=$WORK/rolled CLIENT_LIMIT_MS=400000
EXT_TOKEN=$(head -c 24 /dev/urandom | od -An -tx1 | tr -d ' \n'); export EXT_TOKEN
mkdir -p "$WORK/home"

is() { # is BALANCER WHAT GOT WANTED
  # shellcheck disable=SC2254
  case $3 in $4) ok "fleet $1 - $2";; *) fail "fleet $1 - $2: $(echo "$3" | tr '\n' ' ' | cut -c1-300), has to be $4";; esac
}

# 1. The hubs. Each of the three has a program file of its own, which an upgrade replaces.
read -r -a PORTS <<< "$(python3 -c 'import socket
all = [socket.socket() for _ in range(20)]
[one.bind(("127.0.0.1", 0)) for one in all]
print(*[one.getsockname()[1] for one in all])')"
hub() { # hub NAME PORT: its hub.toml
  local who
  hub_head "$2" | sed 's/^drain_timeout.*/drain_timeout = "9s"\ndrain_delay = "4s"\nallowed_hosts = ["mcp.example.com"]/'
  printf '\n[hub.auth]\ntokens = [\n'
  for who in idle curl {ts1,ts2,connect,py-legacy,py-pinned}-{0,1,2}; do
    printf '  { name = "%s", sha256 = "%s" },\n' "$who" "$(printf %s "$who-$EXT_TOKEN" | sha256sum | cut -d' ' -f1)"
  done
  printf ']\n\n[upstreams.demo]\ncommand = "%s"\nargs = ["demo"]\n' "$HUBWARD"
}
OLD=$HUBWARD NEW=$WORK/new
# Another file that is the same program: nobody can say of its bytes that they are the old ones.
strip -o "$NEW" "$OLD" 2> /dev/null || { cp "$OLD" "$NEW"; echo >> "$NEW"; }
NAMES=(one two three lone)
for i in 0 1 2 3; do
  mkdir -p "$WORK/${NAMES[$i]}"
  ln "$OLD" "$WORK/${NAMES[$i]}/hubward" 2> /dev/null || cp "$OLD" "$WORK/${NAMES[$i]}/hubward"
  hub "${NAMES[$i]}" "${PORTS[$i]}" > "$WORK/${NAMES[$i]}/hub.toml"
done
run_hub() { # run_hub I
  local name=${NAMES[$1]}
  HUBWARD=$WORK/$name/hubward start_hub "$WORK/$name/hub.toml" "${PORTS[$1]}" "$name"
}
for i in 0 1 2 3; do run_hub $i || exit 1; done

# 2. The balancers: Debian's own configuration, with ours behind it.
filled() { # filled FILE PORT [HUB]: with the ports of this run; HUB is the one where there is but one
  local one=${3:-0}
  sed -e "s/10\.0\.0\.1:8808/127.0.0.1:${PORTS[$one]}/g; s/10\.0\.0\.2:8808/127.0.0.1:${PORTS[1]}/g; s/10\.0\.0\.3:8808/127.0.0.1:${PORTS[2]}/g" \
    -e "s/listen 80;/listen 127.0.0.1:$2;/; s/bind :80/bind 127.0.0.1:$2/" \
    -e "s,^http://mcp\.example\.com,http://:$2,; s,^http://\*\.mcp\.example\.com,&:$2," "$EXT/fleet/$1"
}
ONE=() SEVERAL=() SUBS=()
at=4; for b in $BALANCERS; do ONE+=("${PORTS[$at]}") SEVERAL+=("${PORTS[$at + 1]}") SUBS+=("${PORTS[$at + 2]}"); at=$((at + 3)); done
ROBIN=${PORTS[13]} BY_ID=${PORTS[14]} HELD=${PORTS[15]} MUTE=${PORTS[16]} CUT_NGINX=${PORTS[17]} CUT_HAPROXY=${PORTS[18]}

mkdir -p "$WORK/nginx/conf.d" "$WORK/nginx/tmp"
{
  for each in client_body proxy fastcgi uwsgi scgi; do echo "${each}_temp_path $WORK/nginx/tmp/$each;"; done
  filled one.nginx.conf "${ONE[0]}" 3
  filled several.nginx.conf "${SEVERAL[0]}"
  filled subdomains.nginx.conf "${SUBS[0]}" 3
  # What does not do, and what we do not do.
  servers=$(for i in 0 1 2; do echo "server 127.0.0.1:${PORTS[$i]};"; done)
  echo "upstream robin { $servers }  upstream by_id { hash \$http_mcp_session_id consistent; $servers }"
  echo "server { listen 127.0.0.1:$ROBIN; location / { proxy_pass http://robin; proxy_set_header Host \$host; } }"
  echo "server { listen 127.0.0.1:$BY_ID; location / { proxy_pass http://by_id; proxy_set_header Host \$host; } }"
  echo "server { listen 127.0.0.1:$CUT_NGINX; location / { proxy_pass http://127.0.0.1:$MUTE; } }"
} > "$WORK/nginx/conf.d/hubward.conf"
sed -e "s,/etc/nginx/conf.d,$WORK/nginx/conf.d,; s,/etc/nginx,$ROOT/etc/nginx,; s,/var/log/nginx,$WORK/nginx,; s,^pid .*,pid $WORK/nginx/pid;," \
  -e "s/^user .*/user $(id -un) $(id -gn);/; /sites-enabled\|modules-enabled/d" "$ROOT/etc/nginx/nginx.conf" > "$WORK/nginx/nginx.conf"
{
  sed -n '/^defaults/,$p' "$ROOT/etc/haproxy/haproxy.cfg" | sed "s,/etc/haproxy,$ROOT/etc/haproxy,; /^\tlog/d"
  filled several.haproxy.cfg "${SEVERAL[1]}" | sed 's/^frontend mcp/frontend several/'
  filled one.haproxy.cfg "${ONE[1]}" 3
  filled subdomains.haproxy.cfg "${SUBS[1]}" 3
  printf 'frontend held\n bind 127.0.0.1:%s\n http-response wait-for-body time 30s\n default_backend hub\n' "$HELD"
  printf 'listen cut\n bind 127.0.0.1:%s\n server mute 127.0.0.1:%s\n' "$CUT_HAPROXY" "$MUTE"
} > "$WORK/haproxy.cfg"
{
  printf '{\n\tadmin off\n\tauto_https off\n}\n'
  filled one.Caddyfile "${ONE[2]}" 3
  filled several.Caddyfile "${SEVERAL[2]}"
  filled subdomains.Caddyfile "${SUBS[2]}" 3
} > "$WORK/Caddyfile"
export LD_LIBRARY_PATH=$LIBS
start_beside nginx "${ONE[0]}" "$ROOT/usr/sbin/nginx" -e "$WORK/nginx/error.log" -c "$WORK/nginx/nginx.conf" -g 'daemon off;' &&
  start_beside haproxy "${ONE[1]}" "$ROOT/usr/sbin/haproxy" -db -f "$WORK/haproxy.cfg" &&
  start_beside caddy "${ONE[2]}" env XDG_CONFIG_HOME="$WORK" XDG_DATA_HOME="$WORK" \
    "$ROOT/usr/bin/caddy" run --adapter caddyfile --config "$WORK/Caddyfile" || exit 1
unset LD_LIBRARY_PATH
# A server of event streams that says one thing, and nothing after it.
start_beside mute "$MUTE" "$NODE" -e '
  require("http").createServer((_, answer) => {
    answer.writeHead(200, { "content-type": "text/event-stream" }); answer.write("data: once\n\n");
  }).listen(process.argv[1], "127.0.0.1")' "$MUTE" || exit 1

# 3. Programs in the background; what they print is shown when they have ended.
PARTS=()
beside() { # beside NAME COMMAND...
  local name=$1; shift
  HOME="$WORK/home" env "$MARK" "$@" < /dev/null > "$WORK/$name.lines" 2> "$WORK/$name.err" & BESIDE+=("$!")
  PARTS+=("$!:$name")
}
collect() { # collect PATTERN: waits for those whose name fits
  local each pid name rc bad
  for each in "${PARTS[@]}"; do
    pid=${each%%:*} name=${each#*:}
    case $name in $1) ;; *) continue;; esac
    wait "$pid"; rc=$?
    grep -aE '^(ok|FAIL) ' "$WORK/$name.lines" | tee -a "$RESULTS"
    bad=$(grep -acE '^FAIL ' "$WORK/$name.lines"); FAILURES=$((FAILURES + bad))
    [ "$rc" = 0 ] || [ "$bad" != 0 ] || { fail "fleet ${name#*-} - ${name%%-*}: ended with $rc"; bad=1; }
    [ "$bad" = 0 ] || { echo "---- $name"; tail -n 30 "$WORK/$name.err" | cut -c1-300; }
  done
}
at=0; for b in $BALANCERS; do
  beside "idle-$b" "$NODE" "$DIR/js/fleet.mjs" idle "$b" "http://127.0.0.1:${ONE[$at]}"
  at=$((at + 1))
done
# Without comments nginx cuts a silent stream after 60 s, HAProxy after 50: else the streams above would show nothing.
for b in nginx haproxy; do
  [ $b = nginx ] && port=$CUT_NGINX || port=$CUT_HAPROXY
  beside "cut-$b" curl -sN -m 90 -o /dev/null -w '%{time_total}' "http://127.0.0.1:$port/"
done

# 4. One after the other, meanwhile.
TOKEN="authorization: Bearer curl-$EXT_TOKEN"
say() { # say URL BODY [CURL…]
  local url=$1 body=$2; shift 2
  curl -s -m 20 "$url" -H "$TOKEN" -H 'content-type: application/json' -H 'accept: application/json, text/event-stream' -d "$body" "$@"
}
HELLO='{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"curl","version":"1"}}}'
LIST='{"jsonrpc":"2.0","id":2,"method":"tools/list"}'
astray() { # astray PORT: of ten sessions, how many are not found by their next request
  local n id lost=0
  for n in $(seq 10); do
    id=$(say "http://127.0.0.1:$1/demo/mcp" "$HELLO" -o /dev/null -D - | tr -d '\r' | sed -n 's/^mcp-session-id: //Ip')
    [ "$(say "http://127.0.0.1:$1/demo/mcp" "$LIST" -o /dev/null -w '%{http_code}' -H "mcp-session-id: $id")" = 404 ] && lost=$((lost + 1))
  done
  echo $lost
}
is nginx 'in turn, sessions are lost at their next request' "$(astray "$ROBIN")" '@([5-9]|10)'
is nginx 'by the session id alone, most are: it is not there before the session is' "$(astray "$BY_ID")" '@([2-9]|10)'

doctor() { # doctor PORT: what it says of event streams there
  bounded 60 "$HUBWARD" doctor --json -H "$TOKEN" "http://127.0.0.1:$1/demo/mcp" 2> "$WORK/doctor.err" > "$WORK/doctor.json"
  python3 -c 'import json, sys
print(*[one["verdict"] + ": " + one["seen"] for one in json.load(open(sys.argv[1]))["findings"] if one["step"] == "stream"] or "nothing")' "$WORK/doctor.json"
}
at=0; for b in $BALANCERS; do
  is "$b" 'doctor finds the stream in order' "$(doctor "${ONE[$at]}")" 'ok: *'
  # The name of a service in the name of the host.
  sub=http://127.0.0.1:${SUBS[$at]} name="host: demo.mcp.example.com"
  is "$b" 'a sub-domain for each service (/mcp)' "$(say "$sub/mcp" "$HELLO" -H "$name")" '*hubward-demo*'
  curl -sN -m 20 "$sub/sse" -H "$TOKEN" -H "$name" -H 'accept: text/event-stream' > "$WORK/sse-$b" & stream=$!
  for n in $(seq 50); do grep -qs ^data "$WORK/sse-$b" && break; sleep 0.1; done
  endpoint=$(sed -n 's/^data: //p' "$WORK/sse-$b" | head -n 1)
  is "$b" 'a sub-domain for each service (/sse)' "$endpoint" '/demo/message?sessionId=*'
  is "$b" 'where its messages go' "$(say "$sub$endpoint" "$HELLO" -H "$name" -o /dev/null -w '%{http_code}')" 202
  kill "$stream"; wait "$stream" 2> /dev/null
  at=$((at + 1))
done
is haproxy 'doctor finds a balancer that holds streams back' "$(doctor "$HELD")" 'fail: *'

# 5. The rolling update: told to end, gone, replaced, started, ready; then the next.
at=0; for b in $BALANCERS; do
  beside "ts-$b" "$NODE" "$DIR/js/fleet.mjs" use "$b" "http://127.0.0.1:${SEVERAL[$at]}"
  beside "py-$b" "$DIR/py/bin/python" "$EXT/fleet/fleet.py" "$b" "http://127.0.0.1:${SEVERAL[$at]}"
  at=$((at + 1))
done
in_use() { [ "$(cat "$WORK"/{ts,py}-*.err | grep -c 'fleet: in use')" = 9 ]; }
for n in $(seq 600); do in_use && break; sleep 0.1; done
ended() { # ended I: tells a hub to end, waits until it has, and takes it from the list
  local i pid n
  for ((i = 0; i < ${#HUBS[@]}; i++)); do
    [ "${HUBS[$i]#*:}" = "${NAMES[$1]}" ] || continue
    pid=${HUBS[$i]%%:*}
    kill -TERM "$pid"
    for n in $(seq 900); do kill -0 "$pid" 2> /dev/null || break; sleep 0.1; done
    wait "$pid"; is - "${NAMES[$1]} ends" $? 0
    unset "HUBS[$i]"; HUBS=("${HUBS[@]}")
    return
  done
}
for i in 0 1 2; do
  ended $i
  cp "$NEW" "$WORK/${NAMES[$i]}/next" && mv "$WORK/${NAMES[$i]}/next" "$WORK/${NAMES[$i]}/hubward"
  run_hub $i || exit 1
  pid=${HUBS[-1]%%:*}
  is - "${NAMES[$i]} is the new program" "$(cmp "/proc/$pid/exe" "$NEW" && echo same)" same
  # A balancer may know it again before the next one goes.
  sleep 3
done
touch "$EXT_ROLLED"
collect 'ts-*'
collect 'py-*'
collect 'idle-*'
for b in nginx haproxy; do
  wait "$(printf '%s\n' "${PARTS[@]}" | sed -n "s/:cut-$b$//p")"
  is $b 'a stream without comments is cut' "$(sed 's/\..*//' "$WORK/cut-$b.lines")" '@(49|5?|6?)'
done
