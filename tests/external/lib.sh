# Sourced by the scripts beside it: hubs, servers beside them, their folder, their end, and the lines of the result.
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
HUBS=()            # the process, and the name of the log, of each hub
BESIDE=()          # the servers that the hubs did not start
BUSY_PID=
WORK=$(mktemp -d "${TMPDIR:-/tmp}/hubward-external.XXXXXX")
MARK=HUBWARD_EXTERNAL_RUN=$(basename "$WORK")      # in the environment of every upstream: finds what is left over

ok() { echo "ok $*" | tee -a "$RESULTS"; }
fail() { FAILURES=$((FAILURES + 1)); echo "FAIL $*" | tee -a "$RESULTS"; }
# Checks of a script whose lines begin with PART.
is() { # is WHAT GOT WANTED
  if [ "$2" = "$3" ]; then ok "$PART - $1"
  else fail "$PART - $1: $(echo "$2" | tr '\n' ' ' | cut -c1-200), has to be $3"; fi
}
has() { # has WHAT TEXT PART
  case $2 in *"$3"*) ok "$PART - $1";; *) fail "$PART - $1: no '$3' in: $(echo "$2" | tr '\n' ' ' | cut -c1-250)";; esac
}
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

# Runs one program in the background and waits, so that a signal to this script is obeyed at once.
bounded() { # bounded SECONDS COMMAND...
  local seconds=$1 rc; shift
  timeout -k 5 "$seconds" "$@" < /dev/null & BUSY_PID=$!
  wait "$BUSY_PID"; rc=$?; BUSY_PID=
  return $rc
}

# The top of every hub.toml here; it ends within [defaults], for what a script has to add there.
hub_head() { # hub_head PORT
  cat << TOML
[hub]
bind = ["127.0.0.1:$1"]
drain_timeout = "5s"

[defaults]
env = { ${MARK%%=*} = "${MARK#*=}" }
TOML
}

start_hub() { # start_hub CONFIG PORT [NAME]: BASE becomes its address, NAME.out and NAME.log what it says
  local name=${3:-hub} n pid
  BASE=http://127.0.0.1:$2
  [ -x "$HUBWARD" ] || { fail "$name - start: no program $HUBWARD (cargo build makes it)"; return 1; }
  (cd "$WORK" && exec env HOME="$WORK" XDG_RUNTIME_DIR="$WORK" "$HUBWARD" serve -c "$1") \
    < /dev/null > "$WORK/$name.out" 2> "$WORK/$name.log" & pid=$!
  HUBS+=("$pid:$name")
  for n in $(seq 300); do
    [ "$(curl -s -o /dev/null -m 2 -w '%{http_code}' "$BASE/readyz")" = 200 ] && { ok "$name - start"; return 0; }
    kill -0 "$pid" 2> /dev/null || break
    sleep 0.2
  done
  fail "$name - start: /readyz did not answer 200"; hub_tail; return 1
}

start_beside() { # start_beside NAME PORT COMMAND...: a server of somebody else; what it says is in NAME.log
  local name=$1 port=$2 n pid; shift 2
  env "$MARK" HOME="$WORK" "$@" < /dev/null > "$WORK/$name.log" 2>&1 & pid=$!
  BESIDE+=("$pid")
  for n in $(seq 150); do
    (exec 3<> "/dev/tcp/127.0.0.1/$port") 2> /dev/null && return 0
    kill -0 "$pid" 2> /dev/null || break
    sleep 0.2
  done
  fail "$name - start: nobody listens at port $port"; tail -n 20 "$WORK/$name.log" | cut -c1-300; return 1
}

