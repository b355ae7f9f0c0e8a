//! The part of the file system that one daemon sees: the system's programs and libraries, and the paths that
//! it was given, under the names that they have outside. Folders on the way to them are empty but for
//! that, so a checkout below a 0700 home can be used, and the rest of that home is not there at all
//! (mount_namespaces(7), pivot_root(2)).

use anyhow::{Context, Result};
use nix::{
    errno::Errno,
    mount::{MntFlags, MsFlags, mount, umount2},
    sys::{
        stat::{Mode, umask},
        statvfs::{FsFlags, statvfs},
    },
    unistd::{chdir, chroot, pivot_root},
};
use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

pub(crate) struct View<'a> {
    /// An empty folder outside, where the new root is put together.
    pub(crate) at: &'a Path,
    pub(crate) read_only: &'a [PathBuf],
    pub(crate) writable: &'a [PathBuf],
    /// Unix sockets to connect to.
    pub(crate) sockets: &'a [PathBuf],
}

const NONE: Option<&str> = None;
/// What programs and libc need; a symbolic link such as /lib is made again.
const SYSTEM: [&str; 8] = ["bin", "sbin", "lib", "lib32", "lib64", "libx32", "usr", "etc"];
const DEVICES: [&str; 5] = ["null", "zero", "full", "random", "urandom"];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Read,
    Write,
}

/// Makes the view the root of this process, which must be in a mount namespace of its own.
pub(crate) fn enter(view: &View<'_>) -> Result<()> {
    umask(Mode::from_bits_truncate(0o022));
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE)
        .context("mounts cannot be made private")?;
    tmpfs(view.at, "mode=0755,size=1m")?;
    for name in SYSTEM {
        system_folder(view.at, name)?;
    }
    kernel_folders(view.at)?;
    for path in view.read_only {
        bind(view.at, path, Access::Read)?;
    }
    for path in view.writable {
        bind(view.at, path, Access::Write)?;
    }
    for path in view.sockets {
        bind(view.at, path, Access::Write)?;
    }
    change_root(view.at)
}

fn system_folder(root: &Path, name: &str) -> Result<()> {
    let source = Path::new("/").join(name);
    match fs::symlink_metadata(&source) {
        Ok(found) if found.is_symlink() => {
            let target = fs::read_link(&source)
                .with_context(|| format!("{} cannot be read", source.display()))?;
            symlink(target, root.join(name))
                .with_context(|| format!("{} cannot be made again", source.display()))
        }
        Ok(found) if found.is_dir() => bind(root, &source, Access::Read),
        _ => Ok(()),
    }
}

fn kernel_folders(root: &Path) -> Result<()> {
    for device in DEVICES {
        bind(root, &Path::new("/dev").join(device), Access::Write)?;
    }
    for device in graphics_devices() {
        bind(root, &device, Access::Write)?;
    }
    // Other users' processes stay hidden; in a container that forbids a fresh one, the old one has to do.
    let proc_folder = folder(root, Path::new("/proc"))?;
    let hardened = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    if mount(Some("proc"), &proc_folder, Some("proc"), hardened, Some("hidepid=2")).is_err() {
        bind(root, Path::new("/proc"), Access::Write)?;
    }
    // ATen and OpenMP read the processor's shape from /sys.
    bind(root, Path::new("/sys"), Access::Read)?;
    tmpfs(&folder(root, Path::new("/tmp"))?, "mode=1777,size=64m")
}

/// NVIDIA's device files, where a GPU is there.
fn graphics_devices() -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir("/dev") else { return Vec::new() };
    entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("nvidia"))
        })
        .filter(|path| !path.is_dir())
        .collect()
}

