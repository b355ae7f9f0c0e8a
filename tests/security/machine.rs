//! A throw-away Debian, booted with systemd for one test, with the shipped units of the conversation program. Packages
//! that a test needs go into its root, never onto the host.

use crate::talk::{Seen, Talk, sign_in};
use anyhow::{Context, Result, ensure};
use harness::programs;
use sdrest_proto::conversation::ToConversation;
use std::{
    fs,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// Installs what the two units need, and makes accounts.
const INSTALL: &str = r#"set -eu
install -D -t /usr/libexec/sdrest /opt/bin/sdrest-conversation
cd /opt/src/systemd
install -m644 -t /etc/systemd/system sdrest-conversation* sdrest-chauthtok* sdrest.slice
install -m644 -D -t /etc/sysusers.d sysusers.d/sdrest.conf
install -m644 -D -t /etc/tmpfiles.d tmpfiles.d/sdrest.conf
install -m644 -t /etc/pam.d ../pam.d/stable-diffusion-rest ../pam.d/examples/*
systemd-sysusers
systemd-tmpfiles --create
for user in alice bob; do useradd --user-group "$user"; done
printf 'alice:wonder land\nbob:old Pass 5\n' | chpasswd
systemctl daemon-reload
systemctl start sdrest-conversation.socket sdrest-chauthtok.socket
"#;

/// What packages of PAM and NSS modules like to edit.
fn hosts_etc() -> Vec<(PathBuf, Option<Vec<u8>>)> {
    let pam = fs::read_dir("/etc/pam.d").into_iter().flatten().flatten().map(|entry| entry.path());
    let single = ["nsswitch.conf", "passwd", "group"].map(|file| Path::new("/etc").join(file));
    let mut files: Vec<PathBuf> = single.into_iter().chain(pam).collect();
    files.sort();
    files.into_iter().map(|path| (path.clone(), fs::read(path).ok())).collect()
}

/// A booted system; it is halted when this is dropped.
pub(crate) struct Machine {
    script: PathBuf,
    root: PathBuf,
    run: tempfile::TempDir,
}

impl Machine {
    pub(crate) fn boot(name: &str, packages: &[&str]) -> Result<Self> {
        let boot = programs::checkout().join("tests/harness/boot");
        let cache = programs::checkout().join(".cache/boot");
        let before = hosts_etc();
        let made = Command::new(boot.join("add_packages.sh"))
            .arg(&cache)
            .arg(name)
            .args(packages)
            .status()?;
        ensure!(made.success(), "no Debian root with {packages:?}");
        let machine = Self {
            script: boot.join("boot.sh"),
            root: cache.join(format!("{name}-root")),
            run: tempfile::tempdir()?,
        };
        ensure!(before == hosts_etc(), "making the root changed the host's own /etc");
        let release = programs::find("sdrest-conversation")?;
        let bind = |from: &Path, to: &str| format!("--bind-ro={}:{to}", from.display());
        let started = machine
            .command("start")
            .arg(bind(release.parent().context("no folder")?, "/opt/bin"))
            .arg(bind(&programs::checkout(), "/opt/src"))
            .arg(bind(Path::new("/usr/lib/x86_64-linux-gnu"), "/opt/lib"))
            .status()?;
        ensure!(started.success(), "the system did not boot");
        Ok(machine)
    }

    fn command(&self, verb: &str) -> Command {
        let mut command = Command::new(&self.script);
        command.env("BOOT_ROOT", &self.root).env("BOOT_RUN", self.run.path()).arg(verb);
        command
    }

    /// Runs a script inside, as root.
    pub(crate) fn sh(&self, script: &str) -> Result<String> {
        let Output { status, stdout, stderr } =
            self.command("exec").args(["sh", "-c", script]).output()?;
        let text = String::from_utf8_lossy(&[stdout, stderr].concat()).into_owned();
        ensure!(status.success(), "{script}: {text}");
        Ok(text)
    }

    /// The conversation program's units, the service files and two accounts.
    pub(crate) fn install(&self) -> Result<()> {
        self.sh(INSTALL).map(|_| ())
    }

    /// Root on the outside may speak to the socket as root on the inside may.
    pub(crate) fn ask(&self, socket: &str, first: &ToConversation) -> Result<Talk> {
        let leader = fs::read_to_string(self.run.path().join("leader"))?;
        let path = format!("/proc/{}/root/run/sdrest/{socket}.sock", leader.trim());
        Ok(Talk::over(UnixStream::connect(path)?, first))
    }

    pub(crate) fn login(&self, service: &str, user: &str, answers: &[&str]) -> Result<Seen> {
        Ok(self.ask("conversation", &sign_in(service, user))?.go(answers))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.command("stop").status();
    }
}
