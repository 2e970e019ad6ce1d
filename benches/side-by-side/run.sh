#!/usr/bin/env bash
# Measures the hub beside a bare pipe, against its targets. Prints a table.
#   run.sh [--short] [--json FILE] [--reps N] [--only STEP]
# HUB_BIN: the hub to measure [default: it is built, optimised; with --short the debug build that is there].
# BENCH_TARGET_DIR: where the tools are built. PEERS_DIR: where install-peers.sh put the peers.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd); root=$here/../..
profile=release; flag=--release
for word in "$@"; do [ "$word" = --short ] && { profile=debug; flag=; }; done
export BENCH_TARGET_DIR=${BENCH_TARGET_DIR:-$root/target/benches}
export BENCH_BIN=$BENCH_TARGET_DIR/$profile BENCH_OUT=${BENCH_OUT:-${TMPDIR:-/tmp}/hubward-bench}
# Ten thousand streams have two ends each.
ulimit -n "$(ulimit -Hn)" 2> /dev/null || true
cargo build --quiet $flag --manifest-path "$here/Cargo.toml" --target-dir "$BENCH_TARGET_DIR"
if [ -z "${HUB_BIN:-}" ]; then
  cargo build --quiet $flag --manifest-path "$root/Cargo.toml" --bin hubward
  HUB_BIN=$(cd "$root" && cd "${CARGO_TARGET_DIR:-target}" && pwd)/$profile/hubward
fi
export HUB_BIN
exec python3 "$here/targets.py" "$@"
