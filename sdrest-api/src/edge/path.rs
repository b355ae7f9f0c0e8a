//! The id in a path. What is no id names nothing, so it answers like an id that is not there.

use crate::error::ApiError;
use axum::{
    RequestPartsExt,
    extract::{FromRequestParts, Path},
    http::request::Parts,
};
use sdrest_proto::error::ErrorCode;
use std::str::FromStr;

/// The one parameter of a path.
#[derive(Clone, Copy, Debug)]
pub struct PathId<T>(pub T);

impl<S: Send + Sync, T: FromStr> FromRequestParts<S> for PathId<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let text = parts.extract::<Path<String>>().await.ok();
        let id = text.filter(|text| text.len() == 36).and_then(|text| text.parse().ok());
        id.map(Self)
            .ok_or_else(|| ApiError::new(ErrorCode::NotFound, "there is nothing by this id"))
    }
}
