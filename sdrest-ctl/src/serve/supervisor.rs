//! Keeps the daemons running, from the main thread: it starts every child, so that a death signal, which
//! follows the thread and not the process, means the end of `serve` (prctl(2), PR_SET_PDEATHSIG).
//!
//! A daemon that ends after the start is started again: at once the first times, then after growing pauses.
//! One that ends before everything was ready ends `serve`, with the last lines that it wrote.

use super::{conversations::Conversations, daemon::Daemon, logs::Log};
use anyhow::{Context, Result, bail};
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{SigSet, Signal, kill},
        signalfd::{SfdFlags, SignalFd},
    },
    unistd::Pid,
};
use std::{
    os::{fd::AsFd, unix::process::ExitStatusExt},
    process::{Child, ExitStatus},
    time::{Duration, Instant},
};

/// Restarts that cost no pause, and the pauses after them.
const FREE_RESTARTS: u32 = 3;
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// A daemon that lived this long has earned its free restarts again.
const GOOD_LIFE: Duration = Duration::from_secs(60);
/// From SIGTERM to SIGKILL.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// What a wait ended with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// The caller asked for the end.
    Stop,
    /// A daemon ended, or the time was over.
    Other,
}

pub(crate) struct Supervisor {
    supervised: Vec<Supervised>,
    conversations: Vec<Conversations>,
    signals: SignalFd,
    log: Log,
}

struct Supervised {
    daemon: Daemon,
    child: Option<Child>,
    started: Instant,
    failures: u32,
    restarts: u32,
    next_start: Option<Instant>,
}

/// Blocks the signals that the supervisor reads; before any thread is made, so that none takes them.
pub(crate) fn signals() -> Result<SignalFd> {
    let mut set = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGCHLD] {
        set.add(signal);
    }
    set.thread_block().context("signals cannot be blocked")?;
    SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .context("no signal descriptor can be made")
}

impl Supervisor {
    pub(crate) fn new(
        daemons: Vec<Daemon>,
        conversations: Vec<Conversations>,
        signals: SignalFd,
        log: Log,
    ) -> Self {
        let now = Instant::now();
        let supervised = daemons
            .into_iter()
            .map(|daemon| Supervised {
                daemon,
                child: None,
                started: now,
                failures: 0,
                restarts: 0,
                next_start: None,
            })
            .collect();
        Self { supervised, conversations, signals, log }
    }

    /// Starts those of the daemons.
    pub(crate) fn start(&mut self, names: &[&str]) -> Result<()> {
        for one in self.supervised.iter_mut().filter(|one| names.contains(&one.daemon.name)) {
            one.start()?;
        }
        Ok(())
    }

    /// Name, pid and number of restarts of each daemon.
    pub(crate) fn processes(&self) -> impl Iterator<Item = (&'static str, Option<u32>, u32)> {
        self.supervised
            .iter()
            .map(|one| (one.daemon.name, one.child.as_ref().map(Child::id), one.restarts))
    }

    /// Waits for a signal, a login, a daemon's end or the next restart, for at most `patience`.
    pub(crate) fn wait(&mut self, patience: Duration) -> Result<Event> {
        let next = self.supervised.iter().filter_map(|one| one.next_start).min();
        let patience =
            next.map_or(patience, |at| patience.min(at.saturating_duration_since(Instant::now())));
        {
            let mut watched = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
            let doors = self.conversations.iter();
            watched.extend(doors.map(|door| PollFd::new(door.listener(), PollFlags::POLLIN)));
            // Rounded up: a poll that returns a little too early would spin.
            let milliseconds =
                u16::try_from(patience.as_millis().saturating_add(1)).unwrap_or(u16::MAX);
            match poll(&mut watched, PollTimeout::from(milliseconds)) {
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(error) => return Err(error).context("poll"),
            }
        }
        let mut event = Event::Other;
        while let Ok(Some(signal)) = self.signals.read_signal() {
            if i32::try_from(signal.ssi_signo).is_ok_and(|number| number != Signal::SIGCHLD as i32)
            {
                event = Event::Stop;
            }
        }
        // The sockets do not block: where nobody waits, this costs a call.
        for door in &mut self.conversations {
            door.accept();
            door.reap();
        }
        Ok(event)
    }

