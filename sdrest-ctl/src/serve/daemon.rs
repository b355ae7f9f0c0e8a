//! One daemon: its program, its sockets, what it may see; and how it is started, again and again if need be.

use super::logs::Source;
use crate::users::User;
use anyhow::{Context, Result};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use std::{
    ffi::OsString,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::process::CommandExt,
    },
    path::PathBuf,
    process::{Child, Command, Stdio, id},
};

/// One daemon, ready to be started any number of times.
pub(crate) struct Daemon {
    pub(crate) name: &'static str,
    pub(crate) log: Source,
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<OsString>,
    /// At most two: they travel as standard input and output.
    pub(crate) listeners: Vec<(&'static str, OwnedFd)>,
    pub(crate) view: Option<View>,
    /// Sealed memory that the program finds at `launch::descriptors::SECRET`.
    pub(crate) secret: Option<OwnedFd>,
}

/// A user and a file system of its own.
pub(crate) struct View {
    pub(crate) user: User,
    /// An empty folder, where it is put together.
    pub(crate) at: PathBuf,
    pub(crate) read_only: Vec<PathBuf>,
    pub(crate) writable: Vec<PathBuf>,
    pub(crate) sockets: Vec<PathBuf>,
    pub(crate) network: Network,
}

/// What a daemon with a view sees of the network. Its sockets were made outside and are handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Network {
    Empty,
    /// The host's, where the kernel's table of sockets has to be read.
    Hosts,
}

impl Daemon {
    /// Starts it through the hidden subcommand `launch`. The caller's thread must live as long as the process:
    /// its end is the child's end.
    pub(crate) fn start(&self) -> Result<Child> {
        let mut command = Command::new("/proc/self/exe");
        command.arg0("sdrestctl").args(["launch", "--parent", &id().to_string()]);
        for (name, _) in &self.listeners {
            command.args(["--listen", name]);
        }
        if let Some(view) = &self.view {
            command.args([
                "--uid",
                &view.user.uid.to_string(),
                "--gid",
                &view.user.gid.to_string(),
            ]);
            command.arg("--view").arg(&view.at);
            if view.network == Network::Hosts {
                command.arg("--keep-network");
            }
            for (flag, paths) in [
                ("--read-only", &view.read_only),
                ("--writable", &view.writable),
                ("--socket", &view.sockets),
            ] {
                for path in paths {
                    command.arg(flag).arg(path);
                }
            }
        }
        if let Some(secret) = &self.secret {
            command.args(["--secret-fd", &secret.as_raw_fd().to_string()]);
        }
        command.arg("--").arg(&self.program).args(&self.arguments);
        environment(&mut command);
        let mut descriptors =
            self.listeners.iter().map(|(_, listener)| listener.try_clone().map(Stdio::from));
        command
            .stdin(descriptors.next().transpose()?.unwrap_or_else(Stdio::null))
            .stdout(descriptors.next().transpose()?.unwrap_or_else(Stdio::null))
            .stderr(self.log.writer()?);
        self.keep_secret(FdFlag::empty())?;
        let child = command.spawn().with_context(|| format!("{} cannot be started", self.name));
        self.keep_secret(FdFlag::FD_CLOEXEC)?;
        child
    }

    /// Without FD_CLOEXEC the next process inherits the secret. Every process is started by one thread, one after
    /// the other, so that is this daemon and no other.
    fn keep_secret(&self, flags: FdFlag) -> Result<()> {
        if let Some(secret) = &self.secret {
            fcntl(secret, FcntlArg::F_SETFD(flags)).context("the secret cannot be handed on")?;
        }
        Ok(())
    }
}

/// What a program is given of the caller's environment: nothing but where libraries are and how to tell of
/// a crash.
pub(crate) fn environment(command: &mut Command) {
    command.env_clear().env("LC_ALL", "C.UTF-8").env("PATH", "/usr/bin:/bin");
    for name in ["LD_LIBRARY_PATH", "RUST_BACKTRACE"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
}
