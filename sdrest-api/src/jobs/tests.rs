//! The queue over a store that fails after it has accepted.

mod hub;

use super::{
    IdempotencyKey, Job, JobState, NewJob, OwnedImage, Page, Queue, QueueLimits, SubmitPermit,
    fairness::Waiting,
    job::{ImagePage, ImageRecord, JobPage},
    store::{
        Answer, Blame, Claim, ClaimRequest, Company, Counts, Finished, Inserted, JobFilter,
        JobStore, Limits, Recorded, Refusal, Requeued, StoreError,
        conformance::{new_job, picture},
        sqlite::SqliteStore,
    },
};
use futures::FutureExt;
use sdrest_proto::{
    error::Fault,
    id::{Attempt, ImageId, JobId},
    identity::Subject,
};
use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

struct Allowed;
impl SubmitPermit for Allowed {}

/// Accepts, and cannot be read, but for so many looks at a job.
struct WriteOnly(SqliteStore, AtomicU32);

fn unreadable<T: Send>() -> Answer<'static, T> {
    async { Err(StoreError::corrupt("the disk", "nothing comes back from it")) }.boxed()
}

impl JobStore for WriteOnly {
    fn insert(&self, new: NewJob, limits: Limits) -> Answer<'_, Result<Inserted, Refusal>> {
        self.0.insert(new, limits)
    }
    fn recover(&self) -> Answer<'_, u64> {
        self.0.recover()
    }
    fn claim(&self, request: ClaimRequest) -> Answer<'_, Claim> {
        self.0.claim(request)
    }
    fn finish(
        &self,
        job: JobId,
        attempt: Attempt,
        images: Vec<ImageRecord>,
    ) -> Answer<'_, Finished> {
        self.0.finish(job, attempt, images)
    }
    fn fail(&self, job: JobId, attempt: Attempt, fault: Fault) -> Answer<'_, Recorded> {
        self.0.fail(job, attempt, fault)
    }
    fn requeue(&self, job: JobId, attempt: Attempt, blame: Blame) -> Answer<'_, Requeued> {
        self.0.requeue(job, attempt, blame)
    }
    fn cancel(&self, job: JobId) -> Answer<'_, Option<JobState>> {
        self.0.cancel(job)
    }
    fn job(&self, job: JobId) -> Answer<'_, Option<Job>> {
        let left =
            self.1.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if left.is_ok() { self.0.job(job) } else { unreadable() }
    }
    fn replay(&self, _: Subject, _: IdempotencyKey) -> Answer<'_, Option<Job>> {
        unreadable()
    }
    fn jobs(&self, _: JobFilter) -> Answer<'_, JobPage> {
        unreadable()
    }
    fn counts(&self, _: Option<Subject>) -> Answer<'_, Counts> {
        unreadable()
    }
    fn waiting(&self) -> Answer<'_, Vec<Waiting>> {
        unreadable()
    }
    fn image(&self, _: ImageId) -> Answer<'_, Option<OwnedImage>> {
        unreadable()
    }
    fn images(&self, _: Option<Subject>, _: Page<ImageId>) -> Answer<'_, ImagePage> {
        unreadable()
    }
    fn delete_image(&self, image: ImageId) -> Answer<'_, bool> {
        self.0.delete_image(image)
    }
    fn has_blob(&self, key: String) -> Answer<'_, bool> {
        self.0.has_blob(key)
    }
}

#[tokio::test]
async fn what_was_accepted_is_never_answered_as_a_failure() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&folder.path().join("jobs.db")).await.unwrap();
    let queue = Queue::over(Arc::new(WriteOnly(store, AtomicU32::new(0))), QueueLimits::default())
        .await
        .unwrap();
    let plain = queue.submit(Allowed, new_job(1, 5)).await.unwrap();
    let over_at_once = async {};
    let waited = queue.submit_and_wait(Allowed, new_job(1, 5), over_at_once).await.unwrap().job;
    assert_ne!(plain.id, waited.id);
    for job in [plain, waited] {
        assert_eq!((job.state, job.position), (JobState::Queued, None));
    }
    drop(queue);
    let queue = Queue::open(&folder.path().join("jobs.db"), QueueLimits::default()).await.unwrap();
    assert_eq!(queue.status(super::Scope::Any).await.unwrap().all.queued, 2);
}

#[tokio::test]
async fn whoever_waits_gets_the_end_as_it_was_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&folder.path().join("jobs.db")).await.unwrap();
    // Nothing is read for it.
    let queue = Queue::over(Arc::new(WriteOnly(store, AtomicU32::new(0))), QueueLimits::default())
        .await
        .unwrap();
    let waiting = queue.submit_and_wait(Allowed, new_job(1, 5), std::future::pending());
    let drawing = async {
        let work = queue.work();
        let mut arrivals = work.arrivals();
        arrivals.wait_for(|count| *count > 0).await.unwrap();
        let request = ClaimRequest {
            excluded_models: Vec::new(),
            profile: "cpu".to_owned(),
            company: Company::Alone,
        };
        let Claim::Job { job, .. } = work.claim(request).await.unwrap() else { panic!("no job") };
        let recorded = work.finish(job.id, job.attempt, vec![picture(&job)]).await.unwrap();
        assert_eq!(recorded, Recorded::Yes);
        job.id
    };
    let both = async { tokio::join!(waiting, drawing) };
    let (waited, drawn) =
        tokio::time::timeout(std::time::Duration::from_secs(60), both).await.unwrap();
    let waited = waited.unwrap().job;
    assert_eq!((waited.id, waited.state, waited.images.len()), (drawn, JobState::Done, 1));
    assert_eq!(waited.progress.step, 5);
}

#[tokio::test]
async fn a_job_that_has_ended_already_is_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let queue = Queue::open(&folder.path().join("jobs.db"), QueueLimits::default()).await.unwrap();
    let key = IdempotencyKey { key: "k".to_owned(), body_sha256: [1; 32] };
    let new = NewJob { idempotency_key: Some(key), ..new_job(1, 5) };
    let job = queue.submit(Allowed, new.clone()).await.unwrap();
    queue.cancel(super::Scope::Any, job.id).await.unwrap();
    let new = NewJob { id: JobId::random(), ..new };
    let again = queue.submit_and_wait(Allowed, new, std::future::pending());
    // The limit is only there so that a failure ends.
    let again = tokio::time::timeout(std::time::Duration::from_secs(60), again).await.unwrap();
    let again = again.unwrap().job;
    assert_eq!((again.id, again.state), (job.id, JobState::Cancelled));
}
