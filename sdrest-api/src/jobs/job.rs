//! What a job is, to whoever may see it, and what a new one is made of.

use crate::jobs::{clock::UnixMillis, state::JobState};
use sdrest_proto::{
    error::Fault,
    generation::GenerationRequest,
    id::{Attempt, ImageId, JobId, RequestId},
    identity::Subject,
};

/// Proof that whoever submits was signed in and may generate. Only `auth` makes values of types that
/// implement it, so a route that forgets to ask has nothing to submit with.
pub trait SubmitPermit: Send {}

/// Which of the native routes a job came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobKind {
    TextToImage,
}

impl JobKind {
    pub const ALL: [Self; 1] = [Self::TextToImage];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::TextToImage => "txt2img",
        }
    }
}

/// A client's own name for a request (`Idempotency-Key`), unique per owner for 24 h.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKey {
    pub key: String,
    /// SHA-256 of the body that came with it: the same key with another body is refused.
    pub body_sha256: [u8; 32],
}

/// A request that was checked and is to be accepted.
#[derive(Clone, Debug)]
pub struct NewJob {
    /// Chosen before it is accepted, so that it can be watched from its first moment.
    pub id: JobId,
    pub owner: Subject,
    /// What the owner is called, for lists that operators see.
    pub owner_name: String,
    pub kind: JobKind,
    /// Its seed is already chosen: a retry draws the same picture.
    pub request: GenerationRequest,
    pub request_id: RequestId,
    pub idempotency_key: Option<IdempotencyKey>,
}

/// One accepted request with all that is known of it.
#[derive(Clone, Debug)]
pub struct Job {
    pub id: JobId,
    pub owner: Subject,
    pub owner_name: String,
    pub kind: JobKind,
    pub state: JobState,
    pub request: GenerationRequest,
    pub request_id: RequestId,
    /// How often it was handed to a worker; 0 before the first time.
    pub attempt: Attempt,
    /// How often a worker died while this job was in a slot.
    pub worker_deaths: u32,
    /// The worker profile that its bytes belong to, once it has been handed to a worker.
    pub profile: Option<String>,
    pub created: UnixMillis,
    pub started: Option<UnixMillis>,
    pub ended: Option<UnixMillis>,
    /// Why it failed.
    pub fault: Option<Fault>,
    /// Its pictures, in order; empty unless it is done.
    pub images: Vec<ImageRecord>,
    /// What is known in memory while it runs.
    pub progress: Progress,
    /// 1 for the next to be started; `None` unless it is queued.
    pub position: Option<u32>,
    /// Seconds until it ends, measured from earlier jobs; `None` where nothing was measured yet.
    pub eta_seconds: Option<f64>,
}

/// How far a running job is. Lossy: it lives in memory only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// UNet steps done, of `steps`.
    pub step: u32,
    pub steps: u32,
    /// Pictures finished, of `images`.
    pub image: u32,
    pub images: u32,
}

impl Progress {
    /// The part of the steps that is done, 0 to 1.
    pub fn fraction(&self) -> f64 {
        (f64::from(self.step) / f64::from(self.steps.max(1))).min(1.0)
    }
}

/// One stored picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageRecord {
    pub id: ImageId,
    pub job: JobId,
    pub attempt: Attempt,
    /// Place within the job, from 0.
    pub index: u32,
    /// The seed that draws this picture alone.
    pub seed: u64,
    pub width: u32,
    pub height: u32,
    /// Of the file, in lower-case hex.
    pub sha256: String,
    /// Where the blob store keeps it; never shown to a client.
    pub key: String,
    /// Length of the file.
    pub bytes: u64,
    pub created: UnixMillis,
}

/// A picture with whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedImage {
    pub owner: Subject,
    pub image: ImageRecord,
}

/// Whose jobs the asker may see or touch.
#[derive(Clone, Copy, Debug)]
pub enum Scope<'a> {
    Owner(&'a Subject),
    /// Everybody's: for roles with `queue_view_all` or `queue_cancel_any`.
    Any,
}

impl Scope<'_> {
    /// Whether something of `owner` is visible here.
    pub fn covers(self, owner: &Subject) -> bool {
        match self {
            Scope::Owner(subject) => subject == owner,
            Scope::Any => true,
        }
    }

    /// The one owner that a query is narrowed to.
    pub fn owner(self) -> Option<Subject> {
        match self {
            Scope::Owner(subject) => Some(subject.clone()),
            Scope::Any => None,
        }
    }
}

/// Which part of a list is wanted, newest first.
#[derive(Clone, Copy, Debug)]
pub struct Page<Cursor> {
    /// Only what is older than this one.
    pub before: Option<Cursor>,
    /// At most this many; the queue caps it at [`Page::MAX_LIMIT`].
    pub limit: u32,
    /// Only jobs in this state (lists of pictures ignore it).
    pub state: Option<JobState>,
}

impl<Cursor> Page<Cursor> {
    pub const MAX_LIMIT: u32 = 200;

    /// The first `limit` of all.
    pub fn first(limit: u32) -> Self {
        Self { before: None, limit, state: None }
    }

    /// The limit within its bounds.
    pub fn capped(&self) -> u32 {
        self.limit.clamp(1, Self::MAX_LIMIT)
    }
}

/// Jobs, newest first, and where to go on.
#[derive(Clone, Debug)]
pub struct JobPage {
    pub jobs: Vec<Job>,
    pub next: Option<JobId>,
}

/// Pictures, newest first, and where to go on.
#[derive(Clone, Debug)]
pub struct ImagePage {
    pub images: Vec<OwnedImage>,
    pub next: Option<ImageId>,
}
