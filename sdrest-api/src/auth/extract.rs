//! How handlers get at the caller: the only two makers of `Authenticated<User>` and `Permit<…>`. Both read
//! what the gate left behind and fail closed where there is nothing.

use super::{
    permit::{Allows, Permit},
    user::User,
};
use crate::error::ApiError;
use axum::{extract::FromRequestParts, http::request::Parts};
use sdrest_proto::error::ErrorCode;
use std::ops::Deref;

/// Proof that the gate settled who the caller is.
#[derive(Clone, Debug)]
pub struct Authenticated<T>(T);

impl<T> Deref for Authenticated<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Authenticated<User> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        caller(parts).cloned().map(Self)
    }
}

impl<S: Send + Sync, A: Allows> FromRequestParts<S> for Permit<A> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let user = caller(parts)?;
        Self::grant(user)
            .ok_or_else(|| ApiError::new(ErrorCode::Forbidden, user.lacks(A::PERMISSION)))
    }
}

pub(super) fn caller(parts: &Parts) -> Result<&User, ApiError> {
    parts
        .extensions
        .get::<User>()
        .ok_or_else(|| ApiError::new(ErrorCode::AuthRequired, "sign in first"))
}
