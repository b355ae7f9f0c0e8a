//! How long to wait after wrong answers: a delay that grows with the failures of one user from one source, a milder
//! one for a source alone, and a short one for a user wherever they come from: the front end names the source, and a
//! hostile one could name another for each guess. Another source has its own count, and the user's alone never asks
//! for more than a few seconds, though whoever goes on guessing from ever new networks renews them. Within the delay even the right password waits. The counts are on disk within a second, under keyed hashes: people type passwords
//! into the field for the name.

use crate::{
    audit,
    digest::Digest,
    peer::Source,
    random,
    state_dir::{StateDir, StateError},
};
use sdrest_proto::error::{ErrorCode, Fault};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::{
    collections::HashMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

const FILE: &str = "throttle.json";
/// Failures are forgotten after this long without one, in seconds.
const FORGET: u64 = 15 * 60;
/// Counts kept; beyond, the oldest go.
const KEPT: usize = 65_536;

/// Free failures, the first delay and the longest, in seconds; each further failure doubles the delay.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Growth {
    pub(crate) free: u32,
    pub(crate) first: u64,
    pub(crate) longest: u64,
}

impl Growth {
    fn delay(self, failures: u32) -> u64 {
        let Some(over) = failures.checked_sub(self.free).and_then(|n| n.checked_sub(1)) else {
            return 0;
        };
        self.first.saturating_mul(1 << over.min(20)).min(self.longest)
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Policy {
    pub(crate) enabled: bool,
    pub(crate) user_and_source: Growth,
    pub(crate) source: Growth,
    pub(crate) user: Growth,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            enabled: true,
            user_and_source: Growth { free: 3, first: 2, longest: 60 },
            source: Growth { free: 20, first: 1, longest: 30 },
            user: Growth { free: 30, first: 1, longest: 4 },
        }
    }
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Count {
    failures: u32,
    last: u64,
    /// With how many of them a delay was last audited: once for each, however often somebody knocks meanwhile.
    #[serde(skip)]
    told: u32,
}

/// Whose count it is.
type Key = Digest<16>;

#[derive(Default, Serialize, Deserialize)]
struct Counts {
    salt: String,
    by_key: HashMap<Key, Count>,
}

pub(crate) struct Throttle {
    dir: StateDir,
    policy: Policy,
    counts: Mutex<Counts>,
    dirty: AtomicBool,
    /// Held while the counts are written: the last writing, at the end, may meet one that is under way.
    saving: Mutex<()>,
    clock: fn() -> u64,
}

impl Throttle {
    pub(crate) fn load(dir: &StateDir, policy: Policy) -> Result<Self, StateError> {
        Self::with_clock(dir, policy, audit::unix_now)
    }

