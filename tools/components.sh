#!/usr/bin/env bash
# The real components some tests need and no wheel brings: an HSM token, a tracer of system calls, an S3 server with Object Lock, a chain.
# Installs what is missing; says what cannot be had. A test whose component is missing is skipped and says so.
set -uo pipefail
cd "$(dirname "$0")/.."
place=build/components
anvil_version=1.7.1
anvil_sha256=10c1c727d6c1de973aeb160e59875b9a9a23464d6e74149ee8abb30b3500311b
missing=0

lacks() {
    echo "note: $1 cannot be had here; its tests will say that they are skipped"
    missing=1
}

packages() { # Debian packages: softhsm2 (PKCS#11 token), opensc (pkcs11-tool), strace, curl, openssl
    local wanted=()
    command -v softhsm2-util >/dev/null || wanted+=(softhsm2)
    command -v pkcs11-tool >/dev/null || wanted+=(opensc)
    for name in strace curl openssl; do command -v "$name" >/dev/null || wanted+=("$name"); done
    [ "${#wanted[@]}" -gt 0 ] || return 0
    { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; } || { lacks "${wanted[*]} (Debian packages)"; return 0; }
    echo "Installing ${wanted[*]} ..."
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${wanted[@]}" >/dev/null; } \
        || lacks "${wanted[*]} (Debian packages)"
}

anvil() { # an Ethereum development chain; the binary lies in the platform's npm package
    local binary="$place/npm/node_modules/@foundry-rs/anvil-linux-amd64/bin/anvil"
    sound() { echo "$anvil_sha256  $binary" | sha256sum --check --status 2>/dev/null; }
    sound && return 0
    echo "Installing anvil ..."
    npm install --silent --no-audit --no-fund --no-save --prefix "$place/npm" "@foundry-rs/anvil-linux-amd64@$anvil_version" >/dev/null 2>&1
    sound || lacks "anvil (npm package)"
}

localstack() { # an S3 server with Object Lock, in an environment of its own
    local environment="$place/localstack"
    [ "$environment/installed" -nt requirements/localstack.txt ] && return 0
    echo "Installing LocalStack into $environment ..."
    { "${PYTHON:-python3}" -m venv "$environment" \
        && "$environment/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/localstack.txt \
        && touch "$environment/installed"; } || lacks "LocalStack (Python packages)"
}

mkdir -p "$place"
packages
anvil
localstack
[ "$missing" = 0 ] || echo "Some components are missing: see the notes above."
exit 0
