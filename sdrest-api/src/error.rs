//! The one table from error codes to HTTP, and the one shape of an error:
//! `{"error":{"message","code","timestamp"}}`. An `ApiError` is a public fault and a private cause: the
//! fault is the answer, the cause goes to the log once, at the edge, under the request's id, and must
//! never become part of an answer.

use axum::{
    Json,
    http::{
        HeaderValue, StatusCode,
        header::{CACHE_CONTROL, RETRY_AFTER},
    },
    response::{IntoResponse, Response},
};
use sdrest_proto::{
    bounds::BoundsError,
    error::{ErrorCode, Fault},
};
use serde::Serialize;
use std::{
    fmt,
    time::{SystemTime, UNIX_EPOCH},
};
use utoipa::ToSchema;

/// Seconds that a caller is told to wait where nobody knows better.
const DEFAULT_RETRY_AFTER: u32 = 5;

/// What every handler fails with.
#[derive(Debug)]
pub struct ApiError {
    fault: Fault,
    cause: Option<String>,
}

impl ApiError {
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Fault::new(code, message).into()
    }

    /// The server's own fault: the caller learns that it happened, the log learns why.
    pub fn internal(cause: impl fmt::Display) -> Self {
        Self::new(
            ErrorCode::Internal,
            "the server failed; the log has the cause under this request id",
        )
        .because(cause)
    }

    /// Adds the private cause.
    pub fn because(mut self, cause: impl fmt::Display) -> Self {
        self.cause = Some(cause.to_string());
        self
    }

    pub fn fault(&self) -> &Fault {
        &self.fault
    }

    pub fn code(&self) -> ErrorCode {
        self.fault.code
    }
}

impl From<Fault> for ApiError {
    fn from(fault: Fault) -> Self {
        Self { fault, cause: None }
    }
}

impl From<BoundsError> for ApiError {
    fn from(error: BoundsError) -> Self {
        Self::new(ErrorCode::ValidationFailed, error.to_string())
    }
}

/// The status of each code.
pub fn status(code: ErrorCode) -> StatusCode {
    use ErrorCode as E;
    match code {
        E::MissingPassword | E::BadRequest => StatusCode::BAD_REQUEST,
        E::AuthRequired
        | E::AuthenticationFailed
        | E::TokenExpired
        | E::TokenInvalid
        | E::TokenRevoked
        | E::ConversationRequired => StatusCode::UNAUTHORIZED,
        E::AccountExpired
        | E::CredentialExpired
        | E::AccountDenied
        | E::Forbidden
        | E::CrossSite => StatusCode::FORBIDDEN,
        E::NotFound | E::ModelNotFound => StatusCode::NOT_FOUND,
        E::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        E::ConversationOutOfStep | E::Conflict => StatusCode::CONFLICT,
        E::ConversationGone => StatusCode::GONE,
        E::PayloadTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        E::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        E::MisdirectedRequest => StatusCode::MISDIRECTED_REQUEST,
        E::ValidationFailed | E::ModelUnsupported | E::ModelCorrupt | E::ImageInvalid => {
            StatusCode::UNPROCESSABLE_ENTITY
        }
        E::TooManyAttempts | E::QueueFull | E::QuotaExceeded => StatusCode::TOO_MANY_REQUESTS,
        E::GenerationFailed | E::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        E::PamAuthUnavailable | E::WorkerUnavailable => StatusCode::SERVICE_UNAVAILABLE,
        E::AuthTimeout => StatusCode::GATEWAY_TIMEOUT,
        E::OutOfMemory => StatusCode::INSUFFICIENT_STORAGE,
    }
}

