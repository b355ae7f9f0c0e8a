//! The folders that `serve` writes: made where they are missing, refused where they are somebody else's. Owner and mode
//! are changed on an open folder and not by its path, which may lead elsewhere a moment later.

use super::privilege::Privilege;
use crate::paths;
use anyhow::{Context, Result, ensure};
use nix::fcntl::OFlag;
use std::{
    fs::{self, File, Permissions},
    os::{
        fd::AsRawFd,
        unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown},
    },
    path::{Path, PathBuf},
};

/// Makes a folder that is missing and gives its absolute path without symbolic links.
pub(crate) fn folder(path: &Path) -> Result<PathBuf> {
    fs::create_dir_all(path)
        .with_context(|| format!("the folder {} cannot be made", path.display()))?;
    paths::resolve(path)
}

/// A run folder is given another group and mode: one that is `serve`'s own, never a folder that others use.
pub(crate) fn run_folder(path: &Path) -> Result<PathBuf> {
    let folder = folder(path)?;
    let unreadable = || format!("the run folder {} cannot be read", folder.display());
    let owner = fs::metadata(&folder).with_context(unreadable)?.uid();
    let is_empty = fs::read_dir(&folder).with_context(unreadable)?.next().is_none();
    ensure!(
        owner == nix::unistd::geteuid().as_raw()
            && (is_empty || folder.join("serve.lock").exists()),
        "{} is used by something else (the systemd units?); name another folder with --run-dir",
        folder.display()
    );
    Ok(folder)
}

/// The folder of --auth-data-dir: authd's alone. One that holds something must be that already, so that no folder of
/// other things is given away by a slip of the hand.
pub(crate) fn auth_data(path: &Path, privilege: &Privilege) -> Result<PathBuf> {
    let folder = folder(path).context("--auth-data-dir")?;
    let unreadable = || format!("--auth-data-dir {} cannot be read", folder.display());
    let held = Held::open(&folder).context("--auth-data-dir")?;
    let found = held.folder.metadata().with_context(unreadable)?;
    let inside = format!("/proc/self/fd/{}", held.folder.as_raw_fd());
    let is_empty = fs::read_dir(inside).with_context(unreadable)?.next().is_none();
    let (owner, given) = match privilege {
        Privilege::Separate(users) => (users.authd.uid, Some((users.authd.uid, users.authd.gid))),
        Privilege::Caller { uid, .. } => (*uid, None),
    };
    ensure!(
        is_empty || (found.uid() == owner && found.mode() & 0o077 == 0),
        "--auth-data-dir {} holds something and is not authd's alone (uid {}, mode {:04o}): name an empty folder, or \
         give this one to uid {owner} with mode 0700",
        folder.display(),
        found.uid(),
        found.mode() & 0o7777
    );
    held.give(given, 0o700)?;
    Ok(folder)
}

/// A folder that is open: what was looked at is what is changed.
pub(crate) struct Held<'a> {
    folder: File,
    path: &'a Path,
}

impl<'a> Held<'a> {
    /// Never through a symbolic link at its end.
    pub(crate) fn open(path: &'a Path) -> Result<Self> {
        let flags = (OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW).bits();
        let folder = File::options()
            .read(true)
            .custom_flags(flags)
            .open(path)
            .with_context(|| format!("the folder {} cannot be opened", path.display()))?;
        Ok(Self { folder, path })
    }

    /// Gives it to this uid and gid, where there is one to give it to, and sets its mode.
    pub(crate) fn give(&self, owner: Option<(u32, u32)>, mode: u32) -> Result<()> {
        let shown = self.path.display();
        if let Some((uid, gid)) = owner {
            fchown(&self.folder, Some(uid), Some(gid))
                .with_context(|| format!("{shown} cannot be given to uid {uid} and gid {gid}"))?;
        }
        self.folder
            .set_permissions(Permissions::from_mode(mode))
            .with_context(|| format!("the mode of {shown} cannot be set to {mode:04o}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_other_things_does_not_become_authds() {
        let dir = tempfile::tempdir().unwrap();
        let uid = nix::unistd::geteuid().as_raw();
        let privilege = Privilege::Caller { uid, namespaces: false };
        let folder = dir.path().join("auth");
        auth_data(&folder, &privilege).unwrap();
        assert_eq!(fs::metadata(&folder).unwrap().mode() & 0o777, 0o700);
        fs::write(folder.join("users"), "x").unwrap();
        auth_data(&folder, &privilege).unwrap();
        fs::set_permissions(&folder, Permissions::from_mode(0o755)).unwrap();
        let error = auth_data(&folder, &privilege).unwrap_err().to_string();
        assert!(error.contains("0755"), "{error}");
        assert_eq!(fs::metadata(&folder).unwrap().mode() & 0o777, 0o755, "left as it was");
    }
}
