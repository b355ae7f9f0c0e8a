//! Finds the credentials of a request (RFC 6750 §2.1): an access token or an API key. Only headers count: a
//! secret in a query would reach logs and histories.

use crate::error::ApiError;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header::AUTHORIZATION};
use sdrest_proto::{
    api_key::PREFIX,
    error::ErrorCode,
    secret::{ApiKey, BearerToken},
};

const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");
/// The longest token or key that is looked at, in bytes.
const MAX: usize = 4096;

/// What a caller shows.
#[derive(Debug)]
pub enum Credential {
    Token(BearerToken),
    Key(ApiKey),
}

/// What came with a request. Whatever else stands in a credential's place is an error and not "no
/// credentials": a caller who sends something wrong must not go on as a guest.
pub fn credential(headers: &HeaderMap) -> Result<Option<Credential>, ApiError> {
    let authorization = only(headers, AUTHORIZATION, "`Authorization` was sent more than once")?;
    let key = only(headers, X_API_KEY, "`X-API-Key` was sent more than once")?;
    match (authorization, key) {
        (None, None) => Ok(None),
        (Some(value), None) => bearer(value).map(Some),
        (None, Some(value)) => {
            let text = value.to_str().ok().map(str::trim).filter(|text| is_credential(text));
            let text = text.ok_or_else(|| invalid("the API key is not one of this server's"))?;
            Ok(Some(Credential::Key(ApiKey::new(text.to_owned()))))
        }
        (Some(_), Some(_)) => Err(invalid(
            "send either `Authorization` or `X-API-Key`: two credentials could be two callers",
        )),
    }
}

/// The access token of a caller whom the gate let through with one.
pub fn token(headers: &HeaderMap) -> Result<Option<BearerToken>, ApiError> {
    Ok(match credential(headers)? {
        Some(Credential::Token(token)) => Some(token),
        Some(Credential::Key(_)) | None => None,
    })
}

fn only<'a>(
    headers: &'a HeaderMap,
    name: HeaderName,
    twice: &'static str,
) -> Result<Option<&'a HeaderValue>, ApiError> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    if values.next().is_some() { Err(invalid(twice)) } else { Ok(first) }
}

fn bearer(value: &HeaderValue) -> Result<Credential, ApiError> {
    let text = value
        .to_str()
        .map_err(|_| invalid("`Authorization` holds characters that no token has"))?;
    let token = match text.split_once(' ') {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("bearer") => rest.trim(),
        _ => return Err(invalid("`Authorization` must be `Bearer TOKEN` or `Bearer KEY`")),
    };
    if !is_credential(token) {
        return Err(invalid("the bearer token is not one of this server's"));
    }
    Ok(if token.starts_with(PREFIX) {
        Credential::Key(ApiKey::new(token.to_owned()))
    } else {
        Credential::Token(BearerToken::new(token.to_owned()))
    })
}

fn is_credential(text: &str) -> bool {
    (1..=MAX).contains(&text.len()) && text.bytes().all(is_credential_byte)
}

/// The characters of a compact JWT and of a key: base64url and dots.
fn is_credential_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')
}

fn invalid(message: &'static str) -> ApiError {
    ApiError::new(ErrorCode::TokenInvalid, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&'static str, &str)]) -> Result<Option<String>, ErrorCode> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        let shown = |credential| match credential {
            Credential::Token(token) => format!("token {}", token.expose("compared in a test")),
            Credential::Key(key) => format!("key {}", key.expose("compared in a test")),
        };
        credential(&headers).map(|found| found.map(shown)).map_err(|error| error.code())
    }

    fn bearer(value: &str) -> Result<Option<String>, ErrorCode> {
        of(&[("authorization", value)])
    }

    #[test]
    fn one_bearer_or_nothing_or_an_error() {
        assert_eq!(of(&[]), Ok(None));
        assert_eq!(bearer("Bearer a.b.c"), Ok(Some("token a.b.c".to_owned())));
        assert_eq!(bearer("bearer a.b.c"), Ok(Some("token a.b.c".to_owned())));
        let long = format!("Bearer {}", "a".repeat(MAX + 1));
        for bad in
            ["Basic YTpi", "Bearer", "Bearer ", "", "a.b.c", "Bearer a b", "Bearer a,b", &long]
        {
            assert_eq!(bearer(bad), Err(ErrorCode::TokenInvalid), "{bad:.20}");
        }
        let twice = [("authorization", "Bearer a"), ("authorization", "Bearer a")];
        assert_eq!(of(&twice), Err(ErrorCode::TokenInvalid));
    }

    #[test]
    fn a_key_comes_in_either_header_and_never_beside_something_else() {
        assert_eq!(bearer("Bearer sdr_a"), Ok(Some("key sdr_a".to_owned())));
        assert_eq!(of(&[("x-api-key", "sdr_a")]), Ok(Some("key sdr_a".to_owned())));
        for bad in [
            &[("x-api-key", "")][..],
            &[("x-api-key", "a b")],
            &[("x-api-key", "sdr_a"), ("x-api-key", "sdr_a")],
            &[("x-api-key", "sdr_a"), ("authorization", "Bearer sdr_a")],
            &[("x-api-key", "sdr_a"), ("authorization", "Bearer a.b.c")],
            &[("x-api-key", "sdr_a"), ("authorization", "")],
        ] {
            assert_eq!(of(bad), Err(ErrorCode::TokenInvalid), "{bad:?}");
        }
    }
}