    /// The first daemon that has ended, while all of them must live.
    pub(crate) fn check_starting(&mut self) -> Result<()> {
        for one in &mut self.supervised {
            if let Some(status) = one.ended() {
                // Its last lines may still be on their way through the pipe.
                std::thread::sleep(Duration::from_millis(100));
                bail!(
                    "{} {} before it served{}",
                    one.daemon.name,
                    reason(status),
                    last_lines(&one.daemon)
                );
            }
        }
        Ok(())
    }

    /// Starts again what has ended and is due. Answers whether anything changed.
    pub(crate) fn restart_ended(&mut self) -> bool {
        let mut changed = false;
        for one in &mut self.supervised {
            if let Some(status) = one.ended() {
                changed = true;
                let pause = one.note_end();
                let when = if pause.is_zero() {
                    "at once".to_owned()
                } else {
                    format!("in {} s", pause.as_secs())
                };
                self.log.line(
                    "sdrestctl",
                    &format!("{} {}; it is started again {when}", one.daemon.name, reason(status)),
                );
            }
            if one.next_start.is_some_and(|at| at <= Instant::now()) {
                changed = true;
                one.restarts += 1;
                if let Err(error) = one.start() {
                    self.log.line("sdrestctl", &format!("{error:#}"));
                    one.note_end();
                }
            }
        }
        changed
    }

    /// Ends everything: the front end first, so that it can still end its work with the others.
    pub(crate) fn stop(&mut self) {
        self.supervised.reverse();
        for one in &mut self.supervised {
            one.next_start = None;
            let Some(child) = &mut one.child else { continue };
            let signalled = i32::try_from(child.id())
                .is_ok_and(|pid| kill(Pid::from_raw(pid), Signal::SIGTERM).is_ok());
            let until = Instant::now() + STOP_PATIENCE;
            while signalled && Instant::now() < until && matches!(child.try_wait(), Ok(None)) {
                std::thread::sleep(Duration::from_millis(10));
            }
            if matches!(child.try_wait(), Ok(None)) {
                self.log.line(
                    "sdrestctl",
                    &format!("{} did not end in time and is killed", one.daemon.name),
                );
                let _ = child.kill();
            }
            let _ = child.wait();
            one.child = None;
        }
        for door in &mut self.conversations {
            door.stop();
        }
    }
}

impl Supervised {
    fn start(&mut self) -> Result<()> {
        self.next_start = None;
        self.started = Instant::now();
        self.child = Some(self.daemon.start()?);
        Ok(())
    }

    fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.child.as_mut()?.try_wait().ok()??;
        self.child = None;
        Some(status)
    }

    /// Plans the next start and answers the pause before it.
    fn note_end(&mut self) -> Duration {
        self.failures =
            if self.started.elapsed() >= GOOD_LIFE { 1 } else { self.failures.saturating_add(1) };
        let pause = pause_after(self.failures);
        self.next_start = Some(Instant::now() + pause);
        pause
    }
}

/// The pause before the next start, after so many ends without a good life in between.
fn pause_after(failures: u32) -> Duration {
    match failures.checked_sub(FREE_RESTARTS + 1) {
        None => Duration::ZERO,
        Some(over) => Duration::from_secs(u64::from(over) + 1).min(LONGEST_PAUSE),
    }
}

fn reason(status: ExitStatus) -> String {
    match (status.signal(), status.code()) {
        (Some(number), _) => {
            let name = Signal::try_from(number).map_or("unknown", Signal::as_str);
            format!("was ended by signal {number} ({name})")
        }
        (None, Some(code)) => format!("ended with status {code}"),
        (None, None) => "ended".to_owned(),
    }
}

fn last_lines(daemon: &Daemon) -> String {
    let lines = daemon.log.last_lines();
    if lines.is_empty() { String::new() } else { format!(":\n  {}", lines.join("\n  ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_restarts_are_free_and_the_pauses_stay_short() {
        let seconds: Vec<u64> = (1..=10).map(|failures| pause_after(failures).as_secs()).collect();
        assert_eq!(seconds, [0, 0, 0, 1, 2, 2, 2, 2, 2, 2]);
    }

    #[test]
    fn an_end_is_told_with_its_signal() {
        assert_eq!(reason(ExitStatus::from_raw(9)), "was ended by signal 9 (SIGKILL)");
        assert_eq!(reason(ExitStatus::from_raw(2 << 8)), "ended with status 2");
    }
}
