//! The id of a request as handlers get at it; the outermost layer put it there.

use crate::error::ApiError;
use axum::{extract::FromRequestParts, http::request::Parts};
use sdrest_proto::id::RequestId;

/// The id of the request, in its extensions.
#[derive(Clone, Copy, Debug)]
pub struct RequestTag(pub RequestId);

impl<S: Send + Sync> FromRequestParts<S> for RequestTag {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let tag = parts.extensions.get::<Self>().copied();
        tag.ok_or_else(|| ApiError::internal("a request without an id reached a handler"))
    }
}
