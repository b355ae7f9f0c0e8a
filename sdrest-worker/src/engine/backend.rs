//! What the engine thread asks of whatever draws: libtorch in earnest, plain drawings in tests of other rooms.
//! Everything behind this trait lives on the one engine thread; nothing of it crosses to the server. After
//! diffusers' pipelines, taken apart into single ticks.

use sdrest_proto::{
    bounds::{ModelName, Seed},
    error::{ErrorCode, Fault},
    generation::GenerationRequest,
    image::Rgb8Image,
    model::ModelInfo,
};
use thiserror::Error;

/// What went wrong, and for whom.
#[derive(Debug, Error)]
pub enum EngineError {
    /// This job or this verb only. `cause` is for the log.
    #[error("{fault} ({cause})")]
    Job { fault: Fault, cause: String },
    /// The device is not to be trusted any more: the process must end and be started again.
    #[error("the device failed: {0}")]
    Device(String),
}

impl EngineError {
    /// An error whose public message is also its cause.
    pub fn job(code: ErrorCode, message: impl Into<String>) -> Self {
        let message = message.into();
        Self::Job { cause: message.clone(), fault: Fault::new(code, message) }
    }
}

/// What one tick of a slot did.
#[derive(Debug, PartialEq)]
pub enum Progress {
    /// `step` of `steps` UNet steps are done.
    Step { step: u32, steps: u32 },
    /// Picture `index` is ready.
    Image { index: u32, seed: Seed, image: Rgb8Image },
    /// There is nothing left to do.
    Finished,
}

/// A drawer of pictures and the models that it holds.
pub trait Engine {
    /// One admitted request: its latents, its noise, its place in the schedule.
    type Slot;

    /// All models, as they were found at the last look.
    fn models(&mut self) -> Vec<ModelInfo>;
    /// Whether a job that needs this model could be admitted now: it is in memory, or one that nobody uses can
    /// make place for it.
    fn has_room(&self, name: &ModelName) -> bool;
    /// Looks at the models folders again.
    fn refresh(&mut self) -> Result<(), EngineError>;
    /// Brings a model into memory.
    fn load(&mut self, name: &ModelName) -> Result<(), EngineError>;
    /// Lets a model go. Slots that use it keep it until they end.
    fn unload(&mut self, name: &ModelName) -> Result<(), EngineError>;
    /// Loads what the request needs, encodes its prompts and draws all of its noise.
    fn admit(&mut self, request: &GenerationRequest) -> Result<Self::Slot, EngineError>;
    /// Does one UNet step, or decodes one picture, or says that all is done.
    fn tick(&mut self, slot: &mut Self::Slot) -> Result<Progress, EngineError>;
}
