//! The queue as routes see it: submit, look, wait, watch, cancel. Whatever is not the asker's is not there.
//! Every change goes to the store first and to watchers after it, and runs to its end even if the caller
//! goes away.

use crate::jobs::{
    error::JobError,
    events::{EventStream, Watched},
    job::{
        IdempotencyKey, ImagePage, ImageRecord, Job, JobPage, NewJob, OwnedImage, Page, Scope,
        SubmitPermit,
    },
    shared::{QueueLimits, Shared, detached},
    state::JobState,
    store::{
        Counts, Inserted, JobFilter, JobStore, Limits, Refusal, StoreError, sqlite::SqliteStore,
    },
    watcher::watch_job,
    work::WorkQueue,
};
use futures::StreamExt;
use sdrest_proto::{
    id::{ImageId, JobId},
    identity::Subject,
};
use std::{future::Future, path::Path, sync::Arc};

/// Seconds that a refused client is told to wait where nothing was measured yet, and the most it is told.
const RETRY: std::ops::RangeInclusive<f64> = 5.0..=600.0;

/// Figures of the whole queue; nothing of who waits.
#[derive(Clone, Copy, Debug)]
pub struct QueueStatus {
    pub all: Counts,
    /// The asker's own jobs; equal to `all` where the asker sees everybody's.
    pub own: Counts,
    /// The best place among the asker's waiting jobs.
    pub own_position: Option<u32>,
    /// Seconds until all that waits and runs now has ended; `None` where nothing was measured yet.
    pub eta_seconds: Option<f64>,
}

/// An accepted job after a wait for its end.
#[derive(Clone, Debug)]
pub struct Waited {
    pub job: Job,
    /// Whether it was waited for. It was not where its owner waits for as many jobs as one user may.
    pub held: bool,
}

/// The queue. Clones share it.
#[derive(Clone)]
pub struct Queue {
    pub(super) shared: Arc<Shared>,
}

impl Queue {
    /// Opens (or makes) the SQLite store at `path` and lets what ran before wait again.
    pub async fn open(path: &Path, limits: QueueLimits) -> Result<Self, StoreError> {
        Self::over(Arc::new(SqliteStore::open(path).await?), limits).await
    }

    /// A queue over any store.
    pub async fn over(store: Arc<dyn JobStore>, limits: QueueLimits) -> Result<Self, StoreError> {
        let recovered = store.recover().await?;
        if recovered > 0 {
            tracing::info!(jobs = recovered, "jobs that ran when the server stopped wait again");
        }
        Ok(Self { shared: Arc::new(Shared::new(store, limits)) })
    }

    /// The queue as dispatchers see it.
    pub fn work(&self) -> WorkQueue {
        WorkQueue::new(Arc::clone(&self.shared))
    }

    /// Accepts a job. It is durable when this returns.
    pub async fn submit<P: SubmitPermit>(&self, permit: P, new: NewJob) -> Result<Job, JobError> {
        let (Inserted::Fresh(job) | Inserted::Replayed(job)) = self.accept(permit, new).await?;
        Ok(self.shared.dress_accepted(job).await)
    }

    /// Accepts a job and gives it once it has ended, or as it is when `patience` is over, or at once where its
    /// owner waits for as many as one user may. Once it is accepted nothing makes this fail: the worst is the job
    /// as it was committed.
    pub async fn submit_and_wait<P: SubmitPermit>(
        &self,
        permit: P,
        new: NewJob,
        patience: impl Future<Output = ()>,
    ) -> Result<Waited, JobError> {
        let watched = self.shared.hub.watch(new.id);
        match self.accept(permit, new).await? {
            Inserted::Fresh(job) => Ok(self.end_of_accepted(job, Some(watched), patience).await),
            Inserted::Replayed(job) => Ok(self.wait_for_accepted(job, patience).await),
        }
    }

    /// The job that this key made from the same body, if it is remembered. Whatever was checked when it was
    /// accepted need not be so any more, so this is asked first; `submit` decides between two at a time.
    pub async fn replay<P: SubmitPermit>(
        &self,
        _permit: &P,
        owner: &Subject,
        key: &IdempotencyKey,
    ) -> Result<Option<Job>, JobError> {
        let Some(job) = self.shared.store.replay(owner.clone(), key.clone()).await? else {
            return Ok(None);
        };
        tracing::info!(job = %job.id, "asked for again");
        Ok(Some(self.shared.dress_accepted(job).await))
    }

