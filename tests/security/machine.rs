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
    process::Output,
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

/// A booted system with the conversation program's sockets.
pub(crate) struct Machine(harness::Machine);

impl Machine {
    pub(crate) fn boot(name: &str, packages: &[&str]) -> Result<Self> {
        let before = hosts_etc();
        let words: Vec<&str> = std::iter::once(name).chain(packages.iter().copied()).collect();
        let root = harness::Machine::root("add_packages.sh", &words, &format!("{name}-root"))?;
        ensure!(before == hosts_etc(), "making the root changed the host's own /etc");
        let release = programs::find("sdrest-conversation")?;
        let machine = harness::Machine::boot(
            root,
            &[
                (release.parent().context("no folder")?, "/opt/bin"),
                (&programs::checkout(), "/opt/src"),
                (Path::new("/usr/lib/x86_64-linux-gnu"), "/opt/lib"),
            ],
        )?;
        Ok(Self(machine))
    }

    /// Runs a script inside, as root.
    pub(crate) fn sh(&self, script: &str) -> Result<String> {
        let Output { status, stdout, stderr } = self.0.try_run(&["sh", "-c", script])?;
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
        let path = self.0.inside(&format!("/run/sdrest/{socket}.sock"))?;
        Ok(Talk::over(UnixStream::connect(path)?, first))
    }

    pub(crate) fn login(&self, service: &str, user: &str, answers: &[&str]) -> Result<Seen> {
        Ok(self.ask("conversation", &sign_in(service, user))?.go(answers))
    }
}
