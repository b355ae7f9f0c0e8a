//! Accepting work. A 202 is sent after the job is durable, never before.

use super::{
    answers::JobWrapped,
    jobs::{failed, over},
    txt2img::TextToImage,
};
use crate::{
    app::App,
    auth::{Generate, Permit, User},
    edge::{Body, GENERATION_BODY, Query, RequestTag},
    error::{ApiError, ErrorBody},
    jobs::{IdempotencyKey, JobKind, NewJob, Waited},
};
use axum::{
    Json,
    extract::{FromRequestParts, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header::LOCATION, request::Parts},
    response::{IntoResponse, Response},
};
use sdrest_proto::{
    error::ErrorCode,
    id::{JobId, RequestId},
    model::ModelInfo,
};
use sha2::{Digest, Sha256};
use std::{future::Future, time::Duration};

/// The longest `Prefer: wait`, in seconds.
const MAX_WAIT: u64 = 60;
const MAX_KEY: usize = 255;
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// Draw pictures from a prompt.
#[utoipa::path(post, path = "/txt2img", tag = "generation", request_body = TextToImage,
    params(("Prefer" = Option<String>, Header, description = "`wait=N` holds the answer up to N seconds, at most 60"),
        ("Idempotency-Key" = Option<String>, Header, description = "The same key and body give the same job for 24 h")),
    responses((status = 202, body = JobWrapped, headers(("Location" = String, description = "The job"))),
        (status = "default", description = "Any error", body = ErrorBody)))]
pub async fn txt2img(
    State(app): State<App>,
    permit: Permit<Generate>,
    wishes: Wishes,
    body: Body<TextToImage, GENERATION_BODY>,
) -> Result<Response, ApiError> {
    let user = permit.user().clone();
    let body_sha256 = Sha256::digest(&body.raw).into();
    // All guests are one owner: a key of one of them must not open the job of another.
    let key = wishes.key.filter(|_| !user.is_guest());
    let key = key.map(|key| IdempotencyKey { key, body_sha256 });
    // What was accepted stays so, whatever today's models are.
    let earlier = match &key {
        Some(key) => app.queue.replay(&permit, user.subject(), key).await.map_err(failed)?,
        None => None,
    };
    let patience = wishes.wait.map(|wait| over(&app, &user, wait));
    let waited = match (earlier, patience) {
        (Some(job), None) => Waited { job, held: false },
        (Some(job), Some(patience)) => app.queue.wait_for_accepted(job, patience).await,
        (None, patience) => {
            let new = new_job(&app, &user, body.value, wishes.request, key)?;
            submit(&app, permit, new, patience).await?
        }
    };
    let secret = app.job_secrets.of(&user, waited.job.id);
    let answer = JobWrapped { secret, ..JobWrapped::from(&waited.job) };
    Ok(accepted(answer, wishes.wait.filter(|_| waited.held)))
}

/// The job that the body asks for, by today's models.
fn new_job(
    app: &App,
    user: &User,
    body: TextToImage,
    request_id: RequestId,
    idempotency_key: Option<IdempotencyKey>,
) -> Result<NewJob, ApiError> {
    let model = model(app, &body)?;
    Ok(NewJob {
        id: JobId::random(),
        owner: user.subject().clone(),
        owner_name: user.name().to_owned(),
        kind: JobKind::TextToImage,
        request: body.into_request(&model)?,
        request_id,
        idempotency_key,
    })
}

async fn submit(
    app: &App,
    permit: Permit<Generate>,
    new: NewJob,
    patience: Option<impl Future<Output = ()>>,
) -> Result<Waited, ApiError> {
    let waited = match patience {
        None => app.queue.submit(permit, new).await.map(|job| Waited { job, held: false }),
        Some(patience) => app.queue.submit_and_wait(permit, new, patience).await,
    };
    waited.map_err(failed)
}

/// What the head of the request says of how it is to be accepted.
#[derive(Debug)]
pub struct Wishes {
    request: RequestId,
    wait: Option<Duration>,
    key: Option<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for Wishes {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        Query::<()>::from_request_parts(parts, state).await?;
        let RequestTag(request) = RequestTag::from_request_parts(parts, state).await?;
        let key = idempotency_key(&parts.headers)?;
        Ok(Self { request, wait: preferred_wait(&parts.headers), key })
    }
}

