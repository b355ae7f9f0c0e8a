//! The floor that sdrest's tests stand on: the full stack as its users run it (`sdrestctl serve`), on private run
//! and state folders, a free port and a made-up /etc; its log; its processes, to be killed; and its HTTP interface.
//!
//! Nothing here replaces a part of sdrest by something else, writes the host's /etc, or listens beyond loopback.
//! Without root, everything runs as the caller in user namespaces, and PAM can sign in one account: alice,
//! who then has the caller's uid.
#![forbid(unsafe_code)]

pub mod api;
pub mod etc;
pub mod machine;
pub mod processes;
pub mod programs;
pub mod stack;
#[cfg(test)]
mod tests;

pub use api::{Answer, Api, Job};
pub use etc::{PrivateEtc, User};
pub use machine::Machine;
pub use processes::Program;
pub use stack::{Stack, StackBuilder};

use anyhow::Result;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Whether these tests run as root: users of their own for the daemons, any account for PAM.
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// All files below a folder. Links are not followed.
pub fn files_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            found.extend(files_below(&entry.path())?);
        } else if kind.is_file() {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// Says why a test did not run. A test that cannot run here must say so, and return.
pub fn skip(reason: &str) {
    eprintln!("SKIPPED: {reason}");
}
