//! The one reader of JSON bodies: `application/json` and nothing else (a form of another site can send the
//! other types unasked), a cap on the size, a limit on the time, and errors that name the field.

use super::fields::Fields;
use crate::error::ApiError;
use axum::{
    body::Body as RawBody,
    extract::{FromRequest, Request},
    http::{
        HeaderMap,
        header::{CONTENT_LENGTH, CONTENT_TYPE},
    },
};
use futures::StreamExt;
use sdrest_proto::error::ErrorCode;
use std::time::Duration;

/// Bytes of a sign-in body.
pub const AUTH_BODY: usize = 8 * 1024;
/// Bytes of a generation body.
pub const GENERATION_BODY: usize = 256 * 1024;
/// How long a body may take to arrive.
const PATIENCE: Duration = Duration::from_secs(30);

/// A type that is read from the fields of a body or a query.
pub trait FromFields: Sized {
    /// Takes what it needs; the caller checks afterwards that nothing is left.
    fn from_fields(fields: &mut Fields) -> Result<Self, ApiError>;
}

/// A JSON body of at most `LIMIT` bytes.
#[derive(Debug)]
pub struct Body<T, const LIMIT: usize> {
    pub value: T,
    /// The bytes as they came.
    pub raw: Vec<u8>,
}

impl<S: Send + Sync, T: FromFields, const LIMIT: usize> FromRequest<S> for Body<T, LIMIT> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        check_type(&parts.headers)?;
        check_length(&parts.headers, LIMIT)?;
        let raw = tokio::time::timeout(PATIENCE, collect(body, LIMIT)).await.map_err(|_| {
            bad(format!("the body did not arrive within {} s", PATIENCE.as_secs()))
        })??;
        let json = serde_json::from_slice(&raw).map_err(|error| bad(not_json(&error)))?;
        let mut fields = Fields::of_body(json)?;
        let value = T::from_fields(&mut fields)?;
        fields.finish()?;
        Ok(Self { value, raw })
    }
}

fn check_type(headers: &HeaderMap) -> Result<(), ApiError> {
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let first = types.next().and_then(|value| value.to_str().ok()).unwrap_or("");
    let essence = first.split(';').next().unwrap_or("").trim();
    if essence.eq_ignore_ascii_case("application/json") && types.next().is_none() {
        return Ok(());
    }
    let message = "the body must be JSON: send `Content-Type: application/json`";
    Err(ApiError::new(ErrorCode::UnsupportedMediaType, message))
}

fn check_length(headers: &HeaderMap, limit: usize) -> Result<(), ApiError> {
    let length =
        headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    match length.filter(|length| *length > limit as u64) {
        Some(length) => Err(too_large(limit, &length.to_string())),
        None => Ok(()),
    }
}