/// The model that the body names, or the default one.
fn model(app: &App, body: &TextToImage) -> Result<ModelInfo, ApiError> {
    let model = match &body.model {
        Some(name) => app.workers.model(name),
        None => app.workers.default_model(),
    };
    Ok(model?)
}

/// `wait` where it was honoured.
fn accepted(answer: JobWrapped, wait: Option<Duration>) -> Response {
    let location = HeaderValue::from_str(&format!("/api/v1/jobs/{}", answer.job.id));
    let mut response = (StatusCode::ACCEPTED, Json(answer)).into_response();
    if let Ok(location) = location {
        response.headers_mut().insert(LOCATION, location);
    }
    if let Some(wait) = wait
        && let Ok(applied) = HeaderValue::from_str(&format!("wait={}", wait.as_secs()))
    {
        response.headers_mut().insert(PREFERENCE_APPLIED, applied);
    }
    response
}

/// RFC 7240 §4.3. What cannot be read is no preference; more than the most is the most.
fn preferred_wait(headers: &HeaderMap) -> Option<Duration> {
    let values = headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
    let mut preferences = values.flat_map(|value| value.split(',')).map(str::trim);
    let wait = preferences.find_map(|preference| {
        let (name, value) = preference.split_once('=')?;
        let named = name.trim().eq_ignore_ascii_case("wait");
        named.then(|| value.trim().trim_matches('"').parse::<u64>().ok()).flatten()
    })?;
    Some(Duration::from_secs(wait.min(MAX_WAIT)))
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let sent = headers.get_all("idempotency-key");
    let Some(value) = sent.iter().next() else { return Ok(None) };
    let times = sent.iter().count();
    let got = match value.to_str().map(str::trim) {
        _ if times > 1 => format!("it {times} times"),
        Ok(key) if (1..=MAX_KEY).contains(&key.len()) => return Ok(Some(key.to_owned())),
        Ok(key) => format!("{} characters", key.len()),
        Err(_) => "unprintable ones".to_owned(),
    };
    let message = format!(
        "`Idempotency-Key` must be sent once, with 1 to {MAX_KEY} printable characters, got {got}"
    );
    Err(ApiError::new(ErrorCode::ValidationFailed, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn prefer_wait_in_all_its_spellings() {
        let wait =
            |values: &[&str]| preferred_wait(&headers("prefer", values)).map(|wait| wait.as_secs());
        assert_eq!(wait(&[]), None);
        assert_eq!(wait(&["wait=5"]), Some(5));
        assert_eq!(wait(&["respond-async, Wait = \"7\""]), Some(7));
        assert_eq!(wait(&["return=minimal", "wait=100000"]), Some(MAX_WAIT));
        assert_eq!(wait(&["wait=soon"]), None);
        assert_eq!(wait(&["wait=-1"]), None);
    }

    #[test]
    fn idempotency_keys() {
        let key = |values: &[&str]| idempotency_key(&headers("idempotency-key", values));
        assert_eq!(key(&[]).unwrap(), None);
        assert_eq!(key(&["a"]).unwrap().unwrap(), "a");
        let long = "a".repeat(256);
        for (bad, got) in [
            (&[""][..], "got 0 characters"),
            (&["a", "a"], "got it 2 times"),
            (&[long.as_str()], "got 256 characters"),
        ] {
            let error = key(bad).unwrap_err();
            assert_eq!(error.code(), ErrorCode::ValidationFailed);
            let message = &error.fault().message;
            assert!(message.contains("1 to 255") && message.ends_with(got), "{message}");
        }
        let other = HeaderValue::from_bytes(b"caf\xe9").unwrap();
        let error = idempotency_key(&HeaderMap::from_iter([(
            HeaderName::from_static("idempotency-key"),
            other,
        )]));
        assert_eq!(error.unwrap_err().code(), ErrorCode::ValidationFailed);
    }
}
