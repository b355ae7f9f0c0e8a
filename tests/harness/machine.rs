//! A throw-away Debian, booted with systemd as its first process: folders of the host are read-only in it, and it is
//! halted when it is dropped. The scripts beside this file make its root and start it; nothing goes onto the host.

use crate::programs;
use anyhow::{Context, Result, ensure};
use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};
use tempfile::TempDir;

/// A booted system.
#[derive(Debug)]
pub struct Machine {
    root: PathBuf,
    run: TempDir,
}

fn scripts() -> PathBuf {
    programs::checkout().join("tests/harness/boot")
}

impl Machine {
    /// The root that a script makes, once: `words` are what it wants beside the folder for all roots.
    pub fn root(script: &str, words: &[&str], folder: &str) -> Result<PathBuf> {
        let cache = programs::checkout().join(".cache/boot");
        let made = Command::new(scripts().join(script)).arg(&cache).args(words).status()?;
        ensure!(made.success(), "{script} made no Debian root: {words:?}");
        Ok(cache.join(folder))
    }

    /// Boots it, with each of these folders where the second says.
    pub fn boot(root: PathBuf, folders: &[(&Path, &str)]) -> Result<Self> {
        let machine = Self { root, run: tempfile::tempdir()? };
        let binds = folders.iter().map(|(from, to)| format!("--bind-ro={}:{to}", from.display()));
        let started = machine.command("start").args(binds).status()?;
        ensure!(started.success(), "the system did not boot");
        Ok(machine)
    }

    fn command(&self, verb: &str) -> Command {
        let mut command = Command::new(scripts().join("boot.sh"));
        command.env("BOOT_ROOT", &self.root).env("BOOT_RUN", self.run.path()).arg(verb);
        command
    }

    /// Runs a command inside, as root.
    pub fn try_run(&self, words: &[&str]) -> Result<Output> {
        Ok(self.command("exec").args(words).output()?)
    }

    /// What a command that must succeed writes.
    pub fn run(&self, words: &[&str]) -> Result<String> {
        let Output { status, stdout, stderr } = self.try_run(words)?;
        let written = String::from_utf8_lossy(&stdout).into_owned();
        ensure!(status.success(), "{words:?}: {}{written}", String::from_utf8_lossy(&stderr));
        Ok(written)
    }

    /// Where a path of the inside is for root on the outside.
    pub fn inside(&self, path: &str) -> Result<PathBuf> {
        let leader = std::fs::read_to_string(self.run.path().join("leader"))
            .context("the system has no first process")?;
        Ok(PathBuf::from(format!("/proc/{}/root{path}", leader.trim())))
    }

    /// The last lines of its journal.
    pub fn journal(&self, lines: u32) -> String {
        let lines = lines.to_string();
        let written = self.try_run(&["journalctl", "--no-pager", "-n", &lines]);
        written.map_or_else(
            |error| format!("no journal: {error}"),
            |output| String::from_utf8_lossy(&output.stdout).into_owned(),
        )
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.journal(80));
        }
        let _ = self.command("stop").status();
    }
}
