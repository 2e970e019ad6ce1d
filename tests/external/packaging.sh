#!/usr/bin/env bash
# What is in packaging/, as far as it can be looked at without an engine, a cluster or a running systemd.
#   packaging.sh           units, container file, compose file, Kubernetes example, workflow, healthcheck
#   packaging.sh --full    also builds the .deb, installs it in a chroot of Debian and verifies the units there. Wants root,
#                          cargo-deb, mmdebstrap and a mirror of Debian; takes minutes. RELEASE names another Debian (trixie)
set -uo pipefail
case ${1:-} in -h|--help) sed -n '2,5p' "$0" | sed 's/^# \{0,1\}//'; exit 0;; esac
. "$(dirname "$0")/lib.sh"
ROOT=$(cd "$EXT/../.." && pwd)
PACK=$ROOT/packaging
LINT=$DIR/lint/bin

check() { # check NAME COMMAND...: what it says is shown where it fails
  local name=$1 said; shift
  if said=$("$@" 2>&1); then ok "packaging - $name"; return; fi
  fail "packaging - $name"; echo "$said" | tail -n 20 | cut -c1-300
  return 1
}

# systemd older than 253 says of what it does not know that it ignores it; that alone is no mistake of ours.
verify() { # verify FOLDER: both units there, with a program that exists
  local said
  said=$(systemd-analyze verify --man=no "$1/hubward.service" "$1/hubward.socket" 2>&1) || { echo "$said"; return 1; }
  [ "$(systemd-analyze --version | sed -n '1s/systemd \([0-9]*\).*/\1/p')" -ge 254 ] ||
    said=$(grep -vE "service type, ignoring: notify-reload|Unknown key '?(DelegateSubgroup)" <<< "$said")
  [ -z "$said" ] || { echo "$said"; return 1; }
}
exposure() { # exposure FOLDER: below 3.0
  local said
  said=$(systemd-analyze security --no-pager --offline=true "$1/hubward.service" | tail -n 1)
  echo "$said"
  awk '{ for (i = 1; i <= NF; i++) if ($i ~ /^[0-9]+\.[0-9]+$/) exit !($i < 3.0); exit 1 }' <<< "${said##*: }"
}
if command -v systemd-analyze > /dev/null; then
  mkdir -p "$WORK/units"
  sed "s,/usr/bin/hubward,$HUBWARD," "$PACK/systemd/hubward.service" > "$WORK/units/hubward.service"
  cp "$PACK/systemd/hubward.socket" "$WORK/units/"
  check 'the units are in order (systemd-analyze verify)' verify "$WORK/units"
  check 'the service is exposed to less than 3.0' exposure "$WORK/units"
else
  echo "skipped: no systemd-analyze (Debian: apt-get install systemd)"
fi

check 'the container file has no findings (hadolint)' "$LINT/hadolint" "$PACK/container/Containerfile"
check 'the workflow has no findings (actionlint)' "$LINT/actionlint" "$ROOT/.github/workflows/release.yml"
check 'the Kubernetes objects fit their schemas' "$LINT/kubernetes-validate" --strict "$PACK/kubernetes/hubward.yaml"
compose() {
  "$LINT/python" - "$PACK/container/compose.yaml" << 'PY'
import json, sys, yaml, compose_spec
read = yaml.safe_load(open(sys.argv[1]))
parsed = compose_spec.ComposeSpecification.model_validate(read)
service = parsed.services["hubward"]
assert read["services"]["hubward"]["volumes"][0].split(":")[1] == "/etc/hubward", "the folder, not the file"
PY
}
check 'the compose file fits its schema' compose
traefik() { # the compose file for Traefik: its schema, and that every middleware and service a router names is there
  "$LINT/python" - "$PACK/container/traefik.yaml" << 'PY'
import sys, yaml, compose_spec
read = yaml.safe_load(open(sys.argv[1]))
compose_spec.ComposeSpecification.model_validate(read)
labels = dict(one.split("=", 1) for one in read["services"]["hubward"]["labels"])
there = {tuple(key.split(".")[2:4]) for key in labels if key.startswith("traefik.http.")}
routers = {name for kind, name in there if kind == "routers"}
assert routers == {"hubward", "time", "time-message"}, routers
for name in routers:
    assert f"traefik.http.routers.{name}.rule" in labels, name
    assert labels[f"traefik.http.routers.{name}.tls.certresolver"] == "le", name
    assert ("services", labels[f"traefik.http.routers.{name}.service"]) in there, name
    used = filter(None, labels.get(f"traefik.http.routers.{name}.middlewares", "").split(","))
    assert all(("middlewares", one) in there for one in used), name
PY
}
check "the compose file for Traefik fits its schema and itself" traefik

