//! The one thread beside PAM's: it ends the whole process when a deadline passes or authd hangs up, whatever a
//! module is doing. The order matters: first the socket is shut, so that no verdict can follow; then what the
//! modules started is killed; then the process ends without running any exit handler.

use crate::{channel::Channel, descendants, report};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::{
    io,
    os::fd::AsFd,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// The longest life, whatever authd asks for.
const LONGEST: Duration = Duration::from_secs(900);
/// How often the deadlines are looked at; a hang-up is noticed at once.
const TICK_MS: u16 = 100;

/// Instants as milliseconds since the start; 0 is none.
#[derive(Debug)]
pub(crate) struct Deadlines {
    begun: Instant,
    total: AtomicU64,
    step: AtomicU64,
    step_length: AtomicU64,
}

impl Default for Deadlines {
    fn default() -> Self {
        // Until `Start` says otherwise: a peer that says nothing is given up after this.
        let total = AtomicU64::new(10_000);
        Self {
            begun: Instant::now(),
            total,
            step: AtomicU64::new(0),
            step_length: AtomicU64::new(10_000),
        }
    }
}

impl Deadlines {
    pub(crate) fn set(&self, step_ms: u32, total_ms: u32) {
        let total = Duration::from_millis(total_ms.into()).min(LONGEST);
        self.step_length.store(step_ms.into(), Ordering::Relaxed);
        self.total.store(self.now() + as_ms(total), Ordering::Relaxed);
    }

    pub(crate) fn person_is_asked(&self) {
        self.step.store(self.now() + self.step_length.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    pub(crate) fn person_answered(&self) {
        self.step.store(0, Ordering::Relaxed);
    }

    fn passed(&self) -> Option<&'static str> {
        let now = self.now();
        let step = self.step.load(Ordering::Relaxed);
        if step != 0 && now >= step {
            return Some("no answer came before the step's deadline");
        }
        (now >= self.total.load(Ordering::Relaxed)).then_some("the login's total deadline passed")
    }

    fn now(&self) -> u64 {
        as_ms(self.begun.elapsed())
    }
}

fn as_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Starts the thread. It ends only with the process.
pub(crate) fn start(channel: Arc<Channel>, end: fn(i32) -> !) -> io::Result<()> {
    thread::Builder::new().name("watchdog".to_owned()).spawn(move || watch(&channel, end)).map(drop)
}

fn watch(channel: &Channel, end: fn(i32) -> !) {
    let why = loop {
        // No event is asked for: POLLHUP, POLLERR and POLLNVAL are always reported.
        let mut polled = [PollFd::new(channel.as_stream().as_fd(), PollFlags::empty())];
        match poll(&mut polled, PollTimeout::from(TICK_MS)) {
            Ok(0) | Err(nix::Error::EINTR) => {}
            Ok(_) => break "authd hung up",
            Err(_) => break "the connection cannot be watched",
        }
        if let Some(why) = channel.deadlines.passed() {
            break why;
        }
    };
    channel.close();
    report::line(why);
    descendants::kill_all();
    end(1)
}
