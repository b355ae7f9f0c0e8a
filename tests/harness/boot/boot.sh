#!/bin/bash
# Boots the Debian root of make_root.sh as a real systemd system, without a systemd on the host.
#   boot.sh start [systemd-nspawn arguments, such as --bind-ro=/src:/dst]
#   boot.sh exec CMD...    runs a command inside, as root
#   boot.sh stop
# BOOT_ROOT names the root, BOOT_RUN a folder for this machine's files. Changes inside go to a tmpfs overlay.
set -u
: "${BOOT_ROOT:?}" "${BOOT_RUN:?}"
leader() { cat "$BOOT_RUN/leader" 2>/dev/null; }

start() {
    mkdir -p "$BOOT_RUN"
    : >"$BOOT_RUN/console"
    local name
    name=sdrest-boot-$$
    # A private mount namespace, so that nothing reaches the host's mount table, and a control group of its
    # own for systemd to divide.
    setsid unshare --mount --propagation private bash -c '
        run=$1 name=$2
        shift 2
        for hierarchy in /sys/fs/cgroup /sys/fs/cgroup/{systemd,unified,pids,cpu,cpuacct,blkio}; do
            [ -e "$hierarchy/cgroup.procs" ] || continue
            mkdir -p "$hierarchy/$name" && echo $$ >"$hierarchy/$name/cgroup.procs"
        done
        echo "$name" >"$run/cgroup"
        exec systemd-nspawn "$@"' _ "$BOOT_RUN" "$name" \
        --directory="$BOOT_ROOT" --machine="$name" --boot --register=no --keep-unit --link-journal=no \
        --console=pipe --kill-signal=SIGRTMIN+3 --resolv-conf=off --timezone=off --volatile=overlay \
        --private-network "$@" </dev/null >"$BOOT_RUN/console" 2>&1 &
    local nspawn=$! state='' child
    echo "$nspawn" >"$BOOT_RUN/nspawn"
    for _ in $(seq 600); do
        # systemd inside is the child whose pid in its own namespace is 1.
        for child in $(pgrep -P "$nspawn"); do
            [ "$(awk '/^NSpid/ { print $NF }' "/proc/$child/status" 2>/dev/null)" = 1 ] && echo "$child" >"$BOOT_RUN/leader"
        done
        if [ -n "$(leader)" ]; then
            state=$(nsenter -t "$(leader)" -a -- systemctl is-system-running --wait 2>/dev/null)
        fi
        case "$state" in running | degraded) echo "booted: $state"; return 0 ;; esac
        kill -0 "$nspawn" 2>/dev/null || break
        sleep 0.1
    done
    echo "boot: the system did not come up (state: ${state:-none})" >&2
    cat "$BOOT_RUN/console" >&2
    stop
    return 1
}

stop() {
    local nspawn hierarchy name
    nspawn=$(cat "$BOOT_RUN/nspawn" 2>/dev/null) || return 0
    kill -TERM "$nspawn" 2>/dev/null
    for _ in $(seq 200); do kill -0 "$nspawn" 2>/dev/null || break; sleep 0.1; done
    kill -KILL "$nspawn" 2>/dev/null
    name=$(cat "$BOOT_RUN/cgroup" 2>/dev/null)
    for hierarchy in /sys/fs/cgroup /sys/fs/cgroup/*/; do
        [ -n "$name" ] && [ -d "$hierarchy/$name" ] && find "$hierarchy/$name" -depth -type d -exec rmdir {} + 2>/dev/null
    done
    rm -f "$BOOT_RUN/nspawn" "$BOOT_RUN/leader"
}

case "${1:-}" in
start) shift; start "$@" ;;
exec) shift; exec nsenter -t "$(leader)" -a -- /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin TERM=dumb LC_ALL=C.UTF-8 "$@" ;;
stop) stop ;;
*) echo "usage: boot.sh start|exec|stop" >&2; exit 2 ;;
esac
