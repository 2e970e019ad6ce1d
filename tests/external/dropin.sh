#!/usr/bin/env bash
# The command lines that three older tools print in their own documents, with `hubward proxy` in place of their name:
# each serves a real client. Ports are free ones; of the programs they name, `uvx` runs a real server and the others
# (tsx, npx, …) `hubward demo`.
#   dropin.sh
# Environment: HUBWARD, HUBWARD_EXTERNAL_DIR (see setup.sh), KEEP=1 keeps the temporary folder.
set -uo pipefail
. "$(dirname "$0")/lib.sh"
[ -x "$HUBWARD" ] || { fail "dropin - there is no program $HUBWARD (cargo build makes it)"; exit 1; }

mkdir -p "$WORK/bin" "$WORK/home" "$WORK/path/to/your"
cat > "$WORK/bin/uvx" << SHIM
#!/bin/sh
MEMORY_FILE_PATH=$WORK/memory.jsonl exec "$NODE" "$DIR/servers/node_modules/.bin/mcp-server-memory"
SHIM
printf '#!/bin/sh\nexec "%s" demo\n' "$HUBWARD" > "$WORK/bin/tsx"
chmod +x "$WORK/bin/uvx" "$WORK/bin/tsx"
for name in python npx my-default-command my-custom-tool my-modern-mcp-server; do ln -s tsx "$WORK/bin/$name"; done
ln -s "$WORK/bin/tsx" "$WORK/path/to/your/mcp-server"
echo '{ "mcpServers": { "fetch": { "disabled": false, "timeout": 60, "command": "uvx", "args": ["mcp-server-fetch"], "transportType": "stdio" },
  "github": { "timeout": 60, "command": "npx", "args": ["-y", "@modelcontextprotocol/server-github"], "env": { "GITHUB_PERSONAL_ACCESS_TOKEN": "<YOUR_TOKEN>" }, "transportType": "stdio" } } }' > "$WORK/servers.json"
