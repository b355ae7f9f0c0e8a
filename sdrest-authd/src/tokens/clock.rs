//! Whether the clock can be believed when something is about to be forgotten. After it was put forward, tokens look
//! expired that are valid again once it is put right; so for as long as a token lasts nothing is forgotten then.

use nix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// The wall clock may run ahead of the steady one by this many seconds between two looks.
const STEP: u64 = 60;

/// The steady clock: one that also counts while the machine sleeps, or waking up would look like a step.
pub(super) fn since_boot() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from).unwrap_or_default()
}

pub(super) struct Steps {
    seen: (Duration, u64),
    hold_until: Duration,
}

impl Steps {
    /// `wall` is in Unix seconds.
    pub(super) fn new(steady: Duration, wall: u64) -> Self {
        Self { seen: (steady, wall), hold_until: steady }
    }

    /// Looks at both clocks: whether what looks expired is. `longest` is the life of a token.
    pub(super) fn may_forget(&mut self, steady: Duration, wall: u64, longest: Duration) -> bool {
        let (before, wall_before) = std::mem::replace(&mut self.seen, (steady, wall));
        let passed = steady.saturating_sub(before).as_secs();
        if wall.saturating_sub(wall_before) > passed.saturating_add(STEP) {
            tracing::warn!("the clock was put forward by {} s", wall - wall_before - passed);
            self.hold_until = steady.saturating_add(longest);
        }
        steady >= self.hold_until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_step_forward_nothing_is_forgotten_for_as_long_as_a_token_lasts() {
        let (begun, hour) = (Duration::from_secs(77), Duration::from_secs(3600));
        let after = |seconds| begun + Duration::from_secs(seconds);
        let mut steps = Steps::new(begun, 1000);
        assert!(steps.may_forget(after(1), 1001, hour));
        assert!(steps.may_forget(after(2), 1010, hour), "it is only adjusted");
        assert!(!steps.may_forget(after(3), 90_000, hour));
        assert!(!steps.may_forget(after(4), 1020, hour), "it was put right");
        assert!(!steps.may_forget(after(3602), 4618, hour));
        assert!(steps.may_forget(after(3603), 4619, hour));
    }
}
