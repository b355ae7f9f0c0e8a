//! An API key in place of a sign-in: from the environment's SDREST_API_KEY or a file that only its owner may read,
//! never from the command line.

use crate::cli::CallerArgs;
use anyhow::{Context, Result, bail, ensure};
use nix::fcntl::OFlag;
use sdrest_proto::{api_key::PREFIX, secret::ApiKey};
use std::{
    fs::OpenOptions,
    io::Read,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
};

const VARIABLE: &str = "SDREST_API_KEY";
/// A key has 64 characters; the rest is for a line end and blanks.
const LONGEST: u64 = 256;

/// The key of the file, else that of the environment, if there is one. Who asks for a sign-in by its flags gets one,
/// whatever the environment holds.
pub(crate) fn find(file: Option<&Path>, caller: &CallerArgs) -> Result<Option<ApiKey>> {
    if let Some(path) = file {
        return read(path).map(Some);
    }
    if caller.user.is_some() || caller.password_stdin {
        return Ok(None);
    }
    match std::env::var(VARIABLE) {
        Ok(text) if !text.trim().is_empty() => checked(&text, VARIABLE).map(Some),
        Ok(_) | Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => bail!("{VARIABLE} holds no API key"),
    }
}

fn read(path: &Path) -> Result<ApiKey> {
    let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits();
    let name = || format!("--api-key-file {}", path.display());
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).with_context(name)?;
    let found = file.metadata().with_context(name)?;
    ensure!(found.is_file(), "{} is not a regular file", name());
    ensure!(
        found.mode() & 0o077 == 0,
        "{} can be read by others (mode {:04o}); make it yours alone: chmod 600 {}",
        name(),
        found.mode() & 0o7777,
        path.display()
    );
    let mut text = String::new();
    file.take(LONGEST).read_to_string(&mut text).with_context(name)?;
    checked(&text, &name())
}

/// A key carries a checksum, so a mistyped one is found before it is sent anywhere.
fn checked(text: &str, from: &str) -> Result<ApiKey> {
    let key = ApiKey::new(text.trim().to_owned());
    ensure!(
        key.id().is_some(),
        "{from} holds no API key: one begins with {PREFIX} and ends with a checksum, which is wrong here"
    );
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sdrest_proto::id::KeyId;
    use std::{fs, os::unix::fs::PermissionsExt};

    #[test]
    fn a_file_is_believed_only_where_nobody_else_reads_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("key");
        let key = ApiKey::compose(KeyId::random(), &[3; 24]);
        fs::write(&file, format!("{}\n", key.expose("written for a test"))).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(read(&file).unwrap_err().to_string().contains("0640"));
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        assert!(read(&file).unwrap().matches(&key));
        fs::write(&file, "sdr_mistyped").unwrap();
        let error = read(&file).unwrap_err().to_string();
        assert!(error.contains("checksum") && !error.contains("mistyped"), "{error}");
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert!(read(&link).is_err(), "a symbolic link is not followed");
    }
}
