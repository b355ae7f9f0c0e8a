#!/bin/bash
# Makes a Debian 12 root with systemd in CACHE/debian-root, from the package mirror that this machine's apt
# uses, and keeps it as a tarball beside. Usage: make_root.sh CACHE
set -euo pipefail
cache=$1
root=$cache/debian-root
packages=systemd,systemd-sysv,dbus,libpam-systemd,libpam-modules,login,passwd,procps,iproute2,curl
mkdir -p "$cache"
[ -e "$root/.complete" ] && exit 0
rm -rf "$root"
if [ -e "$cache/debian-root.tar" ]; then
    mkdir "$root"
    tar -C "$root" -xf "$cache/debian-root.tar"
    touch "$root/.complete"
    exit 0
fi
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 2>/dev/null | grep -v security | head -n 1)
[ -n "$mirror" ] || { echo "boot: apt names no package mirror" >&2; exit 1; }
echo "boot: making a Debian 12 root in $root (a minute or two, once)"
# Under `make`, debootstrap must not see make's own variables. A connection may break: it is tried twice.
bootstrap() {
    rm -rf --one-file-system "$root"
    env -u MAKEFLAGS -u MFLAGS debootstrap --variant=minbase --include="$packages" bookworm "$root" "$mirror" >"$cache/debootstrap.log" 2>&1
}
bootstrap || bootstrap || { tail -n 20 "$cache/debootstrap.log" >&2; exit 1; }
rm -rf "$root"/var/cache/apt/archives/*.deb
tar -C "$root" -cf "$cache/debian-root.tar.part" .
mv "$cache/debian-root.tar.part" "$cache/debian-root.tar"
touch "$root/.complete"
