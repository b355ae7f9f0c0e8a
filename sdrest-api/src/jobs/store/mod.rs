//! Where jobs are kept: one trait, and SQLite behind it. Whatever implements it passes the conformance suite
//! in `conformance`. Every write but a claim is durable before it returns, and a write that carries an old attempt
//! number changes nothing. Writes must be run to their end: `shared::detached` sees to that.

#[cfg(test)]
pub(crate) mod conformance;
mod record;
mod request;
mod rows;
pub mod sqlite;

pub use record::{
    Blame, Claim, ClaimRequest, Company, Counts, Finished, Inserted, JobFilter, Limits,
    MAX_DEATHS_AT_A_STEP, MAX_WORKER_DEATHS, Recorded, Refusal, Requeued, StoreError,
};

use crate::jobs::{
    fairness::Waiting,
    job::{IdempotencyKey, ImagePage, ImageRecord, Job, JobPage, NewJob, OwnedImage, Page},
    state::JobState,
};
use futures::future::BoxFuture;
use sdrest_proto::{
    error::Fault,
    id::{Attempt, ImageId, JobId},
    identity::Subject,
};

/// What a call on the store gives.
pub type Answer<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

/// The store of jobs and of what is known about their pictures. Jobs that it gives have an empty `progress`
/// and no position: those live in memory.
pub trait JobStore: Send + Sync + 'static {
    /// Accepts a job, or gives back the one that came with the same key before, or refuses it.
    fn insert(&self, new: NewJob, limits: Limits) -> Answer<'_, Result<Inserted, Refusal>>;

    /// Puts every running job back into the queue: what ran when this process went away. Returns how many.
    fn recover(&self) -> Answer<'_, u64>;

    /// Takes the fairest waiting job for a worker, under a new attempt number. It outlives this process; a loss
    /// of power may undo it, and then the job waits as before.
    fn claim(&self, request: ClaimRequest) -> Answer<'_, Claim>;

    /// Records a result with its pictures, in one transaction, if this attempt is still the running one.
    fn finish(
        &self,
        job: JobId,
        attempt: Attempt,
        images: Vec<ImageRecord>,
    ) -> Answer<'_, Finished>;

    /// Records that the job ended without pictures, if this attempt is still the running one.
    fn fail(&self, job: JobId, attempt: Attempt, fault: Fault) -> Answer<'_, Recorded>;

    /// Lets the job wait again after its worker went away, or gives it up after too many deaths.
    fn requeue(&self, job: JobId, attempt: Attempt, blame: Blame) -> Answer<'_, Requeued>;

    /// Ends a job that has not ended. Gives the state that it left, or the terminal one that it is in.
    fn cancel(&self, job: JobId) -> Answer<'_, Option<JobState>>;

    /// The job that this owner's key made from the same body, while the key is remembered.
    fn replay(&self, owner: Subject, key: IdempotencyKey) -> Answer<'_, Option<Job>>;

    fn job(&self, job: JobId) -> Answer<'_, Option<Job>>;
    /// A row that cannot be read is left out, and the list goes on behind it.
    fn jobs(&self, filter: JobFilter) -> Answer<'_, JobPage>;
    /// How many jobs of everybody, or of one owner, wait and run.
    fn counts(&self, owner: Option<Subject>) -> Answer<'_, Counts>;
    fn waiting(&self) -> Answer<'_, Vec<Waiting>>;

    fn image(&self, image: ImageId) -> Answer<'_, Option<OwnedImage>>;
    /// As with jobs, a row that cannot be read is left out.
    fn images(&self, owner: Option<Subject>, page: Page<ImageId>) -> Answer<'_, ImagePage>;
    /// Forgets a picture; its blob is deleted after that.
    fn delete_image(&self, image: ImageId) -> Answer<'_, bool>;
    /// Whether a row names this blob.
    fn has_blob(&self, key: String) -> Answer<'_, bool>;
}
