//! What can be wrong with a model, from a folder that is not there to an operator that fails. Messages name
//! the file within the model's folder, the configuration key or the tensor; a host path or libtorch's own
//! text (which may hold source paths of its build) never reaches them.

use sdrest_proto::error::{ErrorCode, Fault};
use tch::TchError;
use thiserror::Error;

/// Why a model cannot be loaded or run. `file` is always relative to the model's folder.
#[derive(Debug, Error)]
pub enum ModelError {
    #[error("there is no model named `{name}`")]
    NotFound { name: String },
    #[error("{file}: `{key}` = {value} is not supported; supported: {supported}")]
    Unsupported { file: String, key: String, value: String, supported: String },
    #[error("{file}: {reason}")]
    Refused { file: String, reason: String },
    #[error("{file} is missing")]
    MissingFile { file: String },
    #[error("{file}: {reason}")]
    Corrupt { file: String, reason: String },
    #[error("{file}: tensor `{tensor}` is missing")]
    MissingTensor { file: String, tensor: String },
    #[error("{file}: tensor `{tensor}` {reason}")]
    BadTensor { file: String, tensor: String, reason: String },
    #[error("not enough memory")]
    OutOfMemory,
    /// Only for the log: libtorch's first line.
    #[error("an operator failed")]
    Torch { cause: String },
}

impl ModelError {
    /// The code that clients see.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::NotFound { .. } => ErrorCode::ModelNotFound,
            Self::Unsupported { .. } | Self::Refused { .. } => ErrorCode::ModelUnsupported,
            Self::MissingFile { .. }
            | Self::Corrupt { .. }
            | Self::MissingTensor { .. }
            | Self::BadTensor { .. } => ErrorCode::ModelCorrupt,
            Self::OutOfMemory => ErrorCode::OutOfMemory,
            Self::Torch { .. } => ErrorCode::GenerationFailed,
        }
    }

    /// What goes to the log beside the public message.
    pub fn private_cause(&self) -> Option<&str> {
        match self {
            Self::Torch { cause } => Some(cause),
            _ => None,
        }
    }
}

impl From<TchError> for ModelError {
    fn from(error: TchError) -> Self {
        let text = error.to_string();
        let first = text.lines().next().unwrap_or_default();
        let starved = [
            "not enough memory",
            "can't allocate memory",
            "out of memory",
            "Cannot allocate memory",
        ];
        if starved.iter().any(|words| text.contains(words)) {
            return Self::OutOfMemory;
        }
        Self::Torch { cause: first.to_owned() }
    }
}

impl From<&ModelError> for Fault {
    fn from(error: &ModelError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

impl From<ModelError> for Fault {
    fn from(error: ModelError) -> Self {
        Self::from(&error)
    }
}
