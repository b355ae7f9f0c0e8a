//! The folders that `serve` writes: made where they are missing, refused where they are somebody else's.

use super::privilege::Privilege;
use crate::paths;
use anyhow::{Context, Result, ensure};
use nix::unistd::{Gid, Uid, chown};
use std::{
    fs::{self, Permissions},
    os::unix::fs::{MetadataExt, PermissionsExt},
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
    let found = fs::metadata(&folder).with_context(unreadable)?;
    let is_empty = fs::read_dir(&folder).with_context(unreadable)?.next().is_none();
    let owner = match privilege {
        Privilege::Separate(users) => users.authd.uid,
        Privilege::Caller { uid, .. } => *uid,
    };
    ensure!(
        is_empty || (found.uid() == owner && found.mode() & 0o077 == 0),
        "--auth-data-dir {} holds something and is not authd's alone (uid {}, mode {:04o}): name an empty folder, or \
         give this one to uid {owner} with mode 0700",
        folder.display(),
        found.uid(),
        found.mode() & 0o7777
    );
    give(&folder, privilege)?;
    Ok(folder)
}

/// Makes a folder authd's alone.
fn give(folder: &Path, privilege: &Privilege) -> Result<()> {
    if let Privilege::Separate(users) = privilege {
        let user = &users.authd;
        chown(folder, Some(Uid::from_raw(user.uid)), Some(Gid::from_raw(user.gid)))
            .with_context(|| format!("{} cannot be given to {}", folder.display(), user.name))?;
    }
    fs::set_permissions(folder, Permissions::from_mode(0o700))
        .with_context(|| format!("the mode of {} cannot be set", folder.display()))
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
