#!/usr/bin/env bash
# The public MCP conformance suite against the hub, compared with scores.toml.
#   conformance.sh             each row of [session] and [shared]
#   conformance.sh --direct    the rows of [direct]: the test server alone, which is the ceiling
# Environment: HUBWARD, HUBWARD_EXTERNAL_DIR (see setup.sh), OUT (keeps the suites' own output), KEEP=1.
set -uo pipefail
. "$(dirname "$0")/lib.sh"
export EXT_DIR=$DIR
SERVER=$DIR/js/conformance-stdio-server.mjs
OUT=${OUT:-$WORK/out}; mkdir -p "$OUT"; OUT=$(cd "$OUT" && pwd)

rows() { # rows SECTION: TOOL REVISION PASSED OF WARNED FILL
  awk -v want="[$1]" '
    /^\[/ { split($0, w, " "); on = (w[1] == want) }
    on && /^"/ {
      split($0, q, "\""); line = q[3]; sub(/}.*/, "}", line)
      passed = of = "?"; warned = "any"; fill = (line ~ /fill = true/) ? "fill" : "-"
      if (match(line, /passed = [0-9]+/)) passed = substr(line, RSTART + 9, RLENGTH - 9)
      if (match(line, /of = [0-9]+/)) of = substr(line, RSTART + 5, RLENGTH - 5)
      if (match(line, /warned = [0-9]+/)) warned = substr(line, RSTART + 9, RLENGTH - 9)
      print q[2], passed, of, warned, fill
    }' "$EXT/scores.toml"
}

measure() { # measure SECTION URL
  local section=$1 url=$2 tool revision passed of warned fill log said got bad warns began took
  rows "$section" > "$WORK/rows.$section"
  [ -s "$WORK/rows.$section" ] || { fail "conformance $section has no rows in scores.toml"; return; }
  while read -r tool revision passed of warned fill <&3; do
    log=$OUT/$section-$tool-$revision.txt began=$(date +%s)
    TOOL=$tool bounded 600 bash "$EXT/conformance/run-server-suite.sh" "$url" "$revision" "$OUT/$section-$tool-$revision" > "$log" 2>&1
    took=$(($(date +%s) - began)) said="conformance $section $tool $revision:"
    read -r got bad warns < <(sed -nE '1,5s/^([0-9]+) passed, ([0-9]+) failed, ([0-9]+) warned.*/\1 \2 \3/p' "$log")
    sed 's/^/   /' "$log"
    if [ -z "${got:-}" ]; then fail "$said the suite gave no score"
    elif [ "$fill" = fill ]; then ok "$said $got of $((got + bad)), $warns warned, $took s; not compared, write it into scores.toml"
    elif [ $((got + bad)) != "$of" ]; then fail "$said the suite has $((got + bad)) scenarios, scores.toml says $of"
    elif [ "$got" -lt "$passed" ]; then fail "$said $got of $of, has to be $passed"
    elif [ "$warned" != any ] && [ "$warns" -gt "$warned" ]; then fail "$said $got of $of, but $warns with warnings where $warned are accepted"
    else
      ok "$said $got of $of, $warns warned, $took s"
      [ "$got" -le "$passed" ] || echo "   raise the table: $section, \"$tool $revision\", passed = $got"
    fi
    got=
  done 3< "$WORK/rows.$section"
}

PORT=$(free_port)
if [ "${1:-}" = --direct ]; then
  "$NODE" "$SERVER" --http "$PORT" < /dev/null > "$WORK/hub.log" 2>&1 & DIRECT=$!
  for n in $(seq 50); do curl -s -o /dev/null -m 1 "http://127.0.0.1:$PORT/" && break; sleep 0.1; done
  measure direct "http://127.0.0.1:$PORT/mcp"
  kill "$DIRECT"
  exit 0
fi

cat > "$WORK/hub.toml" <<TOML
[hub]
bind = ["127.0.0.1:$PORT"]
drain_timeout = "5s"

[upstreams.conf]
command = "$NODE"
args = ["$SERVER"]
isolation = "session"
env = { ${MARK%%=*} = "${MARK#*=}" }

[upstreams.shared]
command = "$NODE"
args = ["$SERVER"]
isolation = "shared"
env = { ${MARK%%=*} = "${MARK#*=}" }
TOML
start_hub "$WORK/hub.toml" "$PORT" || exit 1
measure session "$BASE/conf/mcp"
measure shared "$BASE/shared/mcp"
[ "$FAILURES" = 0 ] || hub_tail