# Processes of ours by their mark, wherever they ended up.
leftovers() {
  local f pid
  for f in /proc/[0-9]*/environ; do
    pid=${f#/proc/}; pid=${pid%/environ}
    { tr '\0' '\n' < "$f" | grep -qxF "$MARK" && ! grep -q '^State:.*Z' "/proc/$pid/status" && echo "$pid"; } 2> /dev/null
  done
}

no_leftovers() { # no_leftovers NAME: a line that says whether every process of ours is gone
  local left n
  [ -d /proc/self ] || return 0
  left=$(leftovers)
  [ -z "$left" ] || { sleep 1; left=$(leftovers); }
  if [ -z "$left" ]; then ok "$1 - no process is left"; else
    fail "$1 - no process is left: $(for n in $left; do tr '\0' ' ' < "/proc/$n/cmdline"; done 2> /dev/null | cut -c1-300)"
    # shellcheck disable=SC2086
    kill -KILL $left 2> /dev/null
  fi
}

stop_hub() { # ends the hubs as systemd would, the last one first; everything they started has to be gone with them
  local each pid name n gone i
  for ((i = ${#HUBS[@]} - 1; i >= 0; i--)); do
    each=${HUBS[$i]} pid=${each%%:*} name=${each#*:} gone=
    kill -TERM "$pid" 2> /dev/null || gone=yes
    for n in $(seq 150); do kill -0 "$pid" 2> /dev/null || break; sleep 0.1; done
    if [ -n "$gone" ]; then fail "$name - stop: it had ended by itself"
    elif kill -0 "$pid" 2> /dev/null; then fail "$name - stop: alive 15 s after SIGTERM"; kill -KILL "$pid"
    else ok "$name - stop"; fi
    wait "$pid" 2> /dev/null
  done
  for pid in "${BESIDE[@]}"; do kill -TERM "$pid" 2> /dev/null; done
  for pid in "${BESIDE[@]}"; do
    for n in $(seq 30); do kill -0 "$pid" 2> /dev/null || break; sleep 0.1; done
    kill -KILL "$pid" 2> /dev/null; wait "$pid" 2> /dev/null
  done
  [ ${#HUBS[@]} = 0 ] || no_leftovers hub
  HUBS=() BESIDE=()
}

hub_tail() { # hub_tail [LINES]
  local each
  for each in "${HUBS[@]}"; do
    echo "---- the last lines of the log of ${each#*:}"; tail -n "${1:-40}" "$WORK/${each#*:}.log" | cut -c1-400
  done
  echo "----"
}

client_command() { # client_command CLIENT BASE [MOUNT…]: what runs it, in RUN
  local client=$1 base=$2; shift 2
  case $client in
    ts1-*) RUN=("$NODE" "$DIR/js/ts1.mjs" "$base" "${client#ts1-}" "$@");;
    ts2-*) RUN=("$NODE" "$DIR/js/ts2.mjs" "$base" "${client#ts2-}" "$@");;
    py-*) RUN=("$DIR/py/bin/python" "$EXT/clients/py.py" "$base" "${client#py-}" "$@");;
    inspector-*) RUN=("$NODE" "$DIR/js/inspector.mjs" "$base" "${client#inspector-}");;
    mcp-remote-*) RUN=("$NODE" "$DIR/js/mcp-remote.mjs" "$base" "${client#mcp-remote-}");;
    *) fail "$client - no such client; there are: $CLIENTS"; return 1;;
  esac
}

run_client() { # run_client PREFIX CLIENT: runs RUN; its lines, with PREFIX before the client's name, are results
  local prefix=$1 client=$2 out=$WORK/$2.out err=$WORK/$2.err began rc bad
  began=$(date +%s)
  HOME="$WORK/home" MCP_REMOTE_CONFIG_DIR="$WORK/home/mcp-auth" PYTHONDONTWRITEBYTECODE=1 \
    bounded 240 "${RUN[@]}" > "$out" 2> "$err"; rc=$?
  grep -aE '^(ok|FAIL) ' "$out" | sed -E "s,^(ok|FAIL) ,&$prefix," | tee -a "$RESULTS"
  bad=$(grep -acE '^FAIL ' "$out"); FAILURES=$((FAILURES + bad))
  if [ "$rc" != 0 ] && [ "$bad" = 0 ]; then fail "$prefix$client - the whole program: exit $rc"; bad=1; fi
  grep -qaE '^ok ' "$out" || [ "$bad" != 0 ] || { fail "$prefix$client - the whole program: no check ran"; bad=1; }
  [ "$bad" = 0 ] || { echo "---- the last lines of $client's stderr"; tail -n 25 "$err" | cut -c1-300; hub_tail 25; }
  echo "   $prefix$client took $(($(date +%s) - began)) s"
}

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
