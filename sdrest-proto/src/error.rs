//! One list of error codes for all processes, and the pair of code and public message that crosses a
//! socket. The private cause of an error stays in the process that met it and goes to its log.

use serde::{Deserialize, Serialize};
use std::fmt;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident => $text:literal,)*) => {
        /// What went wrong, by the names that clients see.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum ErrorCode { $($(#[$doc])* $name,)* }

        impl ErrorCode {
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

codes! {
    MissingPassword => "MISSING_PASSWORD",
    ValidationFailed => "VALIDATION_FAILED",
    BadRequest => "BAD_REQUEST",
    AuthRequired => "AUTH_REQUIRED",
    AuthenticationFailed => "AUTHENTICATION_FAILED",
    TokenExpired => "TOKEN_EXPIRED",
    TokenInvalid => "TOKEN_INVALID",
    TokenRevoked => "TOKEN_REVOKED",
    AccountExpired => "ACCOUNT_EXPIRED",
    CredentialExpired => "CREDENTIAL_EXPIRED",
    AccountDenied => "ACCOUNT_DENIED",
    Forbidden => "FORBIDDEN",
    /// Another site asked a browser to do something (403), or a Host that is not this server's (421).
    CrossSite => "CROSS_SITE",
    MisdirectedRequest => "MISDIRECTED_REQUEST",
    ConversationRequired => "CONVERSATION_REQUIRED",
    ConversationOutOfStep => "CONVERSATION_OUT_OF_STEP",
    ConversationGone => "CONVERSATION_GONE",
    AuthTimeout => "AUTH_TIMEOUT",
    TooManyAttempts => "TOO_MANY_ATTEMPTS",
    QueueFull => "QUEUE_FULL",
    QuotaExceeded => "QUOTA_EXCEEDED",
    PamAuthUnavailable => "PAM_AUTH_UNAVAILABLE",
    NotFound => "NOT_FOUND",
    MethodNotAllowed => "METHOD_NOT_ALLOWED",
    UnsupportedMediaType => "UNSUPPORTED_MEDIA_TYPE",
    /// The job has ended already, or the same Idempotency-Key came with another body.
    Conflict => "CONFLICT",
    ModelNotFound => "MODEL_NOT_FOUND",
    ModelUnsupported => "MODEL_UNSUPPORTED",
    ModelCorrupt => "MODEL_CORRUPT",
    WorkerUnavailable => "WORKER_UNAVAILABLE",
    OutOfMemory => "OUT_OF_MEMORY",
    GenerationFailed => "GENERATION_FAILED",
    PayloadTooLarge => "PAYLOAD_TOO_LARGE",
    ImageInvalid => "IMAGE_INVALID",
    /// The server's own fault (500): the cause is in the log under the request id.
    Internal => "INTERNAL",
}

/// A code and a message that may be shown to the caller: no path, no secret, no other user's data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    pub code: ErrorCode,
    pub message: String,
    /// Seconds to wait before trying again, where that helps (429, 503).
    pub retry_after: Option<u32>,
}

impl Fault {
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), retry_after: None }
    }

    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.as_str(), self.message)
    }
}

impl std::error::Error for Fault {}

impl From<crate::bounds::BoundsError> for Fault {
    fn from(error: crate::bounds::BoundsError) -> Self {
        Self::new(ErrorCode::ValidationFailed, error.to_string())
    }
}
