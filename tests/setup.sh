#!/bin/bash
# Installs the Debian packages that are missing: `setup.sh demo` or `setup.sh test`. Nothing in the list of
# `demo` touches PAM's configuration or starts a daemon. Says what it does; fails with the reason.
set -euo pipefail

case "${1:-}" in
demo) packages=(gcc g++ make pkg-config libpam0g-dev python3 python3-venv util-linux mount openssl procps
    ca-certificates) ;;
test) packages=(gcc g++ make pkg-config libpam0g-dev python3 python3-venv util-linux mount openssl
    libpam-modules libpam-oath libpam-wrapper debootstrap systemd systemd-container iproute2 procps ca-certificates) ;;
*) echo "usage: setup.sh demo|test" >&2; exit 2 ;;
esac

if ! command -v cargo >/dev/null; then
    echo "setup: a Rust toolchain is needed (cargo was not found in PATH); see https://rustup.rs" >&2
    exit 1
fi
if ! command -v dpkg-query >/dev/null; then
    echo "setup: this is not a Debian system; make sure that you have what these packages bring: ${packages[*]}"
    exit 0
fi

missing=()
for package in "${packages[@]}"; do
    # A Python of one's own brings venv with it.
    if [ "$package" = python3-venv ] && python3 -c 'import ensurepip, venv' 2>/dev/null; then continue; fi
    if [ "$package" = python3 ] && command -v python3 >/dev/null; then continue; fi
    status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
    [ "$status" = installed ] || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

sudo=()
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null; then
        echo "setup: these packages are missing and there is no sudo: ${missing[*]}" >&2
        exit 1
    fi
    sudo=(sudo)
fi
echo "setup: installing ${missing[*]}"
"${sudo[@]}" apt-get -qq -o Acquire::Retries=3 update
"${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Acquire::Retries=3 install -y --no-install-recommends "${missing[@]}" >/dev/null
