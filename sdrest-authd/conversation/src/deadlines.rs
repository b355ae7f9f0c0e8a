//! The two clocks of a login: its whole life, and the time that a person has for an answer. The thread that runs PAM
//! sets them, the watchdog reads them.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// The longest life, whatever authd asks for.
const LONGEST: Duration = Duration::from_secs(900);

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
        // 0 would be no deadline: a length of zero means at once.
        let end = self.now() + self.step_length.load(Ordering::Relaxed);
        self.step.store(end.max(1), Ordering::Relaxed);
    }

    pub(crate) fn person_answered(&self) {
        self.step.store(0, Ordering::Relaxed);
    }

    /// Why the process must end now, if it must.
    pub(crate) fn passed(&self) -> Option<&'static str> {
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