cd "$WORK" || exit 1
export PATH=$WORK/bin:$PATH HOME=$WORK XDG_RUNTIME_DIR=$WORK
ASKS=$WORK/asks.jsonl COUNT=0
read -r -a PORTS <<< "$(python3 -c 'import socket
all = [socket.socket() for _ in range(40)]
[one.bind(("127.0.0.1", 0)) for one in all]
print(*[one.getsockname()[1] for one in all])')"
quoted() { local text=${1//\\/\\\\}; printf '"%s"' "${text//\"/\\\"}"; }

ask() { # ask LABEL PATH [http|sse] [HEADERS]: of the line that was started last
  printf '{"label":%s,"url":"http://127.0.0.1:%s%s","way":"%s","headers":%s}\n' \
    "$(quoted "$1")" "$PORT" "$2" "${3:-http}" "${4:-{\}}" >> "$ASKS"
}
line() { # line WORDS…: starts `hubward proxy WORDS…`; a documented port becomes a free one, which the others get by MCP_PORT
  local words=() word name
  PORT=${PORTS[$COUNT]} COUNT=$((COUNT + 1)) name=line$COUNT LABEL="hubward proxy $*"
  for word in "$@"; do
    case $word in 8080|3000) word=$PORT;; --port=8080|--port=8096|--sse-port=8080) word=${word%%=*}=$PORT;; esac
    words+=("$word")
  done
  env "$MARK" MCP_PORT="$PORT" "$HUBWARD" proxy "${words[@]}" < /dev/null > "$WORK/$name.out" 2> "$WORK/$name.log" &
  HUBS+=("$!:$name")
}
started() { # waits until each prints its URLs
  local each pid name
  for each in "${HUBS[@]}"; do
    pid=${each%%:*} name=${each#*:}
    until [ -s "$WORK/$name.out" ]; do
      kill -0 "$pid" 2> /dev/null || { fail "dropin - $name did not start: $(tail -n 2 "$WORK/$name.log")"; break; }
      sleep 0.1
    done
  done
}
serves() { line "$@" && ask "$LABEL" /mcp; }
open_address() { # one that others reach: refused as printed, served where it is said that this is meant
  "$HUBWARD" proxy "$@" < /dev/null > /dev/null 2> "$WORK/refused.log"
  if [ $? = 2 ] && grep -q -- --allow-unauthenticated "$WORK/refused.log"; then ok "dropin - hubward proxy $*: refused, with what to do"
  else fail "dropin - hubward proxy $*: $(cat "$WORK/refused.log")"; fi
  serves --allow-unauthenticated "$@"
}

# mcp-streamablehttp-proxy: its README, and its page in mcp-oauth-gateway
serves python -m mcp_server_fetch
serves path/to/your/mcp-server --server-arg1 --server-arg2
serves --port 8080 python -m mcp_server_fetch
serves --timeout 600 python -m mcp_server_fetch
serves npx @modelcontextprotocol/server-memory
open_address --host 0.0.0.0 --port 3000 python -m mcp_server_fetch

# mcp-proxy of PyPI: README, "Example usage", "Command line arguments", "Docker Compose Setup" and "Testing"
serves uvx mcp-server-fetch && ask "$LABEL (event stream)" /sse sse
serves --sse-port=8080 uvx mcp-server-fetch
serves --port=8080 -- uvx mcp-server-fetch --user-agent=YourUserAgent
line --port=8080 --named-server fetch 'uvx mcp-server-fetch' --named-server fetch2 'uvx mcp-server-fetch' &&
  ask "$LABEL" /servers/fetch/mcp && ask "$LABEL (event stream)" /servers/fetch2/sse sse
line --port=8080 --named-server-config ./servers.json && ask "$LABEL" /servers/github/mcp
line --port 8080 --named-server-config "$WORK/servers.json" -- my-default-command --arg1 &&
  ask "$LABEL" /mcp && ask "$LABEL (named)" /servers/fetch/mcp
line --port 8080 --named-server fetch1 'uvx mcp-server-fetch' --named-server tool2 'my-custom-tool --verbose' && ask "$LABEL" /servers/tool2/mcp
serves --port 8080 -- my-default-command --arg1 value1
serves --port 8080 -e KEY VALUE -e ANOTHER_KEY ANOTHER_VALUE -- my-default-command
serves --port 8080 --allow-origin='*' -- my-default-command
open_address --pass-environment --port=8096 --sse-host 0.0.0.0 uvx mcp-server-fetch
stdio() { # stdio LABEL WORDS…: the other direction, before the line that was started last
  local label=$1; shift
  local word words; words=$(quoted "$HUBWARD")
  for word in proxy "$@"; do words+=,$(quoted "$word"); done
  printf '{"label":%s,"command":[%s]}\n' "$(quoted "$label")" "$words" >> "$ASKS"
}
stdio "hubward proxy http://localhost:8080/sse" "http://127.0.0.1:$PORT/sse"
stdio "hubward proxy --transport streamablehttp http://localhost:8080/mcp" --transport streamablehttp "http://127.0.0.1:$PORT/mcp"
stdio "hubward proxy --headers Authorization 'Bearer YOUR_TOKEN' http://localhost:8080/sse" --headers Authorization 'Bearer YOUR_TOKEN' "http://127.0.0.1:$PORT/sse"

# mcp-proxy of npm: README of 6.7, and the quick start of older ones
serves npx -y @anthropic/mcp-server-filesystem /path
serves --port 8080 --shell -- tsx server.js && ask "$LABEL (event stream)" /sse sse
serves -- python -u -m your_package.mcp_server
serves --upstreamProtocol auto -- my-modern-mcp-server
serves --port 8080 --stateless -- tsx server.js && ask "$LABEL (event stream)" /sse sse
serves --port 8080 --stateless --server stream -- tsx server.js
KEY='{"X-API-Key":"your-secret-key"}'
line --port 8080 --apiKey your-secret-key -- tsx server.js && ask "$LABEL" /mcp http "$KEY" && ask "$LABEL (event stream)" /sse sse "$KEY"
export MCP_PROXY_API_KEY=your-secret-key
line --port 8080 -- tsx server.js && ask "MCP_PROXY_API_KEY=… $LABEL" /mcp http "$KEY"
unset MCP_PROXY_API_KEY
line --port 8080 --apiKey secret --corsAddAllowedHeader X-API-Key -- npx -y @modelcontextprotocol/server-filesystem /srv &&
  ask "$LABEL" /mcp http '{"X-API-Key":"secret"}'
line --port 8080 --endpoint /sse tsx server.js && ask "$LABEL" /sse sse
serves --debug -- tsx src/fixtures/simple-stdio-server.ts

started
RUN=("$NODE" "$DIR/js/dropin.mjs" "$ASKS")
run_client "" dropin
