#!/usr/bin/env bash
# fuzz/run.sh [--grow] [SECONDS] [TARGET...]: each target for so long, two at a time; ends with 1 at the first that fails.
#
# Every run begins with the committed corpus and leaves the tree as it was. `--grow` adds what was found, minimised.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

CARGO_FUZZ=0.13.2
JOBS=${FUZZ_JOBS:-2}
# What is committed of one corpus: it is for finding the way back quickly, not for keeping all that was ever seen.
FILES_MAX=60 KIB_MAX=200

grow=; [ "${1:-}" = --grow ] && { grow=1; shift; }
seconds=${1:-20}; shift || true
[[ $seconds =~ ^[1-9][0-9]*$ ]] || { echo "usage: fuzz/run.sh [--grow] [SECONDS] [TARGET...]" >&2; exit 2; }

# Its own folder: other flags, and so other objects than those of the hub.
unset CARGO_TARGET_DIR RUSTFLAGS
export CARGO_INCREMENTAL=0 TARGET_DIR=${FUZZ_TARGET_DIR:-$PWD/fuzz/target}
if [ "$(cargo fuzz --version 2> /dev/null)" != "cargo-fuzz $CARGO_FUZZ" ]; then
  # It only calls cargo: unoptimised it is there in half the time.
  cargo install --quiet --debug --locked --target-dir "$TARGET_DIR/install" "cargo-fuzz@$CARGO_FUZZ" || exit 1
fi
began=$(date +%s)
# No sanitizer: those want a nightly compiler. Counting of branches does not.
cargo fuzz build --sanitizer none --target-dir "$TARGET_DIR" || exit 1
echo "built in $(($(date +%s) - began)) s"

BIN=$TARGET_DIR/$(rustc -vV | sed -n 's/^host: //p')/release
WORK=$(mktemp -d "${TMPDIR:-/tmp}/hubward-fuzz.XXXXXX") || exit 1
trap 'rm -rf "$WORK"' EXIT
export BIN WORK seconds

one() { # one TARGET
  local target=$1 log=$WORK/$1.log dictionary=fuzz/dictionaries/$1.dict artifact
  mkdir -p "$WORK/corpus/$target" "$WORK/artifacts"
  local options=(-max_total_time="$seconds" -timeout=10 -rss_limit_mb=1024 -max_len=4096 -print_final_stats=1)
  [ -f "$dictionary" ] && options+=(-dict="$dictionary")
  # New inputs go to the first folder; the second is only read.
  if "$BIN/$target" "$WORK/corpus/$target" "fuzz/corpus/$target" "${options[@]}" \
    -artifact_prefix="$WORK/artifacts/$target-" > "$log" 2>&1; then
    echo "$target: $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") runs," \
      "$(grep -oE 'cov: [0-9]+' "$log" | tail -1 | cut -c6-) edges, $(ls "$WORK/corpus/$target" | wc -l) new inputs"
    return
  fi
  echo "==> $target FAILED"
  tail -40 "$log"
  for artifact in "$WORK/artifacts/$target"-*; do
    [ -f "$artifact" ] && echo "==> base64 -d > fuzz/corpus/$target/found <<< $(base64 -w0 "$artifact")"
  done
  return 255 # xargs starts no other
}
export -f one

targets=("$@"); [ $# = 0 ] && targets=($(ls fuzz/corpus))
printf '%s\n' "${targets[@]}" | xargs -P "$JOBS" -I{} bash -c 'one {}' || exit 1
[ -n "$grow" ] || exit 0

for target in "${targets[@]}"; do
  mkdir -p "$WORK/least/$target"
  # Edges only: how often one was taken makes hundreds of inputs of the same kind.
  "$BIN/$target" -set_cover_merge=1 -use_counters=0 -max_len=4096 -timeout=10 -rss_limit_mb=1024 "$WORK/least/$target" \
    "fuzz/corpus/$target" "$WORK/corpus/$target" > "$WORK/$target.log" 2>&1 || { tail -20 "$WORK/$target.log"; exit 1; }
  rm -f "fuzz/corpus/$target"/*
  kept=0 bytes=0
  # The largest first: of those that are needed they are the way to most.
  for file in $(ls -S "$WORK/least/$target"); do
    size=$(stat -c %s "$WORK/least/$target/$file")
    [ $((kept += 1)) -le $FILES_MAX ] && [ $((bytes += size)) -le $((KIB_MAX << 10)) ] || break
    cp "$WORK/least/$target/$file" "fuzz/corpus/$target/"
  done
  echo "$target: $(ls "fuzz/corpus/$target" | wc -l) of $(ls "$WORK/least/$target" | wc -l) inputs kept"
done
