//! What happens to a job in a worker. The front end reads events by cursor; a worker keeps them until they
//! are read (or their job is superseded), so a front end that reconnects misses no result.

use crate::{
    bounds::Seed,
    error::Fault,
    id::{Attempt, JobId},
    image::Rgb8Image,
};
use serde::{Deserialize, Serialize};

/// One event with its place in the worker's order. `sequence` grows, also from one worker process to the next.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkerEvent {
    pub sequence: u64,
    pub job: JobId,
    pub attempt: Attempt,
    pub event: JobEvent,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum JobEvent {
    /// The job has a slot; now its model is loaded and its prompt encoded.
    Started,
    /// `step` of `steps` UNet steps are done. Newer ones replace older ones that nobody has read.
    Step { step: u32, steps: u32 },
    /// One finished picture, `index` of the request's `num_images`.
    Image { index: u32, seed: Seed, image: Rgb8Image },
    /// All pictures were sent. `engine_micros` is the time from admission to here.
    Done { engine_micros: u64 },
    /// It ended without pictures, and trying again as it stands would not help (`GENERATION_FAILED`,
    /// `OUT_OF_MEMORY`, `MODEL_…`).
    Failed(Fault),
    /// It was interrupted, or a newer attempt took its place.
    Interrupted,
}

impl JobEvent {
    /// Whether nothing can follow for this attempt.
    pub fn is_last(&self) -> bool {
        matches!(self, Self::Done { .. } | Self::Failed(_) | Self::Interrupted)
    }
}
