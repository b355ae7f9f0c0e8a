//! A worker's verbs. A worker knows jobs, never users: an owner's name does not reach it.

use crate::{
    bounds::ModelName,
    error::Fault,
    event::WorkerEvent,
    generation::GenerationRequest,
    health::Health,
    id::{Attempt, JobId, RequestId},
    model::ModelInfo,
};
use serde::{Deserialize, Serialize};

#[tarpc::service]
pub trait Worker {
    /// What decides the bytes of its pictures, and what it can take.
    async fn describe() -> WorkerDescription;
    async fn list_models() -> Vec<ModelInfo>;
    /// Looks at the models folder again.
    async fn refresh_models() -> Vec<ModelInfo>;
    /// Brings a model into memory, or says which file or tensor is in the way.
    async fn load(model: ModelName) -> Result<ModelInfo, Fault>;
    async fn unload(model: ModelName) -> Result<(), Fault>;
    /// Takes a job. Submitting the same attempt again is no error and starts nothing new; a newer attempt
    /// interrupts the older one; an older one is refused with CONFLICT.
    async fn submit(job: SubmitJob) -> Result<(), Fault>;
    /// Events after `after`, at once if there are any, else at the latest after `wait_ms`. What was read
    /// and acknowledged by a later `after` is forgotten. At most one image an answer.
    async fn next_events(after: u64, wait_ms: u32) -> EventPage;
    /// Stops a job within one step. Answers whether it was there.
    async fn interrupt(job: JobId) -> bool;
    async fn health() -> Health;
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SubmitJob {
    pub job: JobId,
    pub attempt: Attempt,
    /// Whom fairness charges: an opaque number that the front end made for the owner.
    pub share: u64,
    pub request_id: RequestId,
    pub request: GenerationRequest,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EventPage {
    /// Changes with every start of the worker: cursors of another incarnation mean nothing.
    pub incarnation: u64,
    pub events: Vec<WorkerEvent>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerDescription {
    pub incarnation: u64,
    pub profile: WorkerProfile,
    /// Jobs in slots and waiting for one, at most.
    pub capacity: u32,
    /// ATen's CPU capability inside the closed sandbox; equal to the profile's, which was read before.
    pub cpu_capability_inside: String,
}

/// The same request gives the same bytes within one profile.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct WorkerProfile {
    /// `cpu` or `cuda:N`.
    pub device: String,
    /// `float32`, `bfloat16` or `float16`.
    pub dtype: String,
    /// `AVX512`, `AVX2`, `DEFAULT`, …
    pub cpu_capability: String,
    pub threads: u32,
    /// Which kernels the UNet runs on: `aten` or `onednn-prepacked`.
    pub kernel_path: String,
    pub torch_version: String,
}

impl WorkerProfile {
    /// One line, as the job stores it.
    pub fn line(&self) -> String {
        format!(
            "{} {} {} threads={} {} torch={}",
            self.device,
            self.dtype,
            self.cpu_capability,
            self.threads,
            self.kernel_path,
            self.torch_version
        )
    }
}
