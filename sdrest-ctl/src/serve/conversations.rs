//! Logins: `serve` listens on conversation.sock itself and starts one conversation program for each
//! connection, as systemd does with Accept=yes. Only authd (and root, for a probe) may connect.

use super::{
    daemon::environment,
    logs::{Log, Source},
    plan::{Plan, Privilege},
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
    path::PathBuf,
    process::{Child, Command, Stdio, id},
    time::{Duration, Instant},
};

/// Conversations at a time: authd's own 64, probes, and some that are just ending.
const MOST: usize = 80;
/// From SIGTERM to SIGKILL at the end of `serve`.
const STOP_PATIENCE: Duration = Duration::from_secs(3);
/// No login lives longer, whatever authd allows it: the device flow's 900 s and some.
const LIFE_SECONDS: u64 = 960;

pub(crate) struct Conversations {
    listener: UnixListener,
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
    pub(crate) fn new(plan: &Plan, listener: UnixListener, log: &Log) -> Result<Self> {
        let (callers, only_uid, own_namespaces) = match &plan.privilege {
            Privilege::Separate(users) => (vec![0, users.authd.uid], None, true),
            Privilege::Caller { uid, namespaces } => (vec![*uid], Some(*uid), *namespaces),
        };
        let hide = if own_namespaces { vec![plan.state_dir.clone()] } else { Vec::new() };
        let source = Source::new("conversation", log.clone())?;
        let program = plan.programs.conversation.clone();
        let log = log.clone();
        let config_dir = plan.pam_config_dir.clone();
        Ok(Self {
            listener,
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
                    self.log.line("sdrestctl", &format!("conversation.sock: {error}"));
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
            "uid {} may not connect to conversation.sock",
            peer.uid()
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
        }
        command.arg("--").arg(&self.program).args(["--authd-user", &peer.uid().to_string()]);
        if let Some(uid) = self.only_uid {
            command.args(["--only-uid", &uid.to_string()]);
        }
        if let Some(folder) = &self.config_dir {
            command.arg("--pam-config-dir").arg(folder);
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
