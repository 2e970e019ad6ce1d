#!/usr/bin/env bash
# The shell blocks of the documentation that need a registry, typed as a reader would: tests/shell_blocks.rs reads them.
#   shell-blocks.sh            Environment: HUBWARD_EXTERNAL_DIR (see setup.sh). The pages use port 8808, which has to be free.
set -uo pipefail
. "$(dirname "$0")/lib.sh"
cd "$EXT/../.." || exit 1
# As in setup.sh.
[ -n "${NODE_EXTRA_CA_CERTS:-}" ] || ! [ -f /etc/ssl/certs/ca-certificates.crt ] || export NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt
export PATH="$(dirname "$NODE"):$DIR/uv/bin:$PATH"
cargo test --quiet --test shell_blocks -- --ignored --nocapture --test-threads 1 > "$WORK/blocks.log" 2>&1; rc=$?
grep '^ok ' "$WORK/blocks.log" | sed 's/^ok /ok shell-blocks - /' | tee -a "$RESULTS"
[ "$rc" = 0 ] || { cat "$WORK/blocks.log"; fail "shell-blocks - ended with $rc"; }
[ "$FAILURES" = 0 ]
