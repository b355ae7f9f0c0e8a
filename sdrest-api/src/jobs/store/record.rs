//! What goes into the store and comes out of it, besides jobs themselves.

use crate::jobs::job::Job;
use crate::jobs::state::JobState;
use sdrest_proto::{id::JobId, identity::Subject};
use thiserror::Error;

/// Why the store could not answer. Private: it names files and statements, and goes to the log only.
#[derive(Debug, Error)]
pub enum StoreError {
    #[error("job store: {0}")]
    Database(#[from] sqlx::Error),
    #[error("job store: the schema could not be brought up to date: {0}")]
    Migration(#[from] sqlx::migrate::MigrateError),
    /// The change did not run to its end in this process; what it wrote is whole or not there.
    #[error("job store: a change was interrupted: {0}")]
    Interrupted(String),
    /// A row that this build cannot read.
    #[error("job store: {what} holds something unreadable: {cause}")]
    Corrupt { what: &'static str, cause: String },
}

impl StoreError {
    /// A row that cannot be read, with the reason.
    pub(crate) fn corrupt(what: &'static str, cause: impl ToString) -> Self {
        Self::Corrupt { what, cause: cause.to_string() }
    }
}

/// How many jobs may wait.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub queued: u32,
    pub queued_per_owner: u32,
}

/// An accepted job.
#[derive(Clone, Debug)]
pub enum Inserted {
    Fresh(Job),
    /// The one that the same key made before.
    Replayed(Job),
}

/// Why a job was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    QueueFull { queued: u32 },
    QuotaExceeded { queued: u32 },
    KeyReused,
}

/// What a dispatcher asks for.
#[derive(Clone, Debug)]
pub struct ClaimRequest {
    /// Models that this worker lacks and another one has.
    pub excluded_models: Vec<String>,
    /// The profile that the bytes will belong to.
    pub profile: String,
    /// Whether the worker has other jobs now.
    pub company: Company,
}

/// Whether a claimed job would run beside others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Company {
    Alone,
    Beside,
}

/// What a dispatcher gets.
#[derive(Clone, Debug)]
pub enum Claim {
    /// Take this one; `share` is the number that its owner goes by at the worker.
    Job { job: Box<Job>, share: u64 },
    /// Next is a job that was in a slot when a worker died: it runs alone, so wait until the worker is idle.
    Hold,
    /// The next job could not be read and has failed; there may be another.
    Unreadable(Option<JobId>),
    /// Nothing waits.
    Nothing,
}

/// Whether a result counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recorded {
    Yes,
    /// The job is no longer running under this attempt; nothing was changed.
    Stale,
}

/// Whether pictures counted.
#[derive(Clone, Debug)]
pub enum Finished {
    /// The job as it is recorded now; nothing where the row can be written and not read.
    Yes(Option<Box<Job>>),
    /// The job is no longer running under this attempt; nothing was changed.
    Stale,
}

/// Who is to blame for the loss of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The worker died while this job was in a slot, with so many steps done; or it broke its word over it.
    Suspect { step: u32 },
    /// The worker died before it said where it was, and this job may have been the cause: such a death counts among
    /// all deaths of the job, and not among those at one step.
    Possible,
    /// The job was still waiting in the worker, or the worker refused it for the moment.
    Innocent,
}

/// What became of a job whose worker went away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requeued {
    Waiting,
    /// It took too many workers with it and has failed.
    Quarantined,
    /// It was not running under this attempt; nothing was changed.
    Stale,
}

/// Which jobs a list shows, newest first.
#[derive(Clone, Debug)]
pub struct JobFilter {
    pub owner: Option<Subject>,
    pub state: Option<JobState>,
    pub before: Option<JobId>,
    pub limit: u32,
}

/// How many jobs have not ended. Those that have are not counted: there may be any number of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub queued: u64,
    pub running: u64,
}

/// A job is given up when this many workers died at the same step of it, and none at another one in between: what kills
/// by its own doing does so at one place, and what is killed from outside does not.
pub const MAX_DEATHS_AT_A_STEP: u32 = 3;
/// A job is given up after this many deaths, wherever they came: far more than an administrator's restarts or a
/// machine short of memory cause during one job, so that bad luck alone loses nothing.
pub const MAX_WORKER_DEATHS: u32 = 30;
