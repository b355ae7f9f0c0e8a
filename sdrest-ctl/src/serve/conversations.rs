//! Logins: `serve` listens on conversation.sock, and on chauthtok.sock for expired passwords, itself and starts one
//! conversation program for each connection, as systemd does with Accept=yes. Only authd (and root, for a probe) may
//! connect.

use super::{
    daemon::environment,
    logs::{Log, Source},
    plan::Plan,
    privilege::Privilege,
};
use anyhow::{Context, Result};
use nix::{
    sys::{
        signal::{Signal, kill},
        socket::{getsockopt, sockopt::PeerCredentials},
    },
    unistd::Pid,
};
use std::{
    io::ErrorKind,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::{
            net::{UnixListener, UnixStream},
            process::CommandExt,
        },
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio, id},
    time::{Duration, Instant},
};

/// Conversations at a time: as many as authd has, probes, and some that are just ending.
const MOST: usize = 264;
/// From SIGTERM to SIGKILL at the end of `serve`.
const STOP_PATIENCE: Duration = Duration::from_secs(3);
/// No login lives longer, whatever authd allows it: the device flow's 900 s and some.
const LIFE_SECONDS: u64 = 960;

/// What a login finds read-only: where passwords, groups and service files are.
const ETC: [&str; 1] = ["/etc"];
/// What stays so where a password changes: what decides who runs what. The unit of chauthtok.sock has the same list.
const ETC_BUT_PASSWORDS: [&str; 9] = [
    "/etc/pam.d",
    "/etc/security",
    "/etc/sdrest",
    "/etc/systemd",
    "/etc/ssh",
    "/etc/sudoers.d",
    "/etc/cron.d",
    "/etc/profile.d",
    "/etc/ld.so.conf.d",
];

/// What the programs behind one socket may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Nothing of /etc can be written.
    SignIn,
    /// Go on with a login whose password has expired: the one place that may write /etc.
    ChangeExpired,
}

pub(crate) struct Conversations {
    listener: UnixListener,
    purpose: Purpose,
    program: PathBuf,
    /// Uids that may connect.
    callers: Vec<u32>,
    /// The only account that may sign in, where serve is not root.
    only_uid: Option<u32>,
    config_dir: Option<PathBuf>,
    own_namespaces: bool,
    hide: Vec<PathBuf>,
    source: Source,
    log: Log,
    running: Vec<Child>,
}

impl Conversations {
    pub(crate) fn new(
        plan: &Plan,
        listener: UnixListener,
        purpose: Purpose,
        log: &Log,
    ) -> Result<Self> {
        let (callers, only_uid) = match &plan.privilege {
            Privilege::Separate(users) => (vec![0, users.authd.uid], None),
            Privilege::Caller { uid, .. } => (vec![*uid], Some(*uid)),
        };
        let own_namespaces = plan.privilege.own_namespaces();
        // The run folder too: authd's admin socket lets root in, and a PAM module is root.
        let hidden = [&plan.state_dir, &plan.run_dir].into_iter().chain(&plan.auth_data_dir);
        let hide = hidden.filter(|_| own_namespaces).cloned().collect();
        let source = Source::new("conversation", log.clone())?;
        let program = plan.programs.conversation.clone();
        let log = log.clone();
        let config_dir = plan.auth.pam.as_ref().and_then(|service| service.config_dir.clone());
        Ok(Self {
            listener,
            purpose,
            program,
            callers,
            only_uid,
            config_dir,
            own_namespaces,
            hide,
            source,
            log,
            running: Vec::new(),
        })
    }

    fn socket(&self) -> &'static str {
        match self.purpose {
            Purpose::SignIn => "conversation.sock",
            Purpose::ChangeExpired => "chauthtok.sock",
        }
    }

    pub(crate) fn listener(&self) -> BorrowedFd<'_> {
        self.listener.as_fd()
    }

    /// Takes every connection that waits.
    pub(crate) fn accept(&mut self) {
        loop {
            match self.listener.accept() {
                Ok((connection, _)) => {
                    if let Err(error) = self.start(connection) {
                        self.log.line("sdrestctl", &format!("a login was not started: {error:#}"));
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    self.log.line("sdrestctl", &format!("{}: {error}", self.socket()));
                    return;
                }
            }
        }
    }

    /// Dropping the connection is the answer to a peer that does not count: not a byte is read from it.
    fn start(&mut self, connection: UnixStream) -> Result<()> {
        let peer = getsockopt(&connection, PeerCredentials).context("the peer is unknown")?;
        anyhow::ensure!(
            self.callers.contains(&peer.uid()),
            "uid {} may not connect to {}",
            peer.uid(),
            self.socket()
        );
        anyhow::ensure!(self.running.len() < MOST, "{MOST} logins are under way");
        connection.set_nonblocking(false)?;
        let mut command = Command::new("/proc/self/exe");
        command.arg0("sdrestctl").args(["launch-conversation", "--parent", &id().to_string()]);
        command.args(["--seconds", &LIFE_SECONDS.to_string()]);
        for folder in &self.hide {
            command.arg("--hide").arg(folder);
        }
        if self.own_namespaces {
            command.arg("--own-namespaces");
            let folders = match self.purpose {
                Purpose::SignIn => ETC.as_slice(),
                Purpose::ChangeExpired => ETC_BUT_PASSWORDS.as_slice(),
            };
            for folder in folders.iter().filter(|folder| Path::new(folder).is_dir()) {
                command.args(["--read-only", folder]);
            }
        }
        command.arg("--").arg(&self.program).args(["--authd-user", &peer.uid().to_string()]);
        if let Some(uid) = self.only_uid {
            command.args(["--only-uid", &uid.to_string()]);
        }
        if let Some(folder) = &self.config_dir {
            command.arg("--pam-config-dir").arg(folder);
        }
        if self.purpose == Purpose::ChangeExpired {
            command.arg("--change-expired");
        }
        environment(&mut command);
        // PAM modules are foreign code: they get less than the daemons.
        command.env_remove("PATH").env_remove("LD_LIBRARY_PATH").env_remove("RUST_BACKTRACE");
        command
            .stdin(Stdio::from(OwnedFd::from(connection)))
            .stdout(Stdio::null())
            .stderr(self.source.writer()?);
        self.running.push(command.spawn().context("the launcher cannot be started")?);
        Ok(())
    }

    /// Forgets those that have ended.
    pub(crate) fn reap(&mut self) {
        self.running.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
    }

    /// Ends all of them; the launchers end what each started.
    pub(crate) fn stop(&mut self) {
        for child in &self.running {
            if let Ok(pid) = i32::try_from(child.id()) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
            }
        }
        let until = Instant::now() + STOP_PATIENCE;
        while !self.running.is_empty() && Instant::now() < until {
            self.reap();
            std::thread::sleep(Duration::from_millis(5));
        }
        for child in &mut self.running {
            let _ = child.kill();
            let _ = child.wait();
        }
        self.running.clear();
    }
}
