#!/usr/bin/env bash
# Everything: setup, then each of the scripts beside this one. The closing line is "N passed, N failed".
#   run.sh                 Environment: HUBWARD, HUBWARD_EXTERNAL_DIR (see setup.sh)
set -uo pipefail
HERE=$(cd "$(dirname "$0")" && pwd)
RESULTS=$(mktemp "${TMPDIR:-/tmp}/hubward-results.XXXXXX"); export RESULTS
PART=
end() { local rc=$?; trap - EXIT INT TERM; [ -z "$PART" ] || { kill -TERM "$PART"; wait "$PART"; } 2> /dev/null; rm -f "$RESULTS"; exit "$rc"; }
trap end EXIT; trap 'exit 130' INT; trap 'exit 143' TERM

TIMES="" AGAIN=""
once() { # once NAME SECONDS COMMAND...
  local name=$1 seconds=$2 rc failed; shift 2
  failed=$(grep -c '^FAIL ' "$RESULTS")
  timeout -k 40 "$seconds" "$@" < /dev/null & PART=$!
  wait "$PART"; rc=$?; PART=
  # A part that fails without a line of its own still counts.
  if [ "$rc" != 0 ] && [ "$(grep -c '^FAIL ' "$RESULTS")" = "$failed" ]; then
    echo "FAIL $name - ended with $rc" | tee -a "$RESULTS"
  fi
  return "$rc"
}
part() { # part NAME SECONDS COMMAND...
  local name=$1 rc began before failed
  began=$(date +%s) before=$(wc -l < "$RESULTS")
  echo "== $name"
  once "$@"; rc=$?
  # Programs of others, browsers among them, on two busy cores: once more, and both are told.
  if [ "$rc" != 0 ] && [ "$name" != setup ]; then
    failed=$(tail -n "+$((before + 1))" "$RESULTS" | grep '^FAIL ')
    AGAIN="$AGAIN== $name failed at first, and was tried again"$'\n'"$failed"$'\n'
    echo "== $name, again"
    head -n "$before" "$RESULTS" > "$RESULTS.kept" && mv "$RESULTS.kept" "$RESULTS"
    once "$@"; rc=$?
  fi
  TIMES="$TIMES$name $(($(date +%s) - began)) s, "
  return "$rc"
}

if part setup 1200 bash "$HERE/setup.sh"; then
  part conformance 1200 bash "$HERE/conformance.sh"
  part eras 600 bash "$HERE/eras.sh"
  part servers 1200 bash "$HERE/servers.sh"
  part client 900 bash "$HERE/conformance.sh" --client
  part chain 300 bash "$HERE/eras.sh" --chain
  part remotes 900 bash "$HERE/remotes.sh"
  part oauth 300 bash "$HERE/oauth.sh"
  part browser 300 bash "$HERE/browser.sh"
  part status 300 bash "$HERE/status.sh"
  part jwt 180 bash "$HERE/jwt.sh"
  part dropin 180 bash "$HERE/dropin.sh"
  part dropin-client 180 bash "$HERE/dropin-client.sh"
  part fleet 480 bash "$HERE/fleet.sh"
  part tunnel 180 bash "$HERE/tunnel.sh"
  part packaging 120 bash "$HERE/packaging.sh"
  part shell-blocks 900 bash "$HERE/shell-blocks.sh"
  part keyring 600 bash "$HERE/keyring.sh"
fi

echo
echo "== result (${TIMES%, })"
awk '
  $2 == "conformance" { sub(/^ok /, "        "); sub(/^FAIL /, "FAIL    "); scores = scores $0 "\n"; next }
  { if (!($2 in seen)) { seen[$2] = 1; order[++n] = $2 }
    if (!($3 in cols)) { cols[$3] = 1; col[++m] = $3 }
    if ($1 == "ok") good[$2, $3]++; else bad[$2, $3]++ }
  END {
    printf "%s\n%-24s", scores, ""
    for (j = 1; j <= m; j++) printf "%12s", col[j] == "-" ? "itself" : col[j]
    print ""
    for (i = 1; i <= n; i++) {
      printf "%-24s", order[i]
      for (j = 1; j <= m; j++) {
        g = good[order[i], col[j]] + 0; b = bad[order[i], col[j]] + 0
        printf "%12s", g + b == 0 ? "." : b ? g " of " g + b : g
      }
      print ""
    }
  }' "$RESULTS"
printf '%s' "${AGAIN//FAIL /failed at first: }"
grep '^FAIL ' "$RESULTS"
passed=$(grep -c '^ok ' "$RESULTS") failed=$(grep -c '^FAIL ' "$RESULTS")
[ $((passed + failed)) -gt 0 ] || failed=1
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
