#!/bin/bash
# Makes CACHE/NAME-root: the Debian root of make_root.sh with more packages, for boot.sh. Nothing is installed on
# the host, and no daemon starts. Usage: add_packages.sh CACHE NAME PACKAGE...
set -euo pipefail

# What runs inside. It refuses wherever the mark of a throw-away root is missing: were it ever run outside the
# chroot, it would install on the host.
readonly INSIDE='set -eu
[ -e /.throw-away ] || { echo "this is no throw-away root" >&2; exit 1; }
export DEBIAN_FRONTEND=noninteractive
apt-get -q update
apt-get -qy install --no-install-recommends "$@"
apt-get -q clean'

# bash reads a script while it runs it: as a function it is read whole first, so that an edit in the meantime cannot
# make it go on in the middle of another line.
main() {
    local cache=$1 root=$1/$2-root
    shift 2
    mkdir -p "$cache"
    # Two suites may want the same root at once.
    exec 9>"$root.lock"
    flock 9
    [ -e "$root/.complete" ] && return 0
    "$(dirname "$0")/make_root.sh" "$cache"
    # Without a package it is that root itself.
    [ $# -gt 0 ] || return 0
    rm -rf "$root"
    mkdir "$root"
    tar -C "$root" -xf "$cache/debian-root.tar"
    rm -f "$root/.complete"
    touch "$root/.throw-away"
    cp /etc/resolv.conf "$root/etc/resolv.conf"
    # How this machine's apt reaches its mirror.
    apt-config dump --format '%F "%v";%n' | grep -E '^Acquire::(http|https|Check|Retries)' \
        >"$root/etc/apt/apt.conf.d/90-as-the-host" || true
    printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
    chmod 0755 "$root/usr/sbin/policy-rc.d"
    echo "boot: adding $* to a Debian root in $root (half a minute, once)"
    unshare --mount --propagation private chroot "$root" sh -c "$INSIDE" sh "$@" >"$root.log" 2>&1 ||
        { tail -n 20 "$root.log" >&2; return 1; }
    touch "$root/.complete"
}

main "$@"
exit
