//! Finds the credentials of a request (RFC 6750 §2.1). Only the header counts: a token in a query would
//! reach logs and histories.

use crate::error::ApiError;
use axum::http::{HeaderMap, header::AUTHORIZATION};
use sdrest_proto::{error::ErrorCode, secret::BearerToken};

/// The longest token that is looked at, in bytes.
const MAX_TOKEN: usize = 4096;

/// The token that came with a request. Whatever else stands in a credential's place is an error and not
/// "no credentials": a caller who sends something wrong must not go on as a guest.
pub fn bearer(headers: &HeaderMap) -> Result<Option<BearerToken>, ApiError> {
    if headers.contains_key("x-api-key") {
        return Err(invalid(
            "API keys are not accepted by this server; send `Authorization: Bearer TOKEN`",
        ));
    }
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(invalid("`Authorization` was sent more than once"));
    }
    let text = value
        .to_str()
        .map_err(|_| invalid("`Authorization` holds characters that no token has"))?;
    let token = match text.split_once(' ') {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("bearer") => rest.trim(),
        _ => return Err(invalid("`Authorization` must be `Bearer TOKEN`")),
    };
    if token.is_empty() || token.len() > MAX_TOKEN || !token.bytes().all(is_token_byte) {
        return Err(invalid("the bearer token is not one of this server's"));
    }
    Ok(Some(BearerToken::new(token.to_owned())))
}

/// The characters of a compact JWT: base64url and dots.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')
}

fn invalid(message: &'static str) -> ApiError {
    ApiError::new(ErrorCode::TokenInvalid, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: &[&str]) -> Result<Option<String>, ErrorCode> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, value.parse().unwrap());
        }
        match bearer(&headers) {
            Ok(token) => Ok(token.map(|token| token.expose("compared in a test").to_owned())),
            Err(error) => Err(error.code()),
        }
    }

    #[test]
    fn one_bearer_or_nothing_or_an_error() {
        assert_eq!(of(&[]), Ok(None));
        assert_eq!(of(&["Bearer a.b.c"]), Ok(Some("a.b.c".to_owned())));
        assert_eq!(of(&["bearer a.b.c"]), Ok(Some("a.b.c".to_owned())));
        let long = format!("Bearer {}", "a".repeat(MAX_TOKEN + 1));
        for bad in
            ["Basic YTpi", "Bearer", "Bearer ", "", "a.b.c", "Bearer a b", "Bearer a,b", &long]
        {
            assert_eq!(of(&[bad]), Err(ErrorCode::TokenInvalid), "{bad:.20}");
        }
        assert_eq!(of(&["Bearer a", "Bearer a"]), Err(ErrorCode::TokenInvalid));
    }
}
