//! The reader of queries, with the same care for names and bounds as that of bodies.

use super::{body::FromFields, fields::Fields};
use crate::error::ApiError;
use axum::{extract::FromRequestParts, http::request::Parts};
use sdrest_proto::error::ErrorCode;

/// The parsed query.
#[derive(Debug)]
pub struct Query<T>(pub T);

impl<S: Send + Sync, T: FromFields> FromRequestParts<S> for Query<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let pairs = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(&parts.uri)
            .map_err(|_| ApiError::new(ErrorCode::BadRequest, "the query cannot be read"))?;
        let mut fields = Fields::of_query(pairs.0)?;
        let value = T::from_fields(&mut fields)?;
        fields.finish()?;
        Ok(Self(value))
    }
}

/// For routes that take no query at all.
impl FromFields for () {
    fn from_fields(_: &mut Fields) -> Result<Self, ApiError> {
        Ok(())
    }
}
