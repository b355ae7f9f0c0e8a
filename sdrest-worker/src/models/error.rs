//! What can be wrong with a model, from a folder that is not there to an operator that fails. Messages name
//! the file within the model's folder, the configuration key or the tensor; a host path or libtorch's own
//! text (which may hold source paths of its build) never reaches them. What a file says of itself is shortened
//! and spelled out on its way in ([`shorten`], [`said`]), for a message must fit into a frame.

use sdrest_proto::error::{ErrorCode, Fault};
use std::fmt;
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
        if is_starved(&text) {
            return Self::OutOfMemory;
        }
        Self::Torch { cause: text.lines().next().unwrap_or_default().to_owned() }
    }
}

/// Whether libtorch's words tell of memory that was not there. A GPU's libraries answer so from their own
/// allocations, in words that look like those of a broken device.
pub fn is_starved(text: &str) -> bool {
    let starved = [
        "not enough memory",
        "can't allocate memory",
        "out of memory",
        "Cannot allocate memory",
        "CUBLAS_STATUS_ALLOC_FAILED",
        "CUDNN_STATUS_ALLOC_FAILED",
    ];
    starved.iter().any(|words| text.contains(words))
}

impl From<&ModelError> for Fault {
    fn from(error: &ModelError) -> Self {
        Self::new(error.code(), public(error))
    }
}

impl From<ModelError> for Fault {
    fn from(error: ModelError) -> Self {
        Self::from(&error)
    }
}

/// At most 80 characters of a text from a file, for a message.
pub fn shorten(text: &str) -> String {
    cut(text, 80)
}

/// What a library says of a file, which may quote all of it: at most 200 characters.
pub fn said(words: impl fmt::Display) -> String {
    cut(&words.to_string(), 200)
}

/// A message as it may be told: a list of all models with their faults, or an event, must fit into one frame.
/// Every part of it is short already; this holds where somebody forgets that.
pub fn public(error: impl fmt::Display) -> String {
    cut(&error.to_string(), 500)
}

/// At most `most` characters, with those that cannot be printed spelled out. Done twice it changes nothing.
fn cut(text: &str, most: usize) -> String {
    let mut short = String::new();
    let mut left = most;
    for letter in text.chars() {
        let spelled = letter.escape_debug();
        let is_plain = matches!(letter, '"' | '\'' | '\\');
        let length = if is_plain { 1 } else { spelled.len() };
        let Some(rest) = left.checked_sub(length) else {
            short.push('…');
            break;
        };
        left = rest;
        if is_plain {
            short.push(letter);
        } else {
            short.extend(spelled);
        }
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_file_says_is_cut_and_spelled_out() {
        assert_eq!(shorten("a \"b\" \\ c"), "a \"b\" \\ c");
        assert_eq!(shorten("a\nb\u{200b}\u{202e}\0"), "a\\nb\\u{200b}\\u{202e}\\0");
        let long = shorten(&"\u{200b}".repeat(1_000_000));
        assert_eq!(long, format!("{}…", "\\u{200b}".repeat(10)));
        assert_eq!(shorten(&long), long);
        assert_eq!(shorten(&"é".repeat(80)), "é".repeat(80));
        assert_eq!(shorten(&"é".repeat(81)), format!("{}…", "é".repeat(80)));
    }

    #[test]
    fn no_fault_is_long() {
        let endless = "x\u{200b}".repeat(1_000_000);
        let error =
            ModelError::BadTensor { file: endless.clone(), tensor: endless, reason: String::new() };
        let message = Fault::from(&error).message;
        assert!(message.chars().count() <= 501 && message.ends_with('…'), "{}", message.len());
    }
}
