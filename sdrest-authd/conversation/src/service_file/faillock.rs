//! Whether pam_faillock can keep its tallies (pam_faillock(8)). It fails open: where the folder is read-only, or
//! the tally can be given to the user but not written afterwards, nobody is ever locked out and nothing says
//! so. So the same steps are tried here with a file of our own.

use nix::{
    errno::Errno,
    unistd::{Gid, Uid, fchown},
};
use std::{
    fs::{self, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

const DEFAULT_DIR: &str = "/var/run/faillock";
const CONFIG: &str = "/etc/security/faillock.conf";
/// Whom the probe is given to: nobody, as a tally is given to its user.
const NOBODY: u32 = 65534;

/// The folder and the cause, where it cannot be used.
pub(super) fn probe(arguments: &[String]) -> Result<(), (String, String)> {
    let dir = folder(arguments);
    attempt(Path::new(&dir)).map_err(|cause| (dir.clone(), cause.to_string()))
}

/// `dir=` of the line, else of faillock.conf (or of the line's `conf=`), else the default.
fn folder(arguments: &[String]) -> String {
    let of_line = |key: &str| {
        arguments.iter().find_map(|argument| argument.strip_prefix(key).map(str::to_owned))
    };
    if let Some(dir) = of_line("dir=") {
        return dir;
    }
    let config = fs::read_to_string(of_line("conf=").unwrap_or_else(|| CONFIG.to_owned()))
        .unwrap_or_default();
    config
        .lines()
        .filter_map(|line| line.split('#').next().unwrap_or_default().split_once('='))
        .find(|(key, _)| key.trim() == "dir")
        .map_or_else(|| DEFAULT_DIR.to_owned(), |(_, dir)| dir.trim().to_owned())
}

fn attempt(dir: &Path) -> io::Result<()> {
    if !dir.is_dir() {
        fs::create_dir(dir)?;
    }
    let path = dir.join(format!(".sdrest-probe-{}", std::process::id()));
    let result = write_given_file(&path);
    let removed = fs::remove_file(&path);
    result.and(removed)
}

fn write_given_file(path: &Path) -> io::Result<()> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o640).open(path)?;
    match fchown(&file, Some(Uid::from_raw(NOBODY)), Some(Gid::from_raw(0))) {
        // Without CAP_CHOWN the tally stays ours, which is as good.
        Ok(()) | Err(Errno::EPERM) => {}
        Err(error) => return Err(error.into()),
    }
    drop(file);
    OpenOptions::new().read(true).write(true).open(path).map(drop)
}
