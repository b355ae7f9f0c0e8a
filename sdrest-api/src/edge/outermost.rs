//! The first thing that a request meets and the last that its answer does: the request id, the log line,
//! the private cause of an error, and the headers that every answer carries. It must never log a query, a
//! header or a body.

use super::tag::RequestTag;
use crate::{
    auth::Policies,
    error::{ApiError, AtEdge},
};
use axum::{
    extract::{MatchedPath, Request, State},
    http::{
        HeaderName, HeaderValue, StatusCode,
        header::{WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS},
    },
    middleware::Next,
    response::{IntoResponse, Response},
};
use sdrest_proto::{error::ErrorCode, id::RequestId};
use std::time::Instant;
use tracing::Instrument;

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The state of the middleware.
#[derive(Clone, Debug)]
pub struct Outermost {
    pub policies: Policies,
}

/// The middleware itself.
pub async fn outermost(
    State(state): State<Outermost>,
    mut request: Request,
    next: Next,
) -> Response {
    let begun = Instant::now();
    let id = request_id(&request);
    request.extensions_mut().insert(RequestTag(id));
    let method = request.method().clone();
    let span = tracing::info_span!("http", request_id = %id);
    let mut response = next.run(request).instrument(span.clone()).await;
    let _entered = span.enter();
    let status = response.status();
    finish(&mut response, &state, id);
    let route = response.extensions_mut().remove::<Route>().map(|route| route.0);
    let route = route.as_ref().map_or("none", MatchedPath::as_str);
    let micros = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
    tracing::info!(%method, route, status = status.as_u16(), micros, "answered");
    response
}

/// The pattern of the route that answered; only routes know it, so they leave it in the answer.
#[derive(Clone, Debug)]
struct Route(MatchedPath);

/// A layer inside the router: notes which route it was.
pub async fn note_route(request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().cloned();
    let mut response = next.run(request).await;
    if let Some(route) = route {
        response.extensions_mut().insert(Route(route));
    }
    response
}

/// The client's own id where it is a UUID, else a fresh one.
fn request_id(request: &Request) -> RequestId {
    let theirs = request.headers().get(X_REQUEST_ID).and_then(|value| value.to_str().ok());
    theirs
        .filter(|text| text.len() == 36)
        .and_then(|text| text.parse().ok())
        .unwrap_or_else(RequestId::random)
}

fn finish(response: &mut Response, state: &Outermost, id: RequestId) {
    if let Some(AtEdge { code, cause }) = response.extensions_mut().remove::<AtEdge>() {
        log_cause(code, cause.as_deref(), response.status());
        if response.status() == StatusCode::UNAUTHORIZED {
            let challenge = challenge(&state.policies.current().description().realm, code);
            response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        }
    }
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(&id.to_string()) {
        headers.insert(X_REQUEST_ID, value);
    }
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
}

fn log_cause(code: ErrorCode, cause: Option<&str>, status: StatusCode) {
    let code = code.as_str();
    match cause {
        Some(cause) if status.is_server_error() => tracing::error!(code, cause, "failed"),
        None if status.is_server_error() => tracing::warn!(code, "failed"),
        Some(cause) => tracing::info!(code, cause, "refused"),
        None => tracing::debug!(code, "refused"),
    }
}

/// RFC 6750 §3: the realm, and `invalid_token` where a token was sent and is bad.
fn challenge(realm: &str, code: ErrorCode) -> HeaderValue {
    let realm: String = realm.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').collect();
    let realm = realm.replace('\\', "\\\\").replace('"', "\\\"");
    let bad =
        matches!(code, ErrorCode::TokenInvalid | ErrorCode::TokenExpired | ErrorCode::TokenRevoked);
    let error = if bad { ", error=\"invalid_token\"" } else { "" };
    HeaderValue::from_str(&format!("Bearer realm=\"{realm}\"{error}"))
        .unwrap_or_else(|_| HeaderValue::from_static("Bearer"))
}

/// What answers where no route does.
pub async fn not_found() -> Response {
    ApiError::new(ErrorCode::NotFound, "there is no such route; /api/v1/openapi.json lists them")
        .into_response()
}

/// What answers where the route does not have the method.
pub async fn method_not_allowed() -> Response {
    ApiError::new(ErrorCode::MethodNotAllowed, "this route does not have this method")
        .into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_challenge_quotes_its_realm() {
        assert_eq!(challenge("sd", ErrorCode::AuthRequired), "Bearer realm=\"sd\"");
        assert_eq!(
            challenge("a\"b\\", ErrorCode::TokenExpired),
            "Bearer realm=\"a\\\"b\\\\\", error=\"invalid_token\""
        );
        assert_eq!(challenge("a\r\nb", ErrorCode::AuthRequired), "Bearer realm=\"ab\"");
    }
}
