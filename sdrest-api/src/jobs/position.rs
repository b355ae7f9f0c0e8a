//! Where a waiting job stands and when it may end: an estimate from the store's own order and the measured
//! time per unit of cost. It tells numbers only, nothing of other owners.

use crate::jobs::fairness::{Waiting, order};
use sdrest_proto::{id::JobId, identity::Subject};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// An order may be reused for this many times as long as it took to make, so that making them never takes
/// more than a twentieth of a core, however many wait and ask.
const REUSE: u32 = 20;
/// The longest that an order may be reused.
const MOST_REUSE: Duration = Duration::from_secs(1);

/// The place of one waiting job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// 1 for the next to be started.
    pub position: u32,
    /// Cost of the waiting jobs before it.
    pub ahead: u64,
    pub owner: Subject,
}

/// The places of all waiting jobs at one moment.
#[derive(Debug)]
pub struct Places {
    pub of: HashMap<JobId, Place>,
    /// What all of them cost together, the last one too.
    pub cost: u64,
}

/// Ranks the waiting jobs.
pub fn rank(waiting: Vec<Waiting>) -> Places {
    let cost = waiting.iter().fold(0_u64, |sum, job| sum.saturating_add(job.cost));
    let ranked = order(waiting).into_iter().zip(1..);
    let of = ranked.map(|(turn, position)| {
        (turn.job, Place { position, ahead: turn.ahead, owner: turn.owner })
    });
    Places { of: of.collect(), cost }
}

/// The newest order, while it is fresh.
#[derive(Debug, Default)]
pub struct PlaceCache(Mutex<Option<Cached>>);

#[derive(Debug)]
struct Cached {
    stale: Instant,
    places: Arc<Places>,
}

impl PlaceCache {
    pub fn get(&self) -> Option<Arc<Places>> {
        let cached = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        cached
            .as_ref()
            .filter(|cached| Instant::now() < cached.stale)
            .map(|cached| Arc::clone(&cached.places))
    }

    /// Keeps an order whose making began at `begun`.
    pub fn put(&self, places: Places, begun: Instant) -> Arc<Places> {
        let places = Arc::new(places);
        let stale = Instant::now() + (begun.elapsed() * REUSE).min(MOST_REUSE);
        let cached = Cached { stale, places: Arc::clone(&places) };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(cached);
        places
    }
}

/// Seconds per unit of cost, as a moving average over the steps of all workers.
#[derive(Debug, Default)]
pub struct Pace(Mutex<Option<f64>>);

impl Pace {
    /// The weight of a new measurement.
    const WEIGHT: f64 = 0.1;

    /// `cost` was worked off in `elapsed`.
    pub fn observe(&self, cost: f64, elapsed: Duration) {
        if cost <= 0.0 {
            return;
        }
        let sample = elapsed.as_secs_f64() / cost;
        let mut pace = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *pace = Some(pace.map_or(sample, |old| old + Self::WEIGHT * (sample - old)));
    }

    /// How long `cost` may take, in seconds; `None` before anything was measured.
    pub fn estimate(&self, cost: f64) -> Option<f64> {
        let pace = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pace.map(|seconds| seconds * cost)
    }
}