fn tmpfs(at: &Path, options: &str) -> Result<()> {
    mount(Some("tmpfs"), at, Some("tmpfs"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some(options))
        .with_context(|| format!("no tmpfs can be mounted at {}", at.display()))
}

fn inside(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

fn folder(root: &Path, path: &Path) -> Result<PathBuf> {
    let target = inside(root, path);
    fs::create_dir_all(&target)
        .with_context(|| format!("the folder {} cannot be made", target.display()))?;
    Ok(target)
}

/// Shows `path` at the same place below `root`.
fn bind(root: &Path, path: &Path, access: Access) -> Result<()> {
    let target = inside(root, path);
    if path.is_dir() {
        folder(root, path)?;
    } else {
        folder(root, path.parent().unwrap_or(Path::new("/")))?;
        if fs::symlink_metadata(&target).is_err() {
            fs::File::create(&target)
                .with_context(|| format!("{} cannot be made", target.display()))?;
        }
    }
    mount(Some(path), &target, NONE, MsFlags::MS_BIND | MsFlags::MS_REC, NONE)
        .with_context(|| format!("{} cannot be bound", path.display()))?;
    restrict(&target, access)?;
    if access == Access::Read {
        for below in mounts_below(&target) {
            restrict(&below, access)?;
        }
    }
    Ok(())
}

/// Takes the right to write from a folder, and what is mounted below it, in this mount namespace.
pub(crate) fn make_read_only(folder: &Path) -> Result<()> {
    mount(Some(folder), folder, NONE, MsFlags::MS_BIND | MsFlags::MS_REC, NONE)
        .with_context(|| format!("{} cannot be bound", folder.display()))?;
    restrict(folder, Access::Read)?;
    for below in mounts_below(folder) {
        restrict(&below, Access::Read)?;
    }
    Ok(())
}

/// Read-only where asked, no set-user-ID. What the mount outside forbids stays forbidden: the kernel insists
/// on that where it was set by another user namespace.
fn restrict(target: &Path, access: Access) -> Result<()> {
    let mut flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_NOSUID;
    if access == Access::Read {
        flags |= MsFlags::MS_RDONLY;
    }
    let known = statvfs(target).map(|found| found.flags()).unwrap_or(FsFlags::empty());
    for (found, keep) in [
        (FsFlags::ST_RDONLY, MsFlags::MS_RDONLY),
        (FsFlags::ST_NODEV, MsFlags::MS_NODEV),
        (FsFlags::ST_NOEXEC, MsFlags::MS_NOEXEC),
        (FsFlags::ST_NOATIME, MsFlags::MS_NOATIME),
        (FsFlags::ST_NODIRATIME, MsFlags::MS_NODIRATIME),
        (FsFlags::ST_RELATIME, MsFlags::MS_RELATIME),
    ] {
        if known.contains(found) {
            flags |= keep;
        }
    }
    mount(NONE, target, NONE, flags, NONE)
        .with_context(|| format!("{} cannot be restricted", target.display()))
}

/// Mount points below `target`, from the fifth field of /proc/self/mountinfo (proc_pid_mountinfo(5)).
fn mounts_below(target: &Path) -> Vec<PathBuf> {
    let Ok(table) = fs::read_to_string("/proc/self/mountinfo") else { return Vec::new() };
    table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|point| {
            PathBuf::from(point.replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\"))
        })
        .filter(|point| point.starts_with(target) && point != target)
        .collect()
}

fn change_root(at: &Path) -> Result<()> {
    chdir(at).context("the view cannot be entered")?;
    match pivot_root(".", ".") {
        Ok(()) => umount2(".", MntFlags::MNT_DETACH).context("the old root cannot be let go")?,
        // The present root is no mount point: a chroot, or the boot's own ramfs.
        Err(Errno::EINVAL) => chroot(".").context("the view cannot become the root")?,
        Err(error) => return Err(error).context("the view cannot become the root"),
    }
    chdir("/").context("the view cannot be entered")?;
    let flags = MsFlags::MS_BIND
        | MsFlags::MS_REMOUNT
        | MsFlags::MS_RDONLY
        | MsFlags::MS_NOSUID
        | MsFlags::MS_NODEV;
    mount(NONE, "/", NONE, flags, NONE).context("the view cannot be made read-only")
}
