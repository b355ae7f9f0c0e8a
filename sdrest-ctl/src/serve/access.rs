//! Before a process gets a user of its own: which files it will need, and whether that user can read them.
//! What it cannot read is named with its mode, rather than left to fail inside.

use crate::users::User;
use anyhow::{Context, Result, bail};
use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::MetadataExt,
    path::{Component, Path, PathBuf},
    process::Command,
};

/// A models folder holds a few levels of folders; deeper ones are not looked at.
const DEPTH: u32 = 6;

/// Shared libraries that do not belong to the system.
#[derive(Debug, Default)]
pub(crate) struct Libraries {
    pub(crate) folders: BTreeSet<PathBuf>,
    pub(crate) files: BTreeSet<PathBuf>,
}

/// The shared libraries that a program is linked with and that lie outside of /usr, /lib and
/// /lib64: libtorch. The dynamic linker itself is asked (ld.so(8), LD_TRACE_LOADED_OBJECTS); it then
/// lists them and does not run the program.
pub(crate) fn libraries(program: &Path) -> Result<Libraries> {
    let output = Command::new(program)
        .env("LD_TRACE_LOADED_OBJECTS", "1")
        .output()
        .with_context(|| format!("{} cannot be looked at", program.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut libraries = Libraries::default();
    for line in text.lines() {
        let Some((name, rest)) = line.split_once("=>") else { continue };
        let path = rest.rsplit_once(" (").map_or(rest, |(path, _)| path).trim();
        if path == "not found" {
            bail!(
                "{} needs the library {}, which is not there; run `make libtorch`",
                program.display(),
                name.trim()
            );
        }
        let path = Path::new(path);
        let real =
            path.canonicalize().with_context(|| format!("{} cannot be opened", path.display()))?;
        for folder in
            [path.parent(), real.parent()].into_iter().flatten().filter(|folder| !is_system(folder))
        {
            // `DIR/../lib` is the same folder by another name: both must work.
            libraries.folders.insert(folder.canonicalize()?);
            if folder.components().all(|part| part != Component::ParentDir) {
                libraries.folders.insert(folder.to_owned());
            }
            libraries.files.insert(real.clone());
        }
    }
    Ok(libraries)
}

fn is_system(folder: &Path) -> bool {
    ["/usr", "/lib", "/lib64", "/lib32"].iter().any(|system| folder.starts_with(system))
}

/// Fails with the first file or folder below `path` that `user` cannot read.
pub(crate) fn check_readable(path: &Path, user: &User) -> Result<()> {
    check(path, user, DEPTH)
}

fn check(path: &Path, user: &User, depth: u32) -> Result<()> {
    let found =
        fs::metadata(path).with_context(|| format!("{} cannot be opened", path.display()))?;
    let needed = if found.is_dir() { 0o5 } else { 0o4 };
    if !allows(&found, user, needed) {
        bail!(
            "{} (user {}) cannot read {}: mode {:04o}, owner {}, group {}; allow it with: chmod o+rX {}",
            user.name,
            user.uid,
            path.display(),
            found.mode() & 0o7777,
            found.uid(),
            found.gid(),
            path.display()
        );
    }
    if found.is_dir() && depth > 0 {
        for entry in
            fs::read_dir(path).with_context(|| format!("{} cannot be read", path.display()))?
        {
            let entry = entry.with_context(|| format!("{} cannot be read", path.display()))?;
            let kind = entry.file_type()?;
            let hidden = entry.file_name().to_string_lossy().starts_with('.');
            if (kind.is_dir() || kind.is_file()) && !hidden {
                check(&entry.path(), user, depth - 1)?;
            }
        }
    }
    Ok(())
}

/// Fails where `user` cannot execute the program.
pub(crate) fn check_executable(program: &Path, user: &User) -> Result<()> {
    let found =
        fs::metadata(program).with_context(|| format!("{} cannot be opened", program.display()))?;
    if allows(&found, user, 0o5) {
        return Ok(());
    }
    bail!(
        "{} (user {}) cannot execute {}: mode {:04o}, owner {}; allow it with: chmod o+rx {}",
        user.name,
        user.uid,
        program.display(),
        found.mode() & 0o7777,
        found.uid(),
        program.display()
    )
}

/// The one class of permission bits that counts for this user (path_resolution(7)).
fn allows(found: &fs::Metadata, user: &User, needed: u32) -> bool {
    let shift = if found.uid() == user.uid {
        6
    } else if found.gid() == user.gid {
        3
    } else {
        0
    };
    (found.mode() >> shift) & needed == needed
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn an_unreadable_file_is_named_with_its_mode() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let file = dir.path().join("weights.safetensors");
        fs::write(&file, "x").unwrap();
        let user = User { name: "sdrest-worker".to_owned(), uid: 64_999, gid: 64_999 };
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        check_readable(dir.path(), &user).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        let error = check_readable(dir.path(), &user).unwrap_err().to_string();
        assert!(error.contains("weights.safetensors") && error.contains("0640"), "{error}");
    }

    #[test]
    fn only_the_first_matching_class_counts() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o055)).unwrap();
        let found = fs::metadata(dir.path()).unwrap();
        let owner = User { name: "owner".to_owned(), uid: found.uid(), gid: 64_999 };
        assert!(!allows(&found, &owner, 0o5), "others may, the owner may not");
        let other = User { name: "other".to_owned(), uid: 64_999, gid: 64_999 };
        assert!(allows(&found, &other, 0o5));
    }
}
