#!/usr/bin/env bash
# Manual pages and completions for a package, made by the program itself, into packaging/pages.
#   pages.sh [HUBWARD]     default: target/release/hubward
set -euo pipefail
cd "$(dirname "$0")/.."
hubward=${1:-${CARGO_TARGET_DIR:-target}/release/hubward}
out=packaging/pages
rm -rf "$out"; mkdir -p "$out/man"
"$hubward" man --out "$out/man"
"$hubward" completions bash > "$out/hubward.bash"
"$hubward" completions zsh > "$out/_hubward"
"$hubward" completions fish > "$out/hubward.fish"
