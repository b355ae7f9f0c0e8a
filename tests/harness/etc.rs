//! The made-up /etc: test users and PAM services, mounted over /etc in a private mount namespace by the
//! script `private_etc`, which the demo uses too.

use crate::{is_root, programs};
use anyhow::{Context, Result, ensure};
use std::{
    ffi::OsStr,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// One account. The passwords open nothing but a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User {
    pub name: &'static str,
    pub uid: u32,
    pub state: &'static str,
    pub password: &'static str,
}

const fn user(name: &'static str, uid: u32, state: &'static str, password: &'static str) -> User {
    User { name, uid, state, password }
}

/// Two ordinary accounts.
pub const ALICE: User = user("alice", 2001, "ok", "correct horse 1");
pub const BOB: User = user("bob", 2002, "ok", "battery staple 2");
/// Expired years ago: the password is right, acct_mgmt says PAM_ACCT_EXPIRED.
pub const EXPIRED: User = user("expired", 2003, "expired", "expired pass 3");
/// `passwd -l`: no password is right.
pub const LOCKED: User = user("locked", 2004, "locked", "locked pass 4");
/// The password must be changed now: PAM_NEW_AUTHTOK_REQD.
pub const MUST_CHANGE: User = user("mustchange", 2005, "mustchange", "old pass 5");
/// A system account with a good password, below uid 1000.
pub const SYSTEM: User = user("systemuser", 500, "ok", "system pass 6");

pub const USERS: [User; 6] = [ALICE, BOB, EXPIRED, LOCKED, MUST_CHANGE, SYSTEM];

/// PAM services beside the shipped one, `stable-diffusion-rest`.
pub mod service {
    pub const SHIPPED: &str = "stable-diffusion-rest";
    /// pam_unix alone, without any delay.
    pub const PLAIN: &str = "sdrest-plain";
    /// A module that calls setsid, ignores SIGTERM and never answers.
    pub const HANG: &str = "sdrest-hang";
    /// Says something before it asks.
    pub const INFO: &str = "sdrest-info";
    /// Asks for the password, then for a one-time code ([`ONE_TIME_CODES`]).
    pub const ONE_TIME: &str = "sdrest-otp";
    /// Its users file, for services that a test makes itself.
    pub const ONE_TIME_USERS: &str = "HOTP alice - 3132333435363738393031323334353637383930\n";
    /// What RFC 4226, appendix D, gives for its secret and the counters from 0.
    pub const ONE_TIME_CODES: [&str; 3] = ["755224", "287082", "359152"];
    /// Three wrong passwords lock the account.
    pub const FAILLOCK: &str = "sdrest-faillock";
    /// Lets nobody in.
    pub const DENY: &str = "sdrest-deny";
}

/// DIR/etc, made once.
#[derive(Clone, Debug)]
pub struct PrivateEtc {
    dir: PathBuf,
}

fn script() -> PathBuf {
    programs::checkout().join("tests/harness/private_etc")
}

impl PrivateEtc {
    /// Makes DIR/etc with [`USERS`]. Without root, alice has the caller's uid.
    pub fn make(dir: &Path) -> Result<Self> {
        let own = nix::unistd::geteuid().as_raw();
        let mut child = Command::new(script())
            .arg("make")
            .arg(dir)
            .stdin(Stdio::piped())
            .spawn()
            .context("tests/harness/private_etc cannot be started")?;
        let mut input = child.stdin.take().context("no pipe")?;
        for user in USERS {
            let uid = if user == ALICE && !is_root() { own } else { user.uid };
            writeln!(input, "{} {uid} {} {}", user.name, user.state, user.password)?;
        }
        drop(input);
        ensure!(child.wait()?.success(), "private_etc could not make {}", dir.display());
        Ok(Self { dir: dir.canonicalize()? })
    }

    /// A command that will run over this /etc, as the same process: unshare and the shell exec it.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(script());
        command.arg("run").arg(&self.dir).arg(program);
        command
    }

    /// Where the modules of the services here keep what they write: /etc is read-only for a login.
    pub fn pam_state(&self) -> PathBuf {
        self.dir.join("pam-state")
    }

    /// The folder that is mounted over /etc, to change files while a stack runs.
    pub fn folder(&self) -> PathBuf {
        self.dir.join("etc")
    }
}
