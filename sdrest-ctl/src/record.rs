//! RUN/serve.json: what `serve` wrote down of itself, so that `status` and `generate` find it. It is a help,
//! never an authority: `status` asks the sockets.

use crate::probe::Logins;
use anyhow::{Context, Result};
use nix::fcntl::OFlag;
use serde::{Deserialize, Serialize};
use std::{
    fs,
    io::Write,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// `http://HOST:PORT` or `unix:PATH`.
    pub(crate) url: String,
    /// sdrestctl itself.
    pub(crate) pid: u32,
    pub(crate) auth: String,
    /// Nothing where PAM has no part.
    pub(crate) pam_service: Option<String>,
    pub(crate) processes: Vec<Process>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Process {
    pub(crate) name: String,
    pub(crate) pid: Option<u32>,
    pub(crate) restarts: u32,
}

impl Record {
    /// What can be asked at conversation.sock.
    pub(crate) fn logins(&self) -> Logins {
        match &self.pam_service {
            Some(service) => Logins::Pam(service.clone()),
            None if self.auth == "none" => Logins::Off,
            None => Logins::WithoutPam,
        }
    }
}

pub(crate) fn path(run_dir: &Path) -> PathBuf {
    run_dir.join("serve.json")
}

/// What the server of this run folder says of itself; nothing where there is none.
pub(crate) fn read(run_dir: &Path) -> Option<Record> {
    let flags = (OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits();
    let file = fs::OpenOptions::new().read(true).custom_flags(flags).open(path(run_dir)).ok()?;
    let found = file.metadata().ok()?;
    // `generate` sends a password to the address in it, so nobody else may have written it.
    let trusted = [0, nix::unistd::geteuid().as_raw()].contains(&found.uid());
    if !trusted || !found.is_file() {
        return None;
    }
    serde_json::from_reader(file).ok()
}

/// Replaces the record in one step, so that no reader sees half of it.
pub(crate) fn write(run_dir: &Path, record: &Record) -> Result<()> {
    let new = run_dir.join(".serve.json.new");
    let written = || -> std::io::Result<()> {
        let _ = fs::remove_file(&new);
        let mut file =
            fs::OpenOptions::new().write(true).create_new(true).mode(0o640).open(&new)?;
        file.write_all(&serde_json::to_vec_pretty(record)?)?;
        fs::rename(&new, path(run_dir))
    };
    written().with_context(|| format!("{} cannot be written", path(run_dir).display()))
}
