# Sourced by the scripts beside it: one hub, its folder, its end, and the lines of the result.
#   EXT      this folder          DIR   what setup.sh installed        NODE  the Node of it
#   WORK     a temporary folder, removed at the end
#   RESULTS  a file that collects every "ok …" and "FAIL …" line, when the caller names one
EXT=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
DIR=${HUBWARD_EXTERNAL_DIR:-$EXT/.cache}
mkdir -p "$DIR"; DIR=$(cd "$DIR" && pwd)
NODE=$DIR/node22/node_modules/.bin/node
HUBWARD=${HUBWARD:-${CARGO_TARGET_DIR:-$EXT/../../target}/debug/hubward}
case $HUBWARD in /*) ;; *) HUBWARD=$PWD/$HUBWARD;; esac
RESULTS=${RESULTS:-/dev/null}
FAILURES=0
HUB_PID=
BUSY_PID=
WORK=$(mktemp -d "${TMPDIR:-/tmp}/hubward-external.XXXXXX")
MARK=HUBWARD_EXTERNAL_RUN=$(basename "$WORK")      # in the environment of every upstream: finds what is left over

ok() { echo "ok $*" | tee -a "$RESULTS"; }
fail() { FAILURES=$((FAILURES + 1)); echo "FAIL $*" | tee -a "$RESULTS"; }
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

# Runs one program in the background and waits, so that a signal to this script is obeyed at once.
bounded() { # bounded SECONDS COMMAND...
  local seconds=$1 rc; shift
  timeout -k 5 "$seconds" "$@" < /dev/null & BUSY_PID=$!
  wait "$BUSY_PID"; rc=$?; BUSY_PID=
  return $rc
}

start_hub() { # start_hub CONFIG PORT
  HUB_PORT=$2 BASE=http://127.0.0.1:$2
  [ -x "$HUBWARD" ] || { fail "hub - start: no program $HUBWARD (cargo build makes it)"; return 1; }
  (cd "$WORK" && exec env HOME="$WORK" XDG_RUNTIME_DIR="$WORK" "$HUBWARD" serve -c "$1") \
    < /dev/null > "$WORK/hub.out" 2> "$WORK/hub.log" & HUB_PID=$!
  local n
  for n in $(seq 300); do
    [ "$(curl -s -o /dev/null -m 2 -w '%{http_code}' "$BASE/readyz")" = 200 ] && { ok "hub - start"; return 0; }
    kill -0 "$HUB_PID" 2> /dev/null || break
    sleep 0.2
  done
  fail "hub - start: /readyz did not answer 200"; hub_tail; return 1
}

# Processes of ours by their mark, wherever they ended up.
leftovers() {
  local f pid
  for f in /proc/[0-9]*/environ; do
    pid=${f#/proc/}; pid=${pid%/environ}
    { tr '\0' '\n' < "$f" | grep -qxF "$MARK" && ! grep -q '^State:.*Z' "/proc/$pid/status" && echo "$pid"; } 2> /dev/null
  done
}

stop_hub() { # ends the hub as systemd would; everything it started has to be gone with it
  [ -n "$HUB_PID" ] || return 0
  local pid=$HUB_PID n left gone=; HUB_PID=
  kill -TERM "$pid" 2> /dev/null || gone=yes
  for n in $(seq 150); do kill -0 "$pid" 2> /dev/null || break; sleep 0.1; done
  if [ -n "$gone" ]; then fail "hub - stop: it had ended by itself"
  elif kill -0 "$pid" 2> /dev/null; then fail "hub - stop: alive 15 s after SIGTERM"; kill -KILL "$pid"; else ok "hub - stop"; fi
  wait "$pid" 2> /dev/null
  [ -d /proc/self ] || return 0
  left=$(leftovers)
  [ -z "$left" ] || { sleep 1; left=$(leftovers); }
  if [ -z "$left" ]; then ok "hub - no process is left"; else
    fail "hub - no process is left: $(for n in $left; do tr '\0' ' ' < "/proc/$n/cmdline"; done 2> /dev/null | cut -c1-300)"
    kill -KILL $left 2> /dev/null
  fi
}

hub_tail() { echo "---- the last lines of the hub's log"; tail -n "${1:-40}" "$WORK/hub.log" | cut -c1-400; echo "----"; }

end_all() {
  local rc=$?
  trap - EXIT INT TERM
  [ -z "$BUSY_PID" ] || kill -TERM "$BUSY_PID" 2> /dev/null
  stop_hub
  [ -z "${KEEP:-}" ] && rm -rf "$WORK" || echo "kept: $WORK"
  [ "$FAILURES" = 0 ] || rc=1
  exit "$rc"
}
trap end_all EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
