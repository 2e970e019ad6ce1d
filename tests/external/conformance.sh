#!/usr/bin/env bash
# The public MCP conformance suite against the hub, compared with scores.toml.
#   conformance.sh [SECTION…]            the rows of these sections, of all but the direct ones without arguments
#   conformance.sh --direct [SECTION…]   the rows of [direct…]: the test servers alone, which is the ceiling
#   conformance.sh --client [SECTION…]   the rows of [client-…]: hubward as the client of the suite's servers
# Environment: HUBWARD, HUBWARD_EXTERNAL_DIR (see setup.sh), OUT (keeps the suites' own output), KEEP=1.
set -uo pipefail
. "$(dirname "$0")/lib.sh"
export EXT_DIR=$DIR
SECTIONS="session shared modern modern-only tasks" DIRECT_SECTIONS="direct direct-modern direct-tasks"
CLIENT_SECTIONS="client-hub client-connect"
program() { # program SECTION: the test server of it and its arguments
  case ${1#direct-} in
    tasks) echo "$DIR/js/tasks-stdio-server.mjs";;
    modern-only) echo "$DIR/js/conformance-stdio-server-2026.mjs --modern";;
    modern) echo "$DIR/js/conformance-stdio-server-2026.mjs";;
    *) echo "$DIR/js/conformance-stdio-server.mjs";;
  esac
}
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

measure() { # measure SECTION SUITE TARGET: by run-SUITE-suite.sh
  local section=$1 suite=$2 target=$3 tool revision passed of warned fill log said got bad warns began took
  rows "$section" > "$WORK/rows.$section"
  [ -s "$WORK/rows.$section" ] || { fail "conformance $section has no rows in scores.toml"; return; }
  while read -r tool revision passed of warned fill <&3; do
    log=$OUT/$section-$tool-${revision//\//-}.txt began=$(date +%s)
    TOOL=$tool bounded 600 bash "$EXT/conformance/run-$suite-suite.sh" "$target" "$revision" "${log%.txt}" > "$log" 2>&1
    took=$(($(date +%s) - began)) said="conformance $section $tool $revision:"
    read -r got bad warns < <(sed -nE '1,5s/^([0-9]+) passed, ([0-9]+) failed, ([0-9]+) warned.*/\1 \2 \3/p' "$log")
    if [ "$fill" = fill ]; then sed 's/^/   /; 40q' "$log"; else sed 's/^/   /' "$log"; fi
    if [ -z "${got:-}" ]; then fail "$said the suite gave no score"
    elif [ "$fill" = fill ]; then
      ok "$said $got of $((got + bad)), $warns warned, $took s; not compared yet, scores.toml wants $passed of $of"
    elif [ $((got + bad)) != "$of" ]; then fail "$said the suite has $((got + bad)) scenarios, scores.toml says $of"
    elif [ "$got" -lt "$passed" ]; then fail "$said $got of $of, has to be $passed"
    elif [ "$warned" != any ] && [ "$warns" -gt "$warned" ]; then fail "$said $got of $of, but $warns with warnings where $warned are accepted"
    else
      ok "$said $got of $of, $warns warned, $took s"
      # Every scenario counts; this one has to be among them.
      case $suite-$revision in server-2025-11-25)
        grep -qx dns-rebinding-protection "${log%.txt}/scenarios.txt" || fail "$said dns-rebinding-protection was not run";;
      esac
      [ "$got" -le "$passed" ] || echo "   raise the table: $section, \"$tool $revision\", passed = $got"
    fi
    got=
  done 3< "$WORK/rows.$section"
}

if [ "${1:-}" = --direct ]; then
  shift
  for section in ${*:-$DIRECT_SECTIONS}; do
    PORT=$(free_port)
    # shellcheck disable=SC2046
    "$NODE" $(program "$section") --http "$PORT" < /dev/null > "$WORK/hub.log" 2>&1 & DIRECT=$!
    for n in $(seq 50); do curl -s -o /dev/null -m 1 "http://127.0.0.1:$PORT/" && break; sleep 0.1; done
    measure "$section" server "http://127.0.0.1:$PORT/mcp"
    kill "$DIRECT"
  done
  exit 0
fi

if [ "${1:-}" = --client ]; then
  shift
  # Whatever the scenarios start, the driver and all of hubward, is to be found by the mark.
  export HUBWARD "${MARK?}"
  for section in ${*:-$CLIENT_SECTIONS}; do measure "$section" client "${section#client-}"; done
  no_leftovers client
  exit 0
fi

PORT=$(free_port)
hub_head "$PORT" > "$WORK/hub.toml"
for section in ${*:-$SECTIONS}; do
  printf '\n[upstreams.%s]\ncommand = "%s"\nargs = ["%s"]\n' "$section" "$NODE" "$(program "$section" | sed 's/ /", "/g')"
  [ "$section" != shared ] || echo 'isolation = "shared"'
done >> "$WORK/hub.toml"
start_hub "$WORK/hub.toml" "$PORT" || exit 1
for section in ${*:-$SECTIONS}; do measure "$section" server "$BASE/$section/mcp"; done
[ "$FAILURES" = 0 ] || hub_tail
