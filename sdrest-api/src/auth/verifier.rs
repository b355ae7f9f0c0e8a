//! Verifies access tokens (RFC 7519, RFC 8037, RFC 9068) with authd's public keys. One algorithm, EdDSA,
//! chosen here and never by the token; `iss`, `aud`, `sub`, `exp` and `nbf` must all be there and right. A token
//! that was checked before costs only a digest and a look at the clock.

use super::known_tokens::KnownTokens;
use crate::error::unix_now;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{
    Algorithm, DecodingKey, Header, Validation, decode, decode_header, errors::ErrorKind,
};
use sdrest_proto::{
    authd::{Claims, VerifyingKey},
    secret::BearerToken,
};
use std::{collections::HashMap, fmt, sync::Arc};
use thiserror::Error;

/// Seconds by which the clocks of one host may seem to differ.
const LEEWAY: u64 = 5;
/// RFC 9068 §2.1.
const TOKEN_TYPE: &str = "at+jwt";

#[derive(Debug, Error)]
pub enum VerifyError {
    #[error("the token has expired")]
    Expired,
    /// The reason is for the log: a caller learns only that the token is not good.
    #[error("the token is not valid: {0}")]
    Invalid(String),
    #[error("a key of authd's cannot be used: {0}")]
    Key(String),
}

/// The public keys of one authd, by their thumbprints.
#[derive(Clone)]
pub struct Verifier {
    keys: HashMap<String, DecodingKey>,
    validation: Validation,
    known: KnownTokens,
}

impl Verifier {
    pub fn new(issuer: &str, audience: &str, keys: &[VerifyingKey]) -> Result<Self, VerifyError> {
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.leeway = LEEWAY;
        validation.validate_nbf = true;
        validation.set_issuer(&[issuer]);
        validation.set_audience(&[audience]);
        validation.set_required_spec_claims(&["exp", "nbf", "iss", "aud", "sub"]);
        let decoding = |key: &VerifyingKey| {
            DecodingKey::from_ed_components(&URL_SAFE_NO_PAD.encode(key.public))
                .map(|decoding| (key.kid.clone(), decoding))
                .map_err(|error| VerifyError::Key(error.to_string()))
        };
        let keys = keys.iter().map(decoding).collect::<Result<_, _>>()?;
        Ok(Self { keys, validation, known: KnownTokens::default() })
    }

    /// The claims of a token that is authentic and timely. Whether its session still counts is asked
    /// elsewhere.
    pub fn verify(&self, token: &BearerToken) -> Result<Arc<Claims>, VerifyError> {
        let text = token.expose("checked against authd's public key");
        let digest = KnownTokens::digest(text);
        if let Some(claims) = self.known.get(&digest) {
            return timely(&claims, unix_now()).map(|()| claims);
        }
        let claims = Arc::new(self.verify_anew(token)?);
        let now = unix_now();
        timely(&claims, now)?;
        self.known.keep(digest, &claims, now);
        Ok(claims)
    }

    /// The same without looking at what is known.
    pub fn verify_anew(&self, token: &BearerToken) -> Result<Claims, VerifyError> {
        let text = token.expose("checked against authd's public key");
        let header =
            decode_header(text).map_err(|error| VerifyError::Invalid(error.to_string()))?;
        if header.alg != Algorithm::EdDSA {
            return Err(VerifyError::Invalid(format!("its algorithm is {:?}", header.alg)));
        }
        check_header(&header)?;
        let kid = header.kid.ok_or_else(|| VerifyError::Invalid("it names no key".to_owned()))?;
        let key = self
            .keys
            .get(&kid)
            .ok_or_else(|| VerifyError::Invalid("its key is unknown".to_owned()))?;
        match decode::<Claims>(text, key, &self.validation) {
            Ok(token) => Ok(token.claims),
            Err(error) if matches!(error.kind(), ErrorKind::ExpiredSignature) => {
                Err(VerifyError::Expired)
            }
            Err(error) => Err(VerifyError::Invalid(error.to_string())),
        }
    }
}

/// Whether the clock is within a token's times, give or take the leeway.
fn timely(claims: &Claims, now: u64) -> Result<(), VerifyError> {
    if claims.exp < now.saturating_sub(LEEWAY) {
        return Err(VerifyError::Expired);
    }
    if claims.nbf > now + LEEWAY {
        return Err(VerifyError::Invalid("it does not count yet".to_owned()));
    }
    Ok(())
}

/// Whether a text has the form of an HS256 access token that has not expired, by its own words: only authd can
/// verify it, but nobody needs to ask authd about anything else.
pub(super) fn check_hs256_form(text: &str) -> Result<(), VerifyError> {
    let header = decode_header(text).map_err(|error| VerifyError::Invalid(error.to_string()))?;
    if header.alg != Algorithm::HS256 {
        return Err(VerifyError::Invalid(format!("its algorithm is {:?}", header.alg)));
    }
    check_header(&header)?;
    let claims = text.split('.').nth(1).and_then(|part| URL_SAFE_NO_PAD.decode(part).ok());
    let claims = claims.and_then(|claims| serde_json::from_slice::<Claims>(&claims).ok());
    match claims {
        None => Err(VerifyError::Invalid("its claims cannot be read".to_owned())),
        Some(claims) if claims.exp <= unix_now() => Err(VerifyError::Expired),
        Some(_) => Ok(()),
    }
}

/// `alg`, `typ` and `kid` are all that a header may hold: none brings its own key, a place to find one, or rules
/// that we do not know.
fn check_header(header: &Header) -> Result<(), VerifyError> {
    if !header.typ.as_deref().is_some_and(|typ| typ.eq_ignore_ascii_case(TOKEN_TYPE)) {
        return Err(VerifyError::Invalid("it is no access token by its `typ`".to_owned()));
    }
    let plain =
        Header { typ: header.typ.clone(), kid: header.kid.clone(), ..Header::new(header.alg) };
    if *header != plain {
        return Err(VerifyError::Invalid("its header brings its own rules".to_owned()));
    }
    Ok(())
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").field("keys", &self.keys.keys()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sdrest_proto::{
        id::SessionId,
        identity::{Role, Subject},
    };

    #[test]
    fn a_known_token_still_has_its_times() {
        let claims = Claims {
            iss: "i".to_owned(),
            aud: "a".to_owned(),
            sub: Subject::unix(1000, 1),
            name: "alice".to_owned(),
            uid: Some(1000),
            roles: vec![Role::User],
            amr: vec!["pam".to_owned()],
            sid: SessionId::random(),
            jti: "j".to_owned(),
            iat: 1000,
            nbf: 1000,
            exp: 4600,
            auth_time: 1000,
        };
        for now in [995, 1000, 4600, 4605] {
            assert!(timely(&claims, now).is_ok(), "{now}");
        }
        assert!(matches!(timely(&claims, 4606), Err(VerifyError::Expired)));
        // The clock may go back.
        for now in [0, 994] {
            assert!(matches!(timely(&claims, now), Err(VerifyError::Invalid(_))), "{now}");
        }
    }
}
