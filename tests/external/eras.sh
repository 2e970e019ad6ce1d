#!/usr/bin/env bash
# Every SDK in every mode before a server of each era, compared with the table in eras.md: a cell that says `ok` there
# has to pass here.
#   eras.sh [CLIENT...]     e.g. eras.sh ts2-pinned rmcp-auto; without arguments all of CLIENTS
#   eras.sh --chain [CLIENT...]   the same through two hubs: the second is the remote upstream of the first
#   eras.sh --write         measures all and writes the outcomes into eras.md
# Environment: HUBWARD, RMCP_CLIENT, HUBWARD_EXTERNAL_DIR (see setup.sh), KEEP=1 keeps the temporary folder.
set -uo pipefail
. "$(dirname "$0")/lib.sh"
CLIENTS="ts2-pinned ts2-auto ts2-legacy py-pinned py-auto py-legacy rmcp-discover rmcp-auto rmcp-initialize"
RMCP_CLIENT=${RMCP_CLIENT:-$(dirname "$HUBWARD")/examples/rmcp_client}
TABLE=$EXT/eras.md MEASURED=$WORK/measured
WRITE= CHAIN=
case ${1:-} in --write) WRITE=yes; shift;; --chain) CHAIN=yes; shift;; esac
[ -x "$RMCP_CLIENT" ] || { fail "eras - no program $RMCP_CLIENT (cargo build --examples makes it)"; exit 1; }

PORT=$(free_port)
hub_head "$PORT" > "$WORK/hub.toml"
cat >> "$WORK/hub.toml" <<TOML

[upstreams.legacy]
command = "$NODE"
args = ["$DIR/js/conformance-stdio-server.mjs"]

[upstreams.modern]
command = "$NODE"
args = ["$DIR/js/conformance-stdio-server-2026.mjs", "--modern"]
TOML
start_hub "$WORK/hub.toml" "$PORT" || exit 1
if [ -n "$CHAIN" ]; then
  BEHIND=$BASE PORT=$(free_port)
  hub_head "$PORT" > "$WORK/front.toml"
  for mount in legacy modern; do
    printf '\n[upstreams.%s]\nurl = "%s"\n' "$mount" "$BEHIND/$mount/mcp" >> "$WORK/front.toml"
  done
  start_hub "$WORK/front.toml" "$PORT" front || exit 1
fi

: > "$MEASURED"
for client in ${*:-$CLIENTS}; do
  case $client in
    ts2-*) run=("$NODE" "$DIR/js/ts2.mjs");;
    py-*) run=("$DIR/py/bin/python" "$EXT/clients/py.py");;
    rmcp-*) run=("$RMCP_CLIENT");;
    *) fail "$client - no such client; there are: $CLIENTS"; continue;;
  esac
  began=$(date +%s)
  PYTHONDONTWRITEBYTECODE=1 bounded 120 "${run[@]}" "$BASE" "${client#*-}" legacy modern > "$WORK/$client.out" 2> "$WORK/$client.err"
  grep -aE '^(ok|FAIL) ' "$WORK/$client.out" >> "$MEASURED"
  echo "   $client took $(($(date +%s) - began)) s"
done

# The cells of the table against the lines of the clients. Rows of clients that did not run are left alone.
python3 - "$TABLE" "$MEASURED" "$WRITE" "${*:-$CLIENTS}" > "$WORK/compared" <<'PY'
import re, sys
table, measured, write, ran = sys.argv[1:]
found = {}
for line in open(measured, errors="replace"):
    state, client, server, rest = line.rstrip("\n").split(" ", 3)
    found[client, server, re.split(r" \(|: ", rest)[0]] = (state, rest)
lines, heads, new, seen = open(table).read().split("\n"), None, [], set()
for line in lines:
    cells = [c.strip() for c in line.strip("|").split("|")]
    if line.startswith("| client"):
        heads = cells
    elif heads and line.startswith("|") and not line.startswith("|-") and cells[0] in ran.split():
        client, server = cells[:2]
        for n, what in enumerate(heads[2:], 2):
            seen.add((client, server, what))
            state, rest = found.get((client, server, what), ("FAIL", f"{what}: the program said nothing of it"))
            if state == "ok":
                print("ok", client, server, rest)
                if cells[n] != "ok":
                    print(f"   raise the table: {client} before {server}, {what}: ok")
                cells[n] = "ok"
            elif cells[n] == "ok" and not write:
                print("FAIL", client, server, rest)
            else:
                cells[n] = "FAIL" if cells[n] == "ok" else cells[n]
                print(f"   {cells[n]}: {client} before {server}, {rest}")
        line = "| " + " | ".join(cells) + " |"
    new.append(line)
for client, server, what in sorted(set(found) - seen):
    print(f"FAIL {client} {server} {what}: not in eras.md")
if write:
    open(table, "w").write("\n".join(new))
PY
[ $? = 0 ] || fail "eras - eras.md cannot be compared"
[ -z "$CHAIN" ] || sed -i -E 's,^(ok|FAIL) ,&two-hubs/,' "$WORK/compared"
grep -E '^(ok|FAIL) ' "$WORK/compared" >> "$RESULTS"
cat "$WORK/compared"
FAILURES=$((FAILURES + $(grep -c '^FAIL ' "$WORK/compared")))
for client in $(sed -nE 's,^FAIL (two-hubs/)?([^ ]*-[^ ]*) .*,\2,p' "$WORK/compared" | sort -u); do
  echo "---- the last lines of $client's stderr"; tail -n 20 "$WORK/$client.err" | cut -c1-300
done
[ "$FAILURES" = 0 ] || hub_tail
