//! When things are told. A failure is told exactly one failure floor after the last answer, or at the floor's
//! next multiple, so that unknown, wrong, locked and refused last alike; a one-shot password counts as answered at
//! the begin. Text that might give a failure away is held back for a while, and forgotten if the failure comes in
//! that time.

use regex::Regex;
use sdrest_proto::{conversation::Prompt, login::Echo};
use std::time::{Duration, Instant};

/// How long text before the first answer is held: long enough for a module that speaks and fails at once (an
/// account that is locked), short enough that a device login's link seems to come at once.
const EARLY_HOLD: Duration = Duration::from_millis(300);
/// What a first prompt must look like for a one-shot password to be given to it.
pub(crate) const PASSWORD_PROMPT: &str =
    r"(?i)^(\(current\) unix |ldap |domain )?password( for [^:]+)?: ?$";

/// The rules of time of all conversations.
#[derive(Clone, Debug)]
pub(crate) struct Pacing {
    pub(crate) failure_floor: Duration,
    pub(crate) step: Duration,
    pub(crate) total: Duration,
    pub(crate) password_prompt: Regex,
    /// Whether text after the last answer of a failing login is told.
    pub(crate) expose_pam_errors: bool,
}

/// For the wire.
pub(crate) fn milliseconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

impl Pacing {
    /// When a failure that is known at `now` is told.
    pub(super) fn tell_failure_at(&self, last_answer: Instant, now: Instant) -> Instant {
        let floor = self.failure_floor.max(Duration::from_millis(1)).as_nanos();
        let gone = now.saturating_duration_since(last_answer).as_nanos();
        let multiples = gone.div_ceil(floor).max(1);
        last_answer + Duration::from_nanos(u64::try_from(multiples * floor).unwrap_or(u64::MAX))
    }

    pub(super) fn hold(&self, answered: bool) -> Duration {
        match (self.expose_pam_errors, answered) {
            (true, _) => Duration::ZERO,
            (false, false) => EARLY_HOLD.min(self.failure_floor),
            (false, true) => self.failure_floor,
        }
    }

    /// Whether a one-shot password may answer these prompts.
    pub(super) fn asks_for_the_password(&self, prompts: &[Prompt]) -> bool {
        matches!(prompts, [Prompt { echo: Echo::Off, text }] if self.password_prompt.is_match(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Pacing {
        /// Steps and conversations that last this long.
        pub(in super::super) fn slow(lasts: Duration) -> Self {
            Self {
                failure_floor: Duration::from_secs(2),
                step: lasts,
                total: lasts,
                password_prompt: Regex::new(PASSWORD_PROMPT).unwrap(),
                expose_pam_errors: false,
            }
        }
    }

    fn pacing() -> Pacing {
        Pacing::slow(Duration::from_secs(60))
    }

    #[test]
    fn failures_are_told_at_multiples_of_the_floor() {
        let start = Instant::now();
        for (known_ms, told_ms) in
            [(0, 2000), (1, 2000), (1999, 2000), (2000, 2000), (2001, 4000), (60_000, 60_000)]
        {
            let told = pacing().tell_failure_at(start, start + Duration::from_millis(known_ms));
            assert_eq!(told - start, Duration::from_millis(told_ms), "known after {known_ms} ms");
        }
    }

    #[test]
    fn a_password_goes_to_password_prompts_only() {
        let ask = |echo, text: &str| vec![Prompt { echo, text: text.to_owned() }];
        for text in [
            "Password: ",
            "password:",
            "(current) UNIX password: ",
            "LDAP Password: ",
            "Password for alice: ",
        ] {
            assert!(pacing().asks_for_the_password(&ask(Echo::Off, text)), "{text:?}");
        }
        for text in [
            "New password: ",
            "One-time password (OATH) for `a': ",
            "Verification code: ",
            "https://x/ Password: ",
        ] {
            assert!(!pacing().asks_for_the_password(&ask(Echo::Off, text)), "{text:?}");
        }
        assert!(!pacing().asks_for_the_password(&ask(Echo::On, "Password: ")));
        let two = [ask(Echo::Off, "Password: "), ask(Echo::Off, "Password: ")].concat();
        assert!(!pacing().asks_for_the_password(&two));
    }
}