    fn with_clock(dir: &StateDir, policy: Policy, clock: fn() -> u64) -> Result<Self, StateError> {
        let mut counts: Counts = dir.read_json(FILE)?;
        if counts.salt.is_empty() {
            // Without random numbers the names are hashed without a salt; nothing else is lost.
            counts.salt = random::text().unwrap_or_else(|_| "unsalted".to_owned());
        }
        let (dir, counts) = (dir.clone(), Mutex::new(counts));
        Ok(Self {
            dir,
            policy,
            counts,
            dirty: AtomicBool::new(false),
            saving: Mutex::default(),
            clock,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses while a delay runs.
    pub(crate) fn check(&self, user: &str, source: &Source) -> Result<(), Fault> {
        if !self.policy.enabled {
            return Ok(());
        }
        let now = (self.clock)();
        let mut counts = self.lock();
        let keys = (counts.key(user, source), counts.key("", source), counts.anywhere(user));
        let mut news = false;
        let mut left = |key: &Key, growth: Growth| {
            let Some(count) = counts.by_key.get_mut(key) else { return 0 };
            // After a clock was set back the delay runs from now on, once; else it would last until the clock is
            // where it was.
            count.last = count.last.min(now);
            let left = (count.last + growth.delay(count.failures)).saturating_sub(now);
            news |=
                left > 0 && std::mem::replace(&mut count.told, count.failures) != count.failures;
            left
        };
        let own = left(&keys.0, self.policy.user_and_source);
        let wait = own.max(left(&keys.1, self.policy.source));
        let wait = wait.max(left(&keys.2, self.policy.user));
        drop(counts);
        if wait == 0 {
            return Ok(());
        }
        if news {
            audit::throttled(user, source, wait);
        }
        let seconds = u32::try_from(wait).unwrap_or(u32::MAX);
        Err(Fault::new(
            ErrorCode::TooManyAttempts,
            format!("too many attempts; try again in {seconds} s"),
        )
        .retry_after(seconds))
    }

    pub(crate) fn failed(&self, user: &str, source: &Source) {
        let now = (self.clock)();
        let mut counts = self.lock();
        for key in [counts.key(user, source), counts.key("", source), counts.anywhere(user)] {
            let count =
                counts.by_key.entry(key).or_insert(Count { failures: 0, last: now, told: 0 });
            let forgotten = now.saturating_sub(count.last) > FORGET;
            count.failures = if forgotten { 1 } else { count.failures.saturating_add(1) };
            count.last = now;
        }
        counts.shrink(now);
        self.dirty.store(true, Ordering::Release);
    }

    /// Forgets the failures of this user from this source; the source's own go by time alone.
    pub(crate) fn succeeded(&self, user: &str, source: &Source) {
        let mut counts = self.lock();
        let key = counts.key(user, source);
        if counts.by_key.remove(&key).is_some() {
            self.dirty.store(true, Ordering::Release);
        }
    }

    /// Writes the counts if they have changed; called every half second.
    pub(crate) fn save(&self) -> Result<(), StateError> {
        let _alone = self.saving.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.dirty.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        // A copy of what is small: nobody who asks is to wait for the disk.
        let counts = {
            let counts = self.lock();
            Counts { salt: counts.salt.clone(), by_key: counts.by_key.clone() }
        };
        self.dir.write_json(FILE, &counts).inspect_err(|_| {
            // Tried again the next time.
            self.dirty.store(true, Ordering::Release);
        })
    }
}

impl Counts {
    fn key(&self, user: &str, source: &Source) -> Key {
        self.hash(user, &source.network())
    }

    /// Of one user, whatever source was named; no network is written like this.
    fn anywhere(&self, user: &str) -> Key {
        self.hash(user, "*")
    }

    fn hash(&self, user: &str, network: &str) -> Key {
        let mut hash = Sha256::new();
        // A directory may know one account under many spellings.
        for part in [self.salt.as_str(), &user.to_lowercase(), network] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        hash.into()
    }

    fn shrink(&mut self, now: u64) {
        if self.by_key.len() <= KEPT {
            return;
        }
        self.by_key.retain(|_, count| now.saturating_sub(count.last) <= FORGET);
        if self.by_key.len() <= KEPT {
            return;
        }
        // An eighth at once: whoever invents names must not make every failure sort them all. Those with the fewest
        // failures go first, so that inventing names does not push out the counts that matter.
        let mut by_weight: Vec<(u32, u64, Key)> =
            self.by_key.iter().map(|(key, count)| (count.failures, count.last, *key)).collect();
        by_weight.sort_unstable();
        for (_, _, key) in by_weight.iter().take(KEPT / 8) {
            self.by_key.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;

    static NOW: AtomicU64 = AtomicU64::new(1_000_000);

    fn source(text: &str) -> Source {
        Source::new(Some(text.parse().unwrap()))
    }

    #[test]
    fn delays_grow_outlive_a_restart_and_lock_nobody_else_out() {
        let folder = tempfile::tempdir().unwrap();
        let dir = StateDir::open(folder.path()).unwrap();
        let clock = || NOW.load(Ordering::Relaxed);
        let throttle = Throttle::with_clock(&dir, Policy::default(), clock).unwrap();
        let (here, there) = (source("192.0.2.1"), source("192.0.2.2"));
        for _ in 0..3 {
            throttle.check("alice", &here).unwrap();
            throttle.failed("alice", &here);
        }
        throttle.check("alice", &here).unwrap();
        throttle.failed("alice", &here);
        let fault = throttle.check("alice", &here).unwrap_err();
        assert_eq!((fault.code, fault.retry_after), (ErrorCode::TooManyAttempts, Some(2)));
        throttle.failed("alice", &here);
        assert_eq!(throttle.check("alice", &here).unwrap_err().retry_after, Some(4));
        throttle.check("alice", &there).unwrap();
        throttle.check("bob", &here).unwrap();
        let fault = throttle.check("ALICE", &here).unwrap_err();
        assert_eq!(fault.retry_after, Some(4), "another spelling of the same name");

        throttle.save().unwrap();
        let text = String::from_utf8(dir.read(FILE).unwrap().unwrap()).unwrap();
        assert!(!text.contains("alice"), "names are not on disk");
        let throttle = Throttle::with_clock(&dir, Policy::default(), clock).unwrap();
        assert_eq!(throttle.check("alice", &here).unwrap_err().retry_after, Some(4));
        NOW.fetch_add(5, Ordering::Relaxed);
        throttle.check("alice", &here).unwrap();
        throttle.succeeded("alice", &here);
        throttle.failed("alice", &here);
        throttle.check("alice", &here).unwrap();
    }

    #[test]
    fn a_source_that_tries_many_names_waits_too() {
        let folder = tempfile::tempdir().unwrap();
        let dir = StateDir::open(folder.path()).unwrap();
        let throttle = Throttle::with_clock(&dir, Policy::default(), || 5).unwrap();
        for number in 0..21 {
            throttle.failed(&format!("user{number}"), &source("2001:db8::1"));
        }
        assert!(throttle.check("fresh", &source("2001:db8::2")).is_err());
        assert!(throttle.check("fresh", &source("2001:db8:0:1::2")).is_ok());
    }

    #[test]
    fn invented_names_do_not_grow_the_counts_without_end() {
        let folder = tempfile::tempdir().unwrap();
        let dir = StateDir::open(folder.path()).unwrap();
        let throttle = Throttle::with_clock(&dir, Policy::default(), || 7).unwrap();
        for number in 0..KEPT + 10 {
            throttle.failed(&number.to_string(), &source("192.0.2.1"));
        }
        assert!(throttle.lock().by_key.len() <= KEPT);
    }

    #[test]
    fn a_clock_set_back_delays_once_and_a_failed_save_is_tried_again() {
        static BACK: AtomicU64 = AtomicU64::new(2_000_000);
        let folder = tempfile::tempdir().unwrap();
        let dir = StateDir::open(folder.path()).unwrap();
        let clock = || BACK.load(Ordering::Relaxed);
        let throttle = Throttle::with_clock(&dir, Policy::default(), clock).unwrap();
        let here = source("192.0.2.1");
        for _ in 0..4 {
            throttle.failed("alice", &here);
        }
        BACK.store(1_000_000, Ordering::Relaxed);
        assert_eq!(throttle.check("alice", &here).unwrap_err().retry_after, Some(2));
        BACK.fetch_add(2, Ordering::Relaxed);
        throttle.check("alice", &here).unwrap();

        let away = folder.path().with_extension("away");
        std::fs::rename(folder.path(), &away).unwrap();
        throttle.save().unwrap_err();
        std::fs::rename(&away, folder.path()).unwrap();
        throttle.save().unwrap();
        assert!(dir.read(FILE).unwrap().is_some(), "what could not be saved was saved later");
    }

    #[test]
    fn naming_another_source_for_each_guess_does_not_avoid_the_delay_of_the_user() {
        let folder = tempfile::tempdir().unwrap();
        let dir = StateDir::open(folder.path()).unwrap();
        let throttle = Throttle::with_clock(&dir, Policy::default(), || 2_000_000).unwrap();
        for n in 0..40 {
            throttle.failed("bob", &source(&format!("198.51.{n}.1")));
        }
        let fault = throttle.check("bob", &source("203.0.113.9")).unwrap_err();
        assert_eq!(fault.code, ErrorCode::TooManyAttempts);
        assert!(fault.retry_after.is_some_and(|seconds| seconds <= 4), "nobody is locked out");
        // A success elsewhere, or one that the guesser makes, is no reset.
        throttle.succeeded("bob", &source("203.0.113.9"));
        assert!(throttle.check("bob", &source("203.0.113.9")).is_err());
        assert!(throttle.check("alice", &source("203.0.113.9")).is_ok());
    }
}
