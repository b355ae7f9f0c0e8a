//! The queue as dispatchers see it: claim a job for a worker, tell how far it is, record how it ended. Every
//! record carries the attempt, and an attempt that is no longer the running one changes nothing.

use crate::jobs::{
    fairness,
    job::{ImageRecord, Progress},
    shared::{Shared, detached},
    state::JobState,
    store::{Blame, Claim, ClaimRequest, Finished, Recorded, Requeued, StoreError},
};
use sdrest_proto::{
    error::Fault,
    id::{Attempt, JobId},
};
use std::{sync::Arc, time::Duration};
use tokio::sync::{broadcast, watch};

/// The dispatchers' side of the queue. Clones share it.
#[derive(Clone)]
pub struct WorkQueue {
    shared: Arc<Shared>,
}

impl WorkQueue {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Changes whenever a job begins to wait.
    pub fn arrivals(&self) -> watch::Receiver<u64> {
        self.shared.arrivals.subscribe()
    }

    /// Running jobs that were cancelled, from now on.
    pub fn interrupts(&self) -> broadcast::Receiver<JobId> {
        self.shared.interrupts.subscribe()
    }

    /// Takes the fairest waiting job under a new attempt.
    pub async fn claim(&self, request: ClaimRequest) -> Result<Claim, StoreError> {
        let shared = Arc::clone(&self.shared);
        detached(async move {
            let claim = shared.store.claim(request).await?;
            match &claim {
                Claim::Job { job, .. } => {
                    shared.hub.begin(job.id, job.attempt, fairness::cost(&job.request));
                }
                Claim::Unreadable(Some(job)) => shared.ended(*job, JobState::Failed),
                Claim::Unreadable(None) | Claim::Hold | Claim::Nothing => {}
            }
            Ok(claim)
        })
        .await
    }

    /// Tells watchers how far a running job is.
    pub fn progress(&self, job: JobId, attempt: Attempt, progress: Progress) {
        self.shared.hub.update(job, |live| {
            if live.state == JobState::Running && live.attempt == attempt {
                live.progress = progress;
            }
        });
    }

    /// `cost` was worked off in `elapsed`: what estimates are made from.
    pub fn observe_pace(&self, cost: f64, elapsed: Duration) {
        self.shared.pace.observe(cost, elapsed);
    }

    /// Whether this attempt still counts.
    pub async fn is_running(&self, job: JobId, attempt: Attempt) -> Result<bool, StoreError> {
        let found = self.shared.store.job(job).await?;
        Ok(found.is_some_and(|found| found.state == JobState::Running && found.attempt == attempt))
    }

    /// Whether nothing can happen to this job any more.
    pub async fn has_ended(&self, job: JobId) -> Result<bool, StoreError> {
        let found = self.shared.store.job(job).await?;
        Ok(found.is_none_or(|found| found.state.is_terminal()))
    }

    /// Records the pictures of a job, whose blobs are durable already, and that it is done.
    pub async fn finish(
        &self,
        job: JobId,
        attempt: Attempt,
        images: Vec<ImageRecord>,
    ) -> Result<Recorded, StoreError> {
        let shared = Arc::clone(&self.shared);
        detached(async move {
            Ok(match shared.store.finish(job, attempt, images).await? {
                Finished::Yes(recorded) => {
                    shared.hub.end(job, JobState::Done, recorded);
                    Recorded::Yes
                }
                Finished::Stale => {
                    shared.outdated(job, attempt).await;
                    Recorded::Stale
                }
            })
        })
        .await
    }

    /// Records that a job ended without pictures.
    pub async fn fail(
        &self,
        job: JobId,
        attempt: Attempt,
        fault: Fault,
    ) -> Result<Recorded, StoreError> {
        let shared = Arc::clone(&self.shared);
        detached(async move {
            let recorded = shared.store.fail(job, attempt, fault).await?;
            match recorded {
                Recorded::Yes => shared.ended(job, JobState::Failed),
                Recorded::Stale => shared.outdated(job, attempt).await,
            }
            Ok(recorded)
        })
        .await
    }

    /// Lets a job wait again whose worker went away, or gives it up after too many deaths.
    pub async fn requeue(
        &self,
        job: JobId,
        attempt: Attempt,
        blame: Blame,
    ) -> Result<Requeued, StoreError> {
        let shared = Arc::clone(&self.shared);
        detached(async move {
            let requeued = shared.store.requeue(job, attempt, blame).await?;
            match requeued {
                Requeued::Waiting => {
                    // Another dispatcher may have claimed it since, under the next attempt.
                    shared.hub.update(job, |live| {
                        if live.attempt == attempt {
                            live.state = JobState::Queued;
                        }
                    });
                    shared.more_waits();
                }
                Requeued::Quarantined => shared.ended(job, JobState::Failed),
                Requeued::Stale => shared.outdated(job, attempt).await,
            }
            Ok(requeued)
        })
        .await
    }

    /// Forgets the watchers of a job that ended while it was handed over.
    pub fn forget(&self, job: JobId) {
        self.shared.hub.forget(job);
    }

    /// Whether a picture's row names this blob.
    pub async fn has_blob(&self, key: String) -> Result<bool, StoreError> {
        self.shared.store.has_blob(key).await
    }

    /// Whether no row names this blob of this attempt and none will.
    pub async fn is_orphan(
        &self,
        key: String,
        (job, attempt): (JobId, Attempt),
    ) -> Result<bool, StoreError> {
        // An attempt writes its blobs while it runs and names them as it ends: what is asked last sees the names
        // of one that ended between the questions.
        Ok(!self.has_blob(key.clone()).await?
            && !self.is_running(job, attempt).await?
            && !self.has_blob(key).await?)
    }
}