    /// A job that was accepted earlier, as `submit_and_wait` gives it.
    pub async fn wait_for_accepted(&self, job: Job, patience: impl Future<Output = ()>) -> Waited {
        match self.watch_and_look(Scope::Any, job.id).await {
            Ok((now, _)) if now.state.is_terminal() => {
                Waited { job: self.shared.dress_accepted(now).await, held: true }
            }
            Ok((now, watched)) => self.end_of_accepted(now, Some(watched), patience).await,
            // It is looked at once more, and shown as it was.
            Err(_) => self.end_of_accepted(job, None, patience).await,
        }
    }

    /// Waits for the end of an accepted job that is watched, where its owner may wait for one more.
    async fn end_of_accepted(
        &self,
        job: Job,
        watched: Option<Watched>,
        patience: impl Future<Output = ()>,
    ) -> Waited {
        let ticket = self.shared.waits.enter(&job.owner, job.id);
        let (held, ended) = match (watched, ticket) {
            (Some(mut watched), Some(_ticket)) => (true, or_over(watched.end(), patience).await),
            _ => (false, None),
        };
        if let Some(ended) = ended {
            return Waited { job: self.shared.dress_accepted(ended).await, held };
        }
        match self.shared.look(job.id).await {
            Ok(Some(now)) => Waited { job: now, held },
            Ok(None) => Waited { job, held },
            Err(error) => {
                tracing::error!(job = %job.id, %error, "an accepted job could not be read and is shown as it was");
                Waited { job, held }
            }
        }
    }

    async fn accept<P: SubmitPermit>(&self, _permit: P, new: NewJob) -> Result<Inserted, JobError> {
        let QueueLimits { max_queued, max_queued_per_owner } = self.shared.limits;
        let limits = Limits { queued: max_queued, queued_per_owner: max_queued_per_owner };
        let shared = Arc::clone(&self.shared);
        let inserted = detached(async move {
            let id = new.id;
            let inserted = shared.store.insert(new, limits).await;
            match &inserted {
                Ok(Ok(Inserted::Fresh(_))) => shared.more_waits(),
                // Somebody may have begun to wait for what will not be.
                _ => shared.hub.forget(id),
            }
            inserted
        })
        .await?;
        match inserted {
            Ok(inserted) => {
                let (Inserted::Fresh(job) | Inserted::Replayed(job)) = &inserted;
                tracing::info!(job = %job.id, "accepted");
                Ok(inserted)
            }
            Err(refusal) => Err(self.refused(refusal)),
        }
    }

    fn refused(&self, refusal: Refusal) -> JobError {
        let limits = self.shared.limits;
        let seconds =
            self.shared.pace.estimate(self.shared.hub.running_cost()).unwrap_or(*RETRY.start());
        let retry_after = seconds.clamp(*RETRY.start(), *RETRY.end()).ceil() as u32;
        match refusal {
            Refusal::QueueFull { queued } => {
                JobError::QueueFull { queued, limit: limits.max_queued, retry_after }
            }
            Refusal::QuotaExceeded { queued } => {
                JobError::QuotaExceeded { queued, limit: limits.max_queued_per_owner, retry_after }
            }
            Refusal::KeyReused => JobError::IdempotencyConflict,
        }
    }

    /// The job, if the asker may see it.
    pub async fn job(&self, scope: Scope<'_>, id: JobId) -> Result<Job, JobError> {
        Ok(self.shared.dress(self.stored(scope, id).await?).await?)
    }

    /// The job as the store has it, if the asker may see it.
    async fn stored(&self, scope: Scope<'_>, id: JobId) -> Result<Job, JobError> {
        let job = self.shared.store.job(id).await?;
        job.filter(|job| scope.covers(&job.owner)).ok_or_else(|| JobError::no_job(id))
    }

    /// Jobs that the asker may see, newest first.
    pub async fn list(&self, scope: Scope<'_>, page: Page<JobId>) -> Result<JobPage, JobError> {
        let (owner, limit) = (scope.owner(), page.capped());
        let filter = JobFilter { owner, state: page.state, before: page.before, limit };
        let found = self.shared.store.jobs(filter).await?;
        let mut jobs = Vec::with_capacity(found.jobs.len());
        for job in found.jobs {
            jobs.push(self.shared.dress(job).await?);
        }
        Ok(JobPage { jobs, next: found.next })
    }

    /// Ends a job, waiting or running; the worker of a running one is told to stop within a step. The end is
    /// durable when this returns. `AlreadyEnded` where there was nothing left to end.
    pub async fn cancel(&self, scope: Scope<'_>, id: JobId) -> Result<Job, JobError> {
        self.stored(scope, id).await?;
        let shared = Arc::clone(&self.shared);
        let left = detached(async move {
            let left = shared.store.cancel(id).await?;
            if left.is_some_and(|state| !state.is_terminal()) {
                shared.ended(id, JobState::Cancelled);
                // Nobody listens where no worker is served: then nothing runs either.
                let _ = shared.interrupts.send(id);
            }
            Ok(left)
        })
        .await?;
        match left {
            None => Err(JobError::no_job(id)),
            Some(state) if state.is_terminal() => Err(JobError::AlreadyEnded { job: id, state }),
            Some(_) => self.job(scope, id).await,
        }
    }