/// The body of every error.
#[derive(Debug, Serialize, ToSchema)]
pub struct ErrorBody {
    pub error: ErrorDetail,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct ErrorDetail {
    /// For a person: names the parameter, its bounds and the value given.
    #[schema(example = "`steps` must be between 1 and 150, got 900")]
    pub message: String,
    /// For a program.
    #[schema(example = "VALIDATION_FAILED")]
    pub code: String,
    /// Unix seconds.
    pub timestamp: u64,
}

/// Travels with an error's response to the edge, which logs the cause and adds what only it knows.
#[derive(Clone, Debug)]
pub struct AtEdge {
    pub code: ErrorCode,
    pub cause: Option<String>,
}

/// The public text of a fault. Older clients look for PAM_NOT_AVAILABLE, so that message carries it.
pub fn public_message(fault: &Fault) -> String {
    const OLDER_NAME: &str = "PAM_NOT_AVAILABLE";
    if fault.code == ErrorCode::PamAuthUnavailable && !fault.message.contains(OLDER_NAME) {
        return format!("{} ({OLDER_NAME})", fault.message);
    }
    fault.message.clone()
}

/// Seconds since 1970.
pub fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let code = self.fault.code;
        let status = status(code);
        let body = ErrorBody {
            error: ErrorDetail {
                message: public_message(&self.fault),
                code: code.as_str().to_owned(),
                timestamp: unix_now(),
            },
        };
        let response = (status, Json(body)).into_response();
        mark(response, &self.fault, self.cause)
    }
}

/// Gives an answer that tells a fault what every such answer has: no caching, when to try again, and the mark
/// by which the edge logs it and adds a challenge.
pub fn mark(mut response: Response, fault: &Fault, cause: Option<String>) -> Response {
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let status = status(fault.code);
    if matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE) {
        let seconds = fault.retry_after.unwrap_or(DEFAULT_RETRY_AFTER).max(1);
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response.extensions_mut().insert(AtEdge { code: fault.code, cause });
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn answer(error: ApiError) -> (Response, serde_json::Value) {
        let mut response = error.into_response();
        let body = std::mem::take(response.body_mut());
        let bytes = axum::body::to_bytes(body, 64 * 1024).await.unwrap();
        (response, serde_json::from_slice(&bytes).unwrap())
    }

    #[tokio::test]
    async fn every_code_has_the_one_shape_and_no_cause() {
        for &code in ErrorCode::ALL {
            let (response, body) =
                answer(ApiError::new(code, "a message").because("/secret/path")).await;
            assert!(
                response.status().is_client_error() || response.status().is_server_error(),
                "{code:?}"
            );
            let error = body["error"].as_object().unwrap();
            assert_eq!(error.keys().collect::<Vec<_>>(), ["code", "message", "timestamp"]);
            assert_eq!(error["code"], code.as_str());
            assert!(error["message"].as_str().unwrap().starts_with("a message"));
            assert!(error["timestamp"].as_u64().unwrap() > 1_700_000_000);
            assert!(!body.to_string().contains("secret"), "{code:?} shows its cause");
            let waits = matches!(response.status().as_u16(), 429 | 503);
            assert_eq!(response.headers().contains_key(RETRY_AFTER), waits, "{code:?}");
        }
    }

    #[tokio::test]
    async fn the_statuses_of_the_contract() {
        let contract = [
            (ErrorCode::MissingPassword, 400),
            (ErrorCode::ValidationFailed, 422),
            (ErrorCode::BadRequest, 400),
            (ErrorCode::AuthRequired, 401),
            (ErrorCode::AuthenticationFailed, 401),
            (ErrorCode::TokenExpired, 401),
            (ErrorCode::AccountExpired, 403),
            (ErrorCode::Forbidden, 403),
            (ErrorCode::ConversationOutOfStep, 409),
            (ErrorCode::ConversationGone, 410),
            (ErrorCode::AuthTimeout, 504),
            (ErrorCode::TooManyAttempts, 429),
            (ErrorCode::PamAuthUnavailable, 503),
            (ErrorCode::NotFound, 404),
            (ErrorCode::ModelNotFound, 404),
            (ErrorCode::ModelCorrupt, 422),
            (ErrorCode::WorkerUnavailable, 503),
            (ErrorCode::OutOfMemory, 507),
            (ErrorCode::GenerationFailed, 500),
            (ErrorCode::PayloadTooLarge, 413),
            (ErrorCode::ImageInvalid, 422),
            (ErrorCode::MisdirectedRequest, 421),
        ];
        for (code, expected) in contract {
            assert_eq!(status(code).as_u16(), expected, "{code:?}");
        }
    }

    #[tokio::test]
    async fn the_older_name_and_the_given_wait() {
        let fault =
            Fault::new(ErrorCode::PamAuthUnavailable, "authd does not answer").retry_after(7);
        let (response, body) = answer(fault.into()).await;
        assert!(body["error"]["message"].as_str().unwrap().contains("PAM_NOT_AVAILABLE"));
        assert_eq!(response.headers()[RETRY_AFTER], "7");
    }
}
