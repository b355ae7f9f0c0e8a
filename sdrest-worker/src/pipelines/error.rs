//! Why a picture could not be made, and what the asker is told of it.

use crate::{
    models::{
        ModelError,
        error::{is_starved, public},
    },
    prompt::PromptError,
    schedulers::SchedulerError,
};
use sdrest_proto::error::{ErrorCode, Fault};
use tch::TchError;
use thiserror::Error;

#[derive(Debug, Error)]
pub enum PipelineError {
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error(transparent)]
    Prompt(#[from] PromptError),
    #[error(transparent)]
    Scheduler(#[from] SchedulerError),
    #[error("`{parameter}` must be a multiple of {multiple} for this model, got {value}")]
    Size { parameter: &'static str, multiple: u32, value: u32 },
    #[error("the picture cannot be made: {0}")]
    Image(String),
    #[error("image {index} of {count} was asked for")]
    NoSuchImage { index: usize, count: usize },
    #[error("all steps are done")]
    Finished,
}

impl From<TchError> for PipelineError {
    fn from(error: TchError) -> Self {
        Self::Model(ModelError::from(error))
    }
}

impl PipelineError {
    /// For the log only: libtorch's words, where the public message has none of them.
    pub fn private_cause(&self) -> Option<String> {
        match self {
            Self::Model(error) | Self::Prompt(PromptError::Model(error)) => {
                error.private_cause().map(str::to_owned)
            }
            Self::Scheduler(SchedulerError::Tensor(error)) => {
                error.to_string().lines().next().map(str::to_owned)
            }
            _ => None,
        }
    }

    fn code(&self) -> ErrorCode {
        match self {
            Self::Model(error) | Self::Prompt(PromptError::Model(error)) => error.code(),
            Self::Prompt(PromptError::ClipSkip { .. }) | Self::Size { .. } => {
                ErrorCode::ValidationFailed
            }
            Self::Scheduler(SchedulerError::Spacing { .. } | SchedulerError::Steps { .. }) => {
                ErrorCode::ValidationFailed
            }
            Self::Scheduler(SchedulerError::Unwalkable { .. }) => ErrorCode::ValidationFailed,
            Self::Scheduler(SchedulerError::Json(_)) => ErrorCode::ModelCorrupt,
            Self::Scheduler(SchedulerError::Unsupported { .. }) => ErrorCode::ModelUnsupported,
            _ => ErrorCode::GenerationFailed,
        }
    }
}

impl From<&PipelineError> for Fault {
    fn from(error: &PipelineError) -> Self {
        match error {
            // An allocation that failed inside a scheduler is no other case than one inside the UNet.
            PipelineError::Scheduler(SchedulerError::Tensor(torch)) => {
                if is_starved(&torch.to_string()) {
                    return Self::from(&ModelError::OutOfMemory);
                }
                Self::new(error.code(), error.to_string())
            }
            other => Self::new(other.code(), public(other)),
        }
    }
}

impl From<PipelineError> for Fault {
    fn from(error: PipelineError) -> Self {
        Self::from(&error)
    }
}