    /// The job once it has ended, or as it is when `patience` is over, or at once where the job's owner waits for as
    /// many as one user may.
    pub async fn wait(
        &self,
        scope: Scope<'_>,
        id: JobId,
        patience: impl Future<Output = ()>,
    ) -> Result<Job, JobError> {
        let (job, mut watched) = self.watched(scope, id).await?;
        if job.state.is_terminal() {
            return Ok(self.shared.dress(job).await?);
        }
        let Some(_ticket) = self.shared.waits.enter(&job.owner, id) else {
            return Ok(self.shared.dress(job).await?);
        };
        match or_over(watched.end(), patience).await {
            Some(ended) => Ok(self.shared.dress(ended).await?),
            None => self.job(scope, id).await,
        }
    }

    /// Notices of a job with ids above `after`, from what is known now to its end. `TooManyStreams` where the
    /// job's owner has as many open as there may be.
    pub async fn events(
        &self,
        scope: Scope<'_>,
        id: JobId,
        after: Option<u64>,
    ) -> Result<EventStream, JobError> {
        let (job, watched) = self.watched(scope, id).await?;
        let ticket = self.shared.streams.enter(&job.owner, id).ok_or(JobError::TooManyStreams)?;
        let job = self.shared.dress(job).await?;
        let notices = watch_job(Arc::clone(&self.shared), job, watched.live, after.unwrap_or(0));
        // The stream holds its ticket for as long as it lives.
        let held = notices.map(move |notice| {
            let _open = &ticket;
            notice
        });
        Ok(held.boxed())
    }

    /// Watches what the asker may see, and only that. The job is as the store has it.
    async fn watched(&self, scope: Scope<'_>, id: JobId) -> Result<(Job, Watched), JobError> {
        self.stored(scope, id).await?;
        self.watch_and_look(scope, id).await
    }

    /// Watches first and looks second, so that no end falls between.
    async fn watch_and_look(
        &self,
        scope: Scope<'_>,
        id: JobId,
    ) -> Result<(Job, Watched), JobError> {
        let unsettled = self.shared.hub.unsettled(id);
        let watched = self.shared.hub.watch(id);
        let job = self.stored(scope, id).await?;
        if job.state.is_terminal() {
            self.shared.hub.forget(id);
        } else {
            unsettled.settled();
        }
        Ok((job, watched))
    }

    /// Figures of the queue, with the asker's own.
    pub async fn status(&self, scope: Scope<'_>) -> Result<QueueStatus, JobError> {
        let all = self.shared.store.counts(None).await?;
        let own = self.shared.store.counts(scope.owner()).await?;
        let places = self.shared.places().await?;
        let mine = places.of.values().filter(|place| scope.covers(&place.owner));
        let left = places.cost as f64 + self.shared.hub.running_cost();
        Ok(QueueStatus {
            all,
            own,
            own_position: mine.map(|place| place.position).min(),
            eta_seconds: self.shared.pace.estimate(left),
        })
    }

    /// A picture, if the asker may see it.
    pub async fn image(&self, scope: Scope<'_>, id: ImageId) -> Result<OwnedImage, JobError> {
        let image = self.shared.store.image(id).await?.filter(|found| scope.covers(&found.owner));
        image.ok_or_else(|| JobError::no_image(id))
    }

    /// Pictures that the asker may see, newest first.
    pub async fn images(
        &self,
        scope: Scope<'_>,
        page: Page<ImageId>,
    ) -> Result<ImagePage, JobError> {
        let wanted = Page { limit: page.capped(), ..page };
        Ok(self.shared.store.images(scope.owner(), wanted).await?)
    }

    /// Forgets a picture. The caller deletes the blob that `key` names after that; a crash in between leaves
    /// it to the sweep at the next start.
    pub async fn delete_image(
        &self,
        scope: Scope<'_>,
        id: ImageId,
    ) -> Result<ImageRecord, JobError> {
        let found = self.image(scope, id).await?;
        self.shared.store.delete_image(id).await?;
        Ok(found.image)
    }
}

/// The end, unless `patience` is over first.
async fn or_over(
    end: impl Future<Output = Option<Job>>,
    patience: impl Future<Output = ()>,
) -> Option<Job> {
    tokio::select! {
        ended = end => ended,
        () = patience => None,
    }
}
