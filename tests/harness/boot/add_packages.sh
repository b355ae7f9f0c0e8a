#!/bin/bash
# Makes CACHE/NAME-root: the Debian root of make_root.sh with more packages, for boot.sh. Nothing is installed on
# the host, and no daemon starts. Usage: add_packages.sh CACHE NAME PACKAGE...
set -euo pipefail
cache=$1 root=$1/$2-root
shift 2
mkdir -p "$cache"
# Two suites may want the same root at once.
exec 9>"$root.lock"
flock 9
[ -e "$root/.complete" ] && exit 0
"$(dirname "$0")/make_root.sh" "$cache"
# Without a package it is that root itself.
[ $# -gt 0 ] || exit 0
rm -rf "$root"
mkdir "$root"
tar -C "$root" -xf "$cache/debian-root.tar"
rm -f "$root/.complete"
cp /etc/resolv.conf "$root/etc/resolv.conf"
# How this machine's apt reaches its mirror.
apt-config dump --format '%F "%v";%n' | grep -E '^Acquire::(http|https|Check|Retries)' \
    >"$root/etc/apt/apt.conf.d/90-as-the-host" || true
printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
chmod 0755 "$root/usr/sbin/policy-rc.d"
echo "boot: adding $* to a Debian root in $root (half a minute, once)"
unshare --mount --propagation private chroot "$root" sh -euc 'export DEBIAN_FRONTEND=noninteractive
    apt-get -q update
    apt-get -qy install --no-install-recommends "$@"
    apt-get -q clean' sh "$@" >"$root.log" 2>&1 || { tail -n 20 "$root.log" >&2; exit 1; }
touch "$root/.complete"