async fn collect(body: RawBody, limit: usize) -> Result<Vec<u8>, ApiError> {
    let mut chunks = body.into_data_stream();
    let mut bytes = Vec::new();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| bad("the body broke off".to_owned()).because(error))?;
        if bytes.len() + chunk.len() > limit {
            return Err(too_large(limit, "more"));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// Where the syntax breaks, without a piece of the text: it may hold a password.
fn not_json(error: &serde_json::Error) -> String {
    format!("the body is not JSON: it breaks at line {}, column {}", error.line(), error.column())
}

fn bad(message: String) -> ApiError {
    ApiError::new(ErrorCode::BadRequest, message)
}

/// `got` is its length, where that is known before it has come.
fn too_large(limit: usize, got: &str) -> ApiError {
    let message = format!("the body may have at most {limit} bytes, got {got}");
    ApiError::new(ErrorCode::PayloadTooLarge, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use sdrest_proto::bounds::Steps;

    #[derive(Debug)]
    struct Sample {
        steps: Option<Steps>,
    }

    impl FromFields for Sample {
        fn from_fields(fields: &mut Fields) -> Result<Self, ApiError> {
            let steps = fields.whole("steps", Steps::MIN, Steps::MAX)?;
            fields.secret("password")?;
            for mut nested in fields.objects("answers")? {
                nested.number("weight", "between 0 and 1")?;
                nested.finish()?;
            }
            Ok(Self { steps })
        }
    }

    async fn read(
        content_type: &str,
        body: impl Into<RawBody>,
    ) -> Result<Option<u32>, (ErrorCode, String)> {
        let request =
            Request::builder().header(CONTENT_TYPE, content_type).body(body.into()).unwrap();
        match Body::<Sample, 64>::from_request(request, &()).await {
            Ok(body) => Ok(body.value.steps.map(Steps::get)),
            Err(error) => Err((error.code(), error.fault().message.clone())),
        }
    }

    async fn json(body: &'static str) -> Result<Option<u32>, (ErrorCode, String)> {
        read("application/json", body).await
    }

    #[tokio::test]
    async fn good_bodies() {
        assert_eq!(json("{}").await, Ok(None));
        assert_eq!(json(r#"{"steps":null}"#).await, Ok(None));
        assert_eq!(json(r#"{"steps":20.0}"#).await, Ok(Some(20)));
        assert_eq!(read("Application/JSON; charset=utf-8", r#"{"steps":1}"#).await, Ok(Some(1)));
    }

    #[tokio::test]
    async fn wrong_fields_are_named_with_bounds_and_value() {
        let table = [
            (r#"{"steps":900}"#, "`steps` must be between 1 and 150, got 900"),
            (r#"{"steps":-1}"#, "`steps` must be between 1 and 150, got -1"),
            (
                r#"{"steps":"many"}"#,
                "`steps` must be a whole number between 1 and 150, got \"many\"",
            ),
            (r#"{"steps":1.5}"#, "`steps` must be a whole number between 1 and 150, got 1.5"),
            (r#"{"stepz":1}"#, "unknown field \"stepz\"; known are `steps`, `password`, `answers`"),
            (
                r#"{"answers":[{"weight":"a"}]}"#,
                "`answers[0].weight` must be a number between 0 and 1, got \"a\"",
            ),
            (r#"{"answers":[{},{"x":1}]}"#, "unknown field \"answers[1].x\"; known are `weight`"),
            (r#"{"answers":[3]}"#, "`answers[0]` must be a JSON object, got a number"),
            (r#"{"answers":"x"}"#, "`answers` must be a list of objects, got a text"),
            (r#"{"password":12345}"#, "`password` must be a text, got a number"),
            ("[]", "the body must be a JSON object, got a list"),
        ];
        for (body, message) in table {
            assert_eq!(
                json(body).await,
                Err((ErrorCode::ValidationFailed, message.to_owned())),
                "{body}"
            );
        }
    }

    #[tokio::test]
    async fn what_is_not_json_is_refused_without_being_repeated() {
        for body in ["", "{", "steps=1", r#"{"password":"hunter2"#] {
            let (code, message) = json(body).await.unwrap_err();
            assert_eq!(code, ErrorCode::BadRequest, "{body}");
            assert!(!message.contains("hunter2"));
        }
        let (code, _) = read("application/json", &b"{\"\xff\":1}"[..]).await.unwrap_err();
        assert_eq!(code, ErrorCode::BadRequest);
    }

    #[tokio::test]
    async fn other_types_and_large_bodies() {
        for other in ["text/plain", "application/x-www-form-urlencoded", "", "application/jsonx"] {
            assert_eq!(
                read(other, "{}").await.unwrap_err().0,
                ErrorCode::UnsupportedMediaType,
                "{other}"
            );
        }
        let long = format!("{{{}}}", " ".repeat(100));
        let (code, message) = read("application/json", long).await.unwrap_err();
        assert_eq!(code, ErrorCode::PayloadTooLarge);
        assert_eq!(message, "the body may have at most 64 bytes, got more");
        let told = Request::builder().header(CONTENT_TYPE, "application/json");
        let told = told.header(CONTENT_LENGTH, 65).body(RawBody::empty()).unwrap();
        let error = Body::<Sample, 64>::from_request(told, &()).await.unwrap_err();
        assert_eq!(error.fault().message, "the body may have at most 64 bytes, got 65");
    }
}
