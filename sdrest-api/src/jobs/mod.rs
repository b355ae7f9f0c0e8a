//! Accepted generation requests: what a job is, the durable queue, fairness between owners, quotas and
//! events. What was accepted is never lost; it must never import axum, a route or
//! tarpc, and never answers for a job that is not the asker's.

pub mod clock;
pub mod error;
pub mod events;
pub mod fairness;
pub mod job;
pub mod position;
pub mod queue;
pub mod shared;
pub mod state;
pub mod store;
pub mod streams;
#[cfg(test)]
mod tests;
mod watcher;
pub mod work;

pub use error::JobError;
pub use events::{EventStream, JobNotice, NoticeKind};
pub use job::{
    IdempotencyKey, ImagePage, ImageRecord, Job, JobKind, JobPage, NewJob, OwnedImage, Page,
    Progress, Scope, SubmitPermit,
};
pub use queue::{Queue, QueueStatus, Waited};
pub use shared::QueueLimits;
pub use state::JobState;
pub use work::WorkQueue;
