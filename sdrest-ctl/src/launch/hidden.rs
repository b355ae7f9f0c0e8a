//! What a login does not see. A PAM module is uid 0, and uid 0 is all that systemd, D-Bus and the container engines ask of
//! a caller before they start a program outside of every wall here. So their sockets are out of sight, as in the units
//! (`systemd/sdrest-conversation@.service` has the same list), and /dev holds no disk and no terminal.

use anyhow::{Context, Result};
use nix::{
    fcntl::OFlag,
    mount::{MsFlags, mount},
};
use std::{
    fs::{self, File},
    io::ErrorKind,
    os::{
        fd::AsRawFd,
        unix::fs::{OpenOptionsExt, symlink},
    },
    path::Path,
};

const NONE: Option<&str> = None;

/// Whoever connects to one of these as root runs what they like on the host. What PAM and NSS modules speak to (sssd, nscd,
/// nslcd, winbindd, slapd, the journal) is not among them.
const MASTERS: [&str; 18] = [
    // authd's admin socket, of the units.
    "/run/sdrest",
    "/run/dbus",
    "/run/systemd/private",
    "/run/systemd/io.systemd.Manager",
    "/run/initctl",
    "/run/udev",
    "/run/user",
    "/run/docker.sock",
    "/run/containerd",
    "/run/podman",
    "/run/crio",
    "/run/libvirt",
    "/run/snapd.socket",
    "/run/lxd.socket",
    "/run/incus",
    "/var/lib/lxd",
    "/var/lib/incus",
    "/var/snap/lxd",
];

/// What libc and modules open.
const DEVICES: [&str; 5] = ["null", "zero", "full", "random", "urandom"];

/// Hides those that this machine has, in the caller's mount namespace.
pub(super) fn hide_masters() -> Result<()> {
    MASTERS.into_iter().map(Path::new).try_for_each(hide)
}

/// A folder becomes an empty one that nobody enters without a capability, a socket or a pipe becomes /dev/null. What is not
/// there, or lies in a folder that is hidden already, needs nothing.
pub(super) fn hide(path: &Path) -> Result<()> {
    let there = path.try_exists();
    if !there.with_context(|| format!("{} cannot be looked at", path.display()))? {
        return Ok(());
    }
    let hidden = if path.is_dir() {
        let hardened =
            MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC | MsFlags::MS_RDONLY;
        mount(Some("tmpfs"), path, Some("tmpfs"), hardened, Some("mode=0000,size=4k"))
    } else {
        mount(Some("/dev/null"), path, NONE, MsFlags::MS_BIND, NONE)
    };
    hidden.with_context(|| format!("{} cannot be hidden", path.display()))
}

/// A /dev of [`DEVICES`] and the way to the log; no disk, no memory, not the terminal that `serve` was typed in.
pub(super) fn own_devices() -> Result<()> {
    let dev = Path::new("/dev");
    let known = DEVICES.into_iter().map(|name| open(name).map(|file| (name, file)));
    let mut kept = known.collect::<Result<Vec<_>>>()?;
    // With systemd a link to the journal's socket, else a socket, or nothing.
    let log = dev.join("log");
    let link = fs::read_link(&log).ok();
    if link.is_none() && log.exists() {
        kept.push(("log", open("log")?));
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    mount(Some("tmpfs"), dev, Some("tmpfs"), flags, Some("mode=0755,size=64k"))
        .context("no /dev of its own can be mounted")?;
    for (name, file) in kept.iter().filter_map(|(name, file)| Some((name, file.as_ref()?))) {
        let at = dev.join(name);
        File::create(&at).with_context(|| format!("{} cannot be made", at.display()))?;
        let outside = format!("/proc/self/fd/{}", file.as_raw_fd());
        mount(Some(outside.as_str()), &at, NONE, MsFlags::MS_BIND, NONE)
            .with_context(|| format!("{} cannot be bound", at.display()))?;
    }
    let fixed = [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ];
    for (name, target) in fixed.map(|(name, target)| (name, Path::new(target))) {
        symlink(target, dev.join(name)).with_context(|| format!("no /dev/{name} can be made"))?;
    }
    if let Some(target) = link {
        symlink(target, log).context("no /dev/log can be made")?;
    }
    let remount = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY | MsFlags::MS_NODEV | flags;
    mount(NONE, dev, NONE, remount, NONE).context("/dev cannot be made read-only")
}

/// A node as it is outside, to be bound once a mount covers its name; nothing where there is none.
fn open(name: &str) -> Result<Option<File>> {
    let path = Path::new("/dev").join(name);
    let flags = OFlag::O_PATH.bits();
    match File::options().read(true).custom_flags(flags).open(&path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("{} cannot be opened", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_units_hide_the_same() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../systemd");
        for unit in ["sdrest-conversation@.service", "sdrest-chauthtok@.service"] {
            let text = fs::read_to_string(folder.join(unit)).unwrap();
            let lines = text.lines().filter_map(|line| line.strip_prefix("InaccessiblePaths="));
            let hidden: BTreeSet<&str> =
                lines.flat_map(|line| line.split(' ')).map(|path| &path[1..]).collect();
            // ProtectHome= has that one.
            for path in MASTERS.into_iter().filter(|path| *path != "/run/user") {
                assert!(hidden.contains(path), "{unit} does not hide {path}: {hidden:?}");
            }
            assert!(text.contains("\nProtectHome=yes\n"), "{unit}");
        }
    }
}
