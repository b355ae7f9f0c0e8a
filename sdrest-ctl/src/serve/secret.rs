//! The secret of HS256: from a file or the command line into sealed memory (memfd_create(2), F_ADD_SEALS), which authd
//! inherits by number. No file, environment or command line of a process that `serve` starts ever holds it.
//!
//! One on the command line is taken off it first: this program puts it into the memory and executes itself anew
//! without it, so that /proc/PID/cmdline shows it no longer than that takes.

use crate::cli::{SecretText, ServeArgs};
use anyhow::{Context, Error, Result, bail, ensure};
use nix::{
    fcntl::{FcntlArg, FdFlag, OFlag, SealFlag, fcntl},
    sys::memfd::{MFdFlags, memfd_create},
};
use std::{
    convert::Infallible,
    ffi::{OsStr, OsString},
    fs::{File, OpenOptions, read_link},
    io::{Read, Write},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::{
            ffi::OsStrExt,
            fs::{MetadataExt, OpenOptionsExt},
            process::CommandExt,
        },
    },
    path::Path,
    process::Command,
};
use zeroize::Zeroizing;

/// RFC 7518, section 3.2: a key of the same size as the hash, or larger.
const SHORTEST: usize = 32;
const LONGEST: usize = 4096;
const NAME: &str = "sdrest-jwt-secret";
const FLAG: &str = "--jwt-secret";
/// Nobody changes it any more, not even its maker.
const SEALS: SealFlag = SealFlag::F_SEAL_WRITE
    .union(SealFlag::F_SEAL_GROW)
    .union(SealFlag::F_SEAL_SHRINK)
    .union(SealFlag::F_SEAL_SEAL);

/// What was said about it on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    CommandLine,
    File,
}

pub(crate) struct Secret {
    pub(crate) memory: OwnedFd,
    pub(crate) origin: Origin,
}

/// The secret, if there is one. With one on the command line this does not return: the program begins again.
pub(crate) fn take(args: &ServeArgs) -> Result<Option<Secret>> {
    if let Some(SecretText(text)) = &args.jwt_secret {
        let memory = seal(text.as_bytes(), FLAG)?;
        return begin_again(&memory).map(|never| match never {});
    }
    if let Some(number) = args.jwt_secret_fd {
        return Ok(Some(Secret { memory: received(number)?, origin: Origin::CommandLine }));
    }
    let Some(path) = &args.jwt_secret_file else { return Ok(None) };
    Ok(Some(Secret { memory: from_file(path)?, origin: Origin::File }))
}

fn from_file(path: &Path) -> Result<OwnedFd> {
    let name = || format!("--jwt-secret-file {}", path.display());
    let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).with_context(|| {
        format!("{} cannot be opened (symbolic links are not followed)", name())
    })?;
    let found = file.metadata().with_context(name)?;
    ensure!(found.is_file(), "{} is not a regular file", name());
    let own = nix::unistd::geteuid().as_raw();
    ensure!(
        [0, own].contains(&found.uid()),
        "{} belongs to uid {}, not to root or the caller",
        name(),
        found.uid()
    );
    ensure!(
        found.mode() & 0o077 == 0,
        "{} can be used by others (mode {:04o}); make it its owner's alone: chmod 600 {}",
        name(),
        found.mode() & 0o7777,
        path.display()
    );
    let mut bytes = Zeroizing::new(Vec::with_capacity(LONGEST + 2));
    // One more than is allowed, and a line end.
    file.take(LONGEST as u64 + 2).read_to_end(&mut bytes).with_context(name)?;
    let line = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
    seal(line, "--jwt-secret-file")
}

/// Memory that holds the secret and can be neither written nor resized.
fn seal(secret: &[u8], flag: &str) -> Result<OwnedFd> {
    ensure!(
        (SHORTEST..=LONGEST).contains(&secret.len()),
        "{flag} must be {SHORTEST} to {LONGEST} bytes, got {}",
        secret.len()
    );
    let flags = MFdFlags::MFD_ALLOW_SEALING | MFdFlags::MFD_CLOEXEC;
    let memory = memfd_create(NAME, flags).context("no memory can be made for the secret")?;
    let mut file = File::from(memory);
    file.write_all(secret).context("the secret cannot be kept")?;
    fcntl(&file, FcntlArg::F_ADD_SEALS(SEALS)).context("the secret cannot be sealed")?;
    Ok(file.into())
}

