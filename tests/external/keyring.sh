#!/usr/bin/env bash
# The feature `keyring` before a real keyring: GNOME's, with a session bus of its own. Installs them where root can.
set -uo pipefail
. "$(dirname "$0")/lib.sh"
if ! command -v gnome-keyring-daemon > /dev/null || ! command -v dbus-run-session > /dev/null; then
  if [ "$(id -u)" = 0 ] && command -v apt-get > /dev/null; then
    apt-get update -qq < /dev/null > /dev/null
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends gnome-keyring dbus < /dev/null > /dev/null
  fi
fi
command -v gnome-keyring-daemon > /dev/null || { fail "keyring - install: please install gnome-keyring and dbus"; exit 1; }
export XDG_RUNTIME_DIR=$WORK XDG_DATA_HOME=$WORK/data WORK
cd "$EXT/../.." || exit 1
cargo test --quiet --features keyring --lib --no-run > "$WORK/build.log" 2>&1 \
  || { fail "keyring - build"; tail -20 "$WORK/build.log"; exit 1; }
bounded 120 dbus-run-session -- bash -c '
  printf secret | gnome-keyring-daemon --foreground --unlock --components=secrets > /dev/null 2>&1 & daemon=$!
  for n in $(seq 100); do
    dbus-send --session --print-reply --dest=org.freedesktop.DBus / org.freedesktop.DBus.NameHasOwner \
      string:org.freedesktop.secrets 2> /dev/null | grep -q "boolean true" && break
    sleep 0.1
  done
  cargo test --features keyring --lib -- --ignored a_keyring_keeps > "$WORK/test.log" 2>&1; rc=$?
  kill "$daemon"; wait "$daemon"; exit $rc' 2> "$WORK/bus.log"
rc=$?
if [ "$rc" = 0 ] && grep -q "1 passed" "$WORK/test.log"; then ok "keyring - credentials are kept in it"
else fail "keyring - credentials are kept in it"; tail -20 "$WORK/test.log"; fi
