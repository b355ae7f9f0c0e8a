//! One login's guardian: it starts the conversation program where nothing of it can outlive the login, and
//! waits. The program, the caller at the other end of the connection, this process and sdrestctl: when one
//! of them is gone, all that the login started is gone.
//!
//! With root the kernel does that by a PID namespace. Without, PAM needs its set-user-ID helper
//! unix_chkpwd(8), which a user namespace would disarm; so there this process adopts what the modules leave
//! behind (PR_SET_CHILD_SUBREAPER) and kills it.

use super::{credentials, descriptors, hidden, view};
use crate::cli::LaunchConversationArgs;
use anyhow::{Context, Result};
use nix::{
    mount::{MsFlags, mount},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sched::{CloneFlags, unshare},
    sys::{
        prctl,
        signal::{SigSet, Signal, kill},
        signalfd::{SfdFlags, SignalFd},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};
use std::{
    fs,
    io::{PipeReader, stdin},
    os::{fd::AsFd, unix::process::CommandExt},
    process::{Child, Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

/// How long the program may go on after the caller hung up, to end its PAM transaction in order.
const GRACE: Duration = Duration::from_secs(2);

/// Ends with the program's own success or failure.
pub(crate) fn run(args: &LaunchConversationArgs) -> Result<ExitCode> {
    descriptors::begin(None)?;
    let mut awaited = SigSet::empty();
    awaited.add(Signal::SIGCHLD);
    awaited.add(Signal::SIGTERM);
    awaited.thread_block().context("signals cannot be blocked")?;
    let signals = SignalFd::with_flags(&awaited, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .context("no signal descriptor can be made")?;
    if args.own_namespaces {
        enter_namespaces(args)?;
    } else {
        prctl::set_child_subreaper(true).context("this process cannot adopt orphans")?;
    }
    // The kernel ends a PID namespace; what was adopted, this process has to end before itself.
    let farewell = if args.own_namespaces { Signal::SIGKILL } else { Signal::SIGTERM };
    credentials::end_with(args.parent, farewell)?;
    // The kernel closes `_alive` when this process ends, however that happens; the child looks at it.
    let (mut child, _alive) = start(args)?;
    let success = watch(&mut child, &signals, Duration::from_secs(args.seconds))?;
    if !args.own_namespaces {
        kill_adopted();
    }
    Ok(if success { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn enter_namespaces(args: &LaunchConversationArgs) -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWIPC)
        .context("new namespaces cannot be made")?;
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .context("mounts cannot be made private")?;
    for path in &args.hide {
        hidden::hide(path)?;
    }
    hidden::hide_masters()?;
    hidden::own_devices()?;
    for folder in &args.read_only {
        view::make_read_only(folder)?;
    }
    Ok(())
}

/// The program, by way of `launch-first`. Standard output is the pipe by which that sees this process live.
fn start(args: &LaunchConversationArgs) -> Result<(Child, PipeReader)> {
    let (alive, held) = std::io::pipe().context("no pipe can be made")?;
    let mut command = Command::new("/proc/self/exe");
    command.arg0("sdrestctl").arg("launch-first");
    if args.own_namespaces {
        command.arg("--mount-proc");
    }
    command.arg("--").args(&args.program).stdout(Stdio::from(held));
    let child = command.spawn().context("the conversation program cannot be started")?;
    Ok((child, alive))
}

/// Waits for the program. Kills it when the caller has hung up and it does not end, or when its time is over.
fn watch(child: &mut Child, signals: &SignalFd, life: Duration) -> Result<bool> {
    let connection = stdin();
    let mut until = Instant::now() + life;
    let mut hung_up = false;
    loop {
        while let Ok(Some(signal)) = signals.read_signal() {
            if i32::try_from(signal.ssi_signo).is_ok_and(|number| number == Signal::SIGTERM as i32)
            {
                until = Instant::now();
            }
        }
        if let Some(status) =
            child.try_wait().context("the conversation program cannot be waited for")?
        {
            return Ok(status.success());
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            child.kill().context("the conversation program cannot be killed")?;
            return Ok(child.wait()?.success());
        }
        let mut watched = vec![PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        if !hung_up {
            watched.push(PollFd::new(connection.as_fd(), PollFlags::empty()));
        }
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut watched, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error).context("poll"),
        }
        let gone = PollFlags::POLLHUP | PollFlags::POLLERR | PollFlags::POLLNVAL;
        if watched.get(1).and_then(PollFd::revents).is_some_and(|events| events.intersects(gone)) {
            hung_up = true;
            until = until.min(Instant::now() + GRACE);
        }
    }
}

/// Kills what modules left behind, generation by generation, for at most a second.
fn kill_adopted() {
    let until = Instant::now() + Duration::from_secs(1);
    while Instant::now() < until {
        let adopted = children();
        if adopted.is_empty() {
            return;
        }
        for pid in adopted {
            let _ = kill(pid, Signal::SIGKILL);
        }
        while !matches!(
            waitpid(None, Some(WaitPidFlag::WNOHANG)),
            Ok(WaitStatus::StillAlive) | Err(_)
        ) {}
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Processes whose parent this one is.
fn children() -> Vec<Pid> {
    let own = format!("PPid:\t{}", std::process::id());
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    processes
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let status = fs::read_to_string(entry.path().join("status")).ok()?;
            status.lines().any(|line| line == own).then_some(Pid::from_raw(pid))
        })
        .collect()
}