/// Executes this program with the same command line but for the secret.
fn begin_again(memory: &OwnedFd) -> Result<Infallible> {
    fcntl(memory, FcntlArg::F_SETFD(FdFlag::empty())).context("the secret cannot be handed on")?;
    let mut words = std::env::args_os();
    let name = words.next().unwrap_or_else(|| "sdrestctl".into());
    let mut command = Command::new("/proc/self/exe");
    command.arg0(name).args(without_secret(words));
    let error = command.arg("--jwt-secret-fd").arg(memory.as_raw_fd().to_string()).exec();
    Err(Error::new(error).context("this program cannot be executed anew"))
}

/// The words of the command line without `--jwt-secret` in either spelling.
fn without_secret(words: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut kept = Vec::new();
    let mut words = words;
    while let Some(word) = words.next() {
        if word == FLAG {
            words.next();
        } else if !is_inline(&word) {
            kept.push(word);
        }
    }
    kept
}

fn is_inline(word: &OsStr) -> bool {
    word.as_bytes().strip_prefix(FLAG.as_bytes()).is_some_and(|rest| rest.starts_with(b"="))
}

/// What `begin_again` left open, now closed to programs that are executed. The number is believed only where the
/// kernel says that it is sealed memory of this size.
fn received(number: i32) -> Result<OwnedFd> {
    let path = format!("/proc/self/fd/{number}");
    let target = read_link(&path).with_context(|| format!("--jwt-secret-fd {number}"))?;
    if !target.as_os_str().as_bytes().starts_with(format!("/memfd:{NAME}").as_bytes()) {
        bail!(
            "--jwt-secret-fd {number} is not what --jwt-secret was moved to; use --jwt-secret-file"
        );
    }
    let file = File::open(&path).with_context(|| format!("--jwt-secret-fd {number}"))?;
    let seals = fcntl(&file, FcntlArg::F_GET_SEALS).context("--jwt-secret-fd")?;
    ensure!(
        SealFlag::from_bits_truncate(seals).contains(SEALS),
        "--jwt-secret-fd {number} is not sealed"
    );
    let size = file.metadata().context("--jwt-secret-fd")?.size();
    ensure!(
        (SHORTEST as u64..=LONGEST as u64).contains(&size),
        "--jwt-secret-fd must hold {SHORTEST} to {LONGEST} bytes, got {size}"
    );
    nix::unistd::close(number).context("--jwt-secret-fd")?;
    Ok(file.into())
}

impl Secret {
    /// What the caller should know, if anything.
    pub(crate) fn note(&self) -> Option<&'static str> {
        (self.origin == Origin::CommandLine).then_some(
            "--jwt-secret: every user of this machine could see the secret in the process list for a moment, and the \
             shell may have kept it; use --jwt-secret-file",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::PermissionsExt};

    fn words(text: &[&str]) -> Vec<OsString> {
        text.iter().map(OsString::from).collect()
    }

    #[test]
    fn only_the_secret_goes_from_the_command_line() {
        let before = words(&[
            "serve",
            "--jwt-secret",
            "s e c",
            "--jwt-secret-file=f",
            "--jwt-secret=abc",
            "--port",
            "1",
        ]);
        let after = words(&["serve", "--jwt-secret-file=f", "--port", "1"]);
        assert_eq!(without_secret(before.into_iter()), after);
        assert_eq!(without_secret(words(&["--jwt-secret"]).into_iter()), words(&[]));
    }

    #[test]
    fn memory_that_holds_a_secret_cannot_be_changed() {
        let memory = seal(&[b'x'; 32], FLAG).unwrap();
        let path = format!("/proc/self/fd/{}", memory.as_raw_fd());
        assert_eq!(fs::read(&path).unwrap(), [b'x'; 32]);
        let mut again = OpenOptions::new().write(true).open(&path).unwrap();
        assert!(again.write_all(b"y").is_err() && again.set_len(1).is_err());
    }

    #[test]
    fn a_short_secret_is_refused_with_its_bound_and_never_shown() {
        let error = seal(b"a very short one", FLAG).unwrap_err().to_string();
        assert!(error.contains("32 to 4096") && error.contains("16"), "{error}");
        assert!(!error.contains("very"), "{error}");
        assert!(seal(&[b'x'; 4097], FLAG).is_err());
    }

    #[test]
    fn a_file_counts_only_where_its_owner_alone_can_read_it() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("secret");
        fs::write(&file, format!("{}\n", "k".repeat(32))).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(from_file(&file).unwrap_err().to_string().contains("0640"));
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        let memory = from_file(&file).unwrap();
        let held = fs::read(format!("/proc/self/fd/{}", memory.as_raw_fd())).unwrap();
        assert_eq!(held, [b'k'; 32], "without the line end");
        fs::write(&file, "k".repeat(31)).unwrap();
        assert!(from_file(&file).unwrap_err().to_string().contains("got 31"));
    }
}
