//! What can go wrong with a job, each with the fault that its caller may see.

use crate::jobs::{
    state::JobState,
    store::StoreError,
    streams::{MAX_STREAMS, MAX_STREAMS_OF_GUESTS},
};
use sdrest_proto::{
    error::{ErrorCode, Fault},
    id::{ImageId, JobId},
};
use thiserror::Error;

/// Seconds after which a refused watcher may try again.
const STREAM_RETRY: u32 = 10;

/// A refusal or failure of the queue.
#[derive(Debug, Error)]
pub enum JobError {
    /// No such job or picture, or it is somebody else's: the two look alike.
    #[error("no such {what}: {id}")]
    NotFound { what: &'static str, id: String },
    #[error("the queue is full: {queued} jobs wait, at most {limit} may")]
    QueueFull { queued: u32, limit: u32, retry_after: u32 },
    #[error("you have {queued} jobs waiting, at most {limit} may wait for one user")]
    QuotaExceeded { queued: u32, limit: u32, retry_after: u32 },
    #[error(
        "too many streams are open: at most {MAX_STREAMS} may be for one user, and {MAX_STREAMS_OF_GUESTS} for all \
         without an account"
    )]
    TooManyStreams,
    #[error("job {job} has ended already: {state}")]
    AlreadyEnded { job: JobId, state: JobState },
    #[error("this Idempotency-Key came before with another body")]
    IdempotencyConflict,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl JobError {
    /// What the caller is told. The cause of a store's failure is not part of it: log `self` for that.
    pub fn fault(&self) -> Fault {
        match self {
            Self::NotFound { .. } => Fault::new(ErrorCode::NotFound, self.to_string()),
            Self::QueueFull { retry_after, .. } => {
                Fault::new(ErrorCode::QueueFull, self.to_string()).retry_after(*retry_after)
            }
            Self::QuotaExceeded { retry_after, .. } => {
                Fault::new(ErrorCode::QuotaExceeded, self.to_string()).retry_after(*retry_after)
            }
            Self::TooManyStreams => {
                Fault::new(ErrorCode::QuotaExceeded, self.to_string()).retry_after(STREAM_RETRY)
            }
            Self::AlreadyEnded { .. } | Self::IdempotencyConflict => {
                Fault::new(ErrorCode::Conflict, self.to_string())
            }
            Self::Store(_) => {
                Fault::new(ErrorCode::Internal, "the job store failed; the server's log says why")
            }
        }
    }

    /// The answer for a job that is not there, or not the asker's.
    pub fn no_job(id: JobId) -> Self {
        Self::NotFound { what: "job", id: id.to_string() }
    }

    /// The answer for a picture that is not there, or not the asker's.
    pub fn no_image(id: ImageId) -> Self {
        Self::NotFound { what: "image", id: id.to_string() }
    }
}
