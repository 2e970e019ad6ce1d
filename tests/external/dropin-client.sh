#!/usr/bin/env bash
# The command lines that mcp-streamablehttp-client prints in its README and on its page in mcp-oauth-gateway, with
# `hubward connect` in place of its name, before a server that a real authorization server guards.
#   dropin-client.sh
# Environment: HUBWARD, HUBWARD_EXTERNAL_DIR (see setup.sh), KEEP=1 keeps the temporary folder.
set -uo pipefail
. "$(dirname "$0")/lib.sh"
[ -x "$HUBWARD" ] || { fail "dropin - there is no program $HUBWARD (cargo build makes it)"; exit 1; }
mkdir -p "$WORK/cli"; export "${MARK?}" NO_COLOR=1 BROWSER=true
FORMAT=jwt PART=dropin
. "$EXT/oauth/lib.sh" || exit 1

cd "$WORK" || exit 1
echo "MCP_SERVER_URL=$URL" > .env
says() { # says PART WORDS…: the line ends well and says so
  local part=$1 out rc; shift
  out=$(cli connect "$@" 2>&1); rc=$?
  [ $rc = 0 ] || out="exit $rc: $out"
  case $rc$out in 0*"$part"*) ok "dropin - hubward connect $*";; *) fail "dropin - hubward connect $*: no '$part' in: $(echo "$out" | tr '\n' ' ' | cut -c1-250)";; esac
}
typed() { # typed ANSWER PART WORDS…: the same, where the answer is typed at a terminal
  local answer=$1 part=$2 out words; shift 2
  printf -v words ' %q' "$@"
  out=$(echo "$answer" | env HOME="$WORK/cli" XDG_RUNTIME_DIR="$WORK/cli" timeout -k 5 30 script -qec "$HUBWARD connect$words" /dev/null 2>&1)
  has "hubward connect $* (\"$answer\" is typed)" "$out" "$part"
}

# "Basic Usage", "First-time Setup": no login yet, so there is one.
LIMIT=60 cli connect --token > "$WORK/token.out" 2>&1 & LOGIN=$!
visit_login "hubward connect --token: the printed URL" "$CODE_URL" "$WORK/token.out" || kill "$LOGIN" 2> /dev/null
wait "$LOGIN"; is "hubward connect --token ends well" $? 0
has "hubward connect --token: variables for a shell" "$(cat "$WORK/token.out")" "export MCP_CLIENT_ACCESS_TOKEN='eyJ"

# "CLI Commands"
says "export MCP_CLIENT_ACCESS_TOKEN='eyJ" --token
says 'guarded 1' --test-auth
says read_file --list-tools
says doc://readme --list-resources
says greet --list-prompts
says '"whoami"' --raw '{"jsonrpc": "2.0", "method": "tools/list", "id": 1}'
says 'guarded 1' --log-level DEBUG --test-auth
export MCP_DEBUG=1 MCP_CLIENT_LOG_LEVEL=DEBUG; says 'guarded 1' --test-auth; unset MCP_DEBUG MCP_CLIENT_LOG_LEVEL

# "Command Argument Formats", "Tool Execution", "Script Integration"
says 'tool {"key":"value","nested":{"foo":"bar"}}' -c 'tool {"key": "value", "nested": {"foo": "bar"}}'
says 'tool {"key1":"value1","key2":"value2"}' -c 'tool key1=value1 key2=value2'
says 'fetch {"url":"https://example.com"}' -c 'fetch https://example.com'
says 'fetch {"url":"https://example.com","headers":{"User-Agent":"Custom"}}' \
  -c 'fetch {"url": "https://example.com", "headers": {"User-Agent": "Custom"}}'
says 'read_file {"path":"/path/to/file.txt"}' -c 'read_file /path/to/file.txt'
says 'echo {"message":"Hello World"}' -c 'echo "Hello World"'
says 'echo {"message":"Hello, MCP!"}' -c 'echo "Hello, MCP!"'
says 'echo {"message":"Hello World","timestamp":true}' -c 'echo message="Hello World" timestamp=true'
says "echo {\"message\":\"Hello World\"}" -c "echo message='Hello World'"

# "Integration", "Claude Desktop Integration", "Multiple Servers": the bridge, before a real client.
ASKS=$WORK/asks.jsonl
bridge() { # bridge WORDS…: variables first, where there are some
  python3 -c 'import json, sys
url, home, hubward, *words = sys.argv[1:]
at = next((i for i, word in enumerate(words) if "=" not in word), len(words))
command = ["env", f"HOME={home}", f"XDG_RUNTIME_DIR={home}", *words[:at], hubward, "connect", *words[at:]]
label = " ".join(words[:at] + ["hubward connect"] + words[at:]).replace(url, "URL")
print(json.dumps({"label": label, "command": command}))' "$URL" "$WORK/cli" "$HUBWARD" "$@" >> "$ASKS"
}
bridge
bridge "MCP_SERVER_URL=$URL"
bridge --server-url "$URL"
RUN=("$NODE" "$DIR/js/dropin.mjs" "$ASKS")
run_client "" dropin
mkdir elsewhere && cd elsewhere || exit 1
echo MCP_SERVER_URL=http://127.0.0.1:1/mcp > .env
says 'guarded 1' --env-file ../.env --test-auth
says "export MCP_CLIENT_ACCESS_TOKEN='eyJ" --token --server-url "$URL"
cd ..

# "Client Management (RFC 7592)"
client=$(told 's.clients.at(-1)')
says "$client" --get-client-info
typed n '' --update-client 'client_name=New Name,contacts=admin@example.com'
is "not changed before it is agreed to" "$(cli connect --get-client-info 2>&1 | grep -c 'New Name')" 0
typed y 'New Name' --update-client 'client_name=New Name,contacts=admin@example.com'
says 'New Name' --get-client-info
typed DELETE '' --delete-client
is "hubward connect --delete-client: it is gone at the server" "$(told "s.clients.includes('$client')")" false
says forgotten --reset-auth
LIMIT=60 cli connect --test-auth > "$WORK/after.out" 2>&1 & LOGIN=$!
visit_login "hubward connect --test-auth, without a login: the printed URL" "$CODE_URL" "$WORK/after.out" || kill "$LOGIN" 2> /dev/null
wait "$LOGIN"; is "it goes on after the login" $? 0

[ "$FAILURES" = 0 ] || { tail -n 8 "$WORK/token.out" | cut -c1-300; grep -av 'NOTICE\|WARNING' "$WORK/provider.log" | tail -n 12; }