# The files of hub.toml that are shipped.
embedded() { # the one in the ConfigMap, with a token that is there
  "$LINT/python" -c '
import sys, yaml
objects = list(yaml.safe_load_all(open(sys.argv[1])))
config = next(one for one in objects if one["kind"] == "ConfigMap")["data"]["hub.toml"]
print(config.replace("/etc/hubward-secrets/team", sys.argv[2]))' "$PACK/kubernetes/hubward.yaml" "$WORK/team" > "$WORK/k8s.toml"
  head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n' > "$WORK/team"; chmod 600 "$WORK/team"
  "$HUBWARD" check "$WORK/k8s.toml"
}
check "the ConfigMap's hub.toml can be read" embedded
check "the image's hub.toml can be read" "$HUBWARD" check "$PACK/container/hub.toml"

# What the image starts, and what asks it, without the image.
PORT=$(free_port)
sed "s/127.0.0.1:8808/127.0.0.1:$PORT/" "$PACK/container/hub.toml" > "$WORK/image.toml"
if start_hub "$WORK/image.toml" "$PORT"; then
  words() { sed -n 's/^HEALTHCHECK.*CMD \[\(.*\)\]/\1/p' "$PACK/container/Containerfile" | sort -u | tr -d '",'; }
  [ "$(words)" = "/usr/bin/hubward healthcheck" ] || fail "packaging - the HEALTHCHECK is one command: $(words)"
  check 'the HEALTHCHECK of the image works' env -i HUBWARD_CONFIG="$WORK/image.toml" "$HUBWARD" healthcheck
  stop_hub
  check 'and fails where no hub is' env -i HUBWARD_CONFIG="$WORK/image.toml" sh -c "! '$HUBWARD' healthcheck"
fi

[ "${1:-}" = --full ] || exit 0
RELEASE=${RELEASE:-trixie}
cd "$ROOT" || exit 1
check 'manual pages and completions' "$PACK/pages.sh" "$HUBWARD"
# The debug program stands in for the release: what is looked at is the package.
mkdir -p "$WORK/target/release" && cp "$HUBWARD" "$WORK/target/release/hubward" && strip "$WORK/target/release/hubward"
check 'cargo deb' env CARGO_TARGET_DIR="$WORK/target" cargo deb --no-build --no-strip --output "$WORK/hubward.deb"
chroot=$WORK/chroot
inside() { chroot "$chroot" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root "$@"; }
if check "a chroot of Debian $RELEASE" bounded 900 mmdebstrap --variant=minbase --include=systemd,ca-certificates,man-db "$RELEASE" "$chroot" &&
   cp "$WORK/hubward.deb" "$chroot/"; then
  check 'the package installs' inside apt-get install -y --no-install-recommends /hubward.deb
  check 'the program runs there' inside hubward version --verbose
  check 'its hub.toml can be read there' inside hubward check /etc/hubward/hub.toml
  check 'the unit is in order there' inside systemd-analyze verify --man=yes hubward.service hubward.socket
  check 'and exposed to less than 3.0' inside sh -c 'systemd-analyze security --no-pager --offline=true /usr/lib/systemd/system/hubward.service | tail -n 1 | grep -E ": [0-2]\.[0-9]"'
  check 'it is neither enabled nor started' inside sh -c '! systemctl is-enabled hubward.service'
  check 'hub.toml is a conffile' inside sh -c 'dpkg-query -W -f="\${Conffiles}" hubward | grep -q /etc/hubward/hub.toml'
  check 'man page and completions are there' inside sh -c 'test -s /usr/share/man/man1/hubward.1.gz && test -s /usr/share/bash-completion/completions/hubward'
  check 'an edited hub.toml outlives removal, not purge' inside sh -c '
    echo "# mine" >> /etc/hubward/hub.toml && apt-get remove -y hubward && grep -q mine /etc/hubward/hub.toml &&
    apt-get purge -y hubward && ! test -e /etc/hubward/hub.toml'
fi
