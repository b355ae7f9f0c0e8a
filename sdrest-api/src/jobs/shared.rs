//! What the two handles of the queue have in common: the store, the watchers, the estimates. Changes are
//! announced here after the store has them.

use crate::jobs::{
    events::EventHub,
    fairness,
    job::Job,
    position::{Pace, Place, PlaceCache, Places, rank},
    state::JobState,
    store::{JobStore, StoreError},
    streams::Streams,
};
use sdrest_proto::id::{Attempt, JobId};
use std::{future::Future, sync::Arc, time::Instant};
use tokio::sync::{broadcast, watch};

/// How many interrupts a dispatcher may be behind before it has to look for itself.
const INTERRUPTS: usize = 1024;

/// How much may wait.
#[derive(Clone, Copy, Debug)]
pub struct QueueLimits {
    /// Waiting jobs of everybody.
    pub max_queued: u32,
    /// Waiting jobs of one owner.
    pub max_queued_per_owner: u32,
}

impl Default for QueueLimits {
    fn default() -> Self {
        Self { max_queued: 10_000, max_queued_per_owner: 200 }
    }
}

/// The parts of a queue.
pub(crate) struct Shared {
    pub(crate) store: Arc<dyn JobStore>,
    pub(crate) limits: QueueLimits,
    pub(crate) hub: EventHub,
    pub(crate) pace: Pace,
    /// Moves when something waits that did not before.
    pub(crate) arrivals: watch::Sender<u64>,
    /// Running jobs that were cancelled.
    pub(crate) interrupts: broadcast::Sender<JobId>,
    pub(crate) streams: Streams,
    pub(crate) waits: Streams,
    places: PlaceCache,
}

impl Shared {
    pub(crate) fn new(store: Arc<dyn JobStore>, limits: QueueLimits) -> Self {
        let (interrupts, _) = broadcast::channel(INTERRUPTS);
        Self {
            store,
            limits,
            hub: EventHub::default(),
            pace: Pace::default(),
            arrivals: watch::Sender::new(0),
            interrupts,
            streams: Streams::of_events(),
            waits: Streams::of_waits(),
            places: PlaceCache::default(),
        }
    }

    /// Something waits that did not before.
    pub(crate) fn more_waits(&self) {
        self.arrivals.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// A job has ended, and the store has it.
    pub(crate) fn ended(&self, job: JobId, state: JobState) {
        self.hub.end(job, state, None);
    }

    /// This attempt counts no more. Where the job was ended while it was claimed, what the claim said of it
    /// afterwards would stay for ever.
    pub(crate) async fn outdated(&self, job: JobId, attempt: Attempt) {
        if self.hub.peek(job).is_some_and(|live| live.attempt == attempt)
            && let Ok(found) = self.store.job(job).await
            && found.is_none_or(|found| found.state.is_terminal())
        {
            self.hub.forget(job);
        }
    }

    /// The places of all waiting jobs, at most a moment old.
    pub(crate) async fn places(&self) -> Result<Arc<Places>, StoreError> {
        match self.places.get() {
            Some(places) => Ok(places),
            None => {
                let begun = Instant::now();
                Ok(self.keep_places(rank(self.store.waiting().await?), begun))
            }
        }
    }

    pub(crate) fn keep_places(&self, places: Places, begun: Instant) -> Arc<Places> {
        self.places.put(places, begun)
    }

    /// A job as it is now.
    pub(crate) async fn look(&self, id: JobId) -> Result<Option<Job>, StoreError> {
        match self.store.job(id).await? {
            Some(job) => Ok(Some(self.dress(job).await?)),
            None => Ok(None),
        }
    }

    /// An accepted job with what is known of it, or as it was committed where the store fails now: what was
    /// accepted must not look refused, or it is submitted twice.
    pub(crate) async fn dress_accepted(&self, job: Job) -> Job {
        match self.dress(job.clone()).await {
            Ok(dressed) => dressed,
            Err(error) => {
                tracing::error!(job = %job.id, %error, "an accepted job is shown without its place");
                job
            }
        }
    }

    /// Adds to a job from the store what is known in memory.
    pub(crate) async fn dress(&self, mut job: Job) -> Result<Job, StoreError> {
        job.progress.steps = job.request.num_inference_steps.get();
        job.progress.images = job.request.num_images.get();
        match job.state {
            JobState::Queued => {
                let places = self.places().await?;
                // One that came after the order was made stands behind all of it.
                let behind = || Place {
                    position: u32::try_from(places.of.len()).unwrap_or(u32::MAX).saturating_add(1),
                    ahead: places.cost,
                    owner: job.owner.clone(),
                };
                let place = places.of.get(&job.id).cloned().unwrap_or_else(behind);
                job.position = Some(place.position);
                let cost = place.ahead.saturating_add(fairness::cost(&job.request)) as f64;
                job.eta_seconds = self.pace.estimate(cost + self.hub.running_cost());
            }
            JobState::Running => {
                if let Some(live) = self.hub.peek(job.id).filter(|live| live.attempt == job.attempt)
                {
                    job.progress.step = live.progress.step;
                    job.progress.image = live.progress.image;
                }
                job.eta_seconds = self.pace.estimate(self.hub.running_cost());
            }
            JobState::Done => {
                job.progress.step = job.progress.steps;
                job.progress.image = job.progress.images;
            }
            JobState::Failed | JobState::Cancelled => {}
        }
        Ok(job)
    }
}

/// Runs a change to its end even if whoever asked for it goes away.
pub(crate) async fn detached<T: Send + 'static>(
    change: impl Future<Output = Result<T, StoreError>> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::spawn(change).await {
        Ok(result) => result,
        Err(error) => Err(StoreError::Interrupted(error.to_string())),
    }
}
