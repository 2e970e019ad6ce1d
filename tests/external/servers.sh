#!/usr/bin/env bash
# Five real servers behind one hub, each used by every real client.
#   servers.sh [CLIENT...]     e.g. servers.sh ts1-http py-sse; without arguments all of CLIENTS
# Environment: HUBWARD, HUBWARD_EXTERNAL_DIR (see setup.sh), KEEP=1 keeps the temporary folder.
set -uo pipefail
. "$(dirname "$0")/lib.sh"
CLIENTS="ts1-http ts1-sse ts2-legacy ts2-auto ts2-sse py-legacy py-auto py-sse inspector-http inspector-sse
  mcp-remote-http-only mcp-remote-sse-only mcp-remote-http-first"

export EXT_DIR=$DIR EXT_FILES=$WORK/files EXT_REPO=$WORK/repo
mkdir -p "$EXT_FILES" "$EXT_REPO" "$WORK/home"
echo "hello from a file" > "$EXT_FILES/hello.txt"
git -C "$EXT_REPO" init -q
git -C "$EXT_REPO" -c user.name=test -c user.email=test@localhost -c commit.gpgsign=false commit -q --allow-empty -m "the only commit"

PORT=$(free_port)
hub_head "$PORT" > "$WORK/hub.toml"
cat >> "$WORK/hub.toml" <<TOML
inherit_env = ["PATH", "HOME"]

[upstreams.everything]
command = "$NODE"
args = ["$DIR/servers/node_modules/.bin/mcp-server-everything", "stdio"]

[upstreams.memory]
command = "$NODE"
args = ["$DIR/servers/node_modules/.bin/mcp-server-memory"]
env = { ${MARK%%=*} = "${MARK#*=}", MEMORY_FILE_PATH = "$WORK/memory.jsonl" }

[upstreams.filesystem]
command = "$NODE"
args = ["$DIR/servers/node_modules/.bin/mcp-server-filesystem", "$EXT_FILES"]

[upstreams.time]
command = "$DIR/py/bin/python"
args = ["-m", "mcp_server_time", "--local-timezone", "UTC"]

[upstreams.git]
command = "$DIR/py/bin/python"
args = ["-m", "mcp_server_git", "--repository", "$EXT_REPO"]
TOML

start_hub "$WORK/hub.toml" "$PORT" || exit 1
for server in everything memory filesystem time git; do
  for way in mcp sse; do
    if grep -qF "$BASE/$server/$way" "$WORK/hub.out"; then ok "hub $server prints its /$way URL"
    else fail "hub $server prints its /$way URL: not on stdout"; fi
  done
done

for client in ${*:-$CLIENTS}; do
  client_command "$client" "$BASE" && run_client "" "$client"
done
