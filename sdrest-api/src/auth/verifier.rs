//! Verifies access tokens (RFC 7519, RFC 8037, RFC 9068) with authd's public keys. One algorithm, EdDSA,
//! chosen here and never by the token; `iss`, `aud`, `sub`, `exp` and `nbf` must all be there and right. A token
//! that was checked before costs only a digest and a look at the clock; for one that was not, header, signature and
//! claims are read once each, and the keys lie decompressed.

use super::known_tokens::KnownTokens;
use crate::error::unix_now;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ed25519_dalek::{Signature, Verifier as _};
use sdrest_proto::{
    authd::{Claims, VerifyingKey},
    secret::BearerToken,
};
use serde::{Deserialize, de::DeserializeOwned};
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
    /// The reason is for the log: a caller learns only that the token is not good. It quotes nothing of the token.
    #[error("the token is not valid: {0}")]
    Invalid(&'static str),
    #[error("a key of authd's cannot be used: {0}")]
    Key(String),
}

/// The public keys of one authd, by their thumbprints.
#[derive(Clone)]
pub struct Verifier {
    issuer: String,
    audience: String,
    keys: HashMap<String, ed25519_dalek::VerifyingKey>,
    known: KnownTokens,
}

impl Verifier {
    pub fn new(issuer: &str, audience: &str, keys: &[VerifyingKey]) -> Result<Self, VerifyError> {
        let decompressed = |key: &VerifyingKey| {
            ed25519_dalek::VerifyingKey::from_bytes(&key.public)
                .map(|point| (key.kid.clone(), point))
                .map_err(|error| VerifyError::Key(error.to_string()))
        };
        Ok(Self {
            issuer: issuer.to_owned(),
            audience: audience.to_owned(),
            keys: keys.iter().map(decompressed).collect::<Result<_, _>>()?,
            known: KnownTokens::default(),
        })
    }

    /// The claims of a token that is authentic and timely. Whether its session still counts is asked
    /// elsewhere.
    pub fn verify(&self, token: &BearerToken) -> Result<Arc<Claims>, VerifyError> {
        let digest = KnownTokens::digest(token.expose("checked against authd's public key"));
        let now = unix_now();
        if let Some(claims) = self.known.get(&digest) {
            return timely(&claims, now).map(|()| claims);
        }
        let claims = Arc::new(self.verify_anew(token)?);
        self.known.keep(digest, &claims, now);
        Ok(claims)
    }

    /// The same without looking at what is known.
    pub fn verify_anew(&self, token: &BearerToken) -> Result<Claims, VerifyError> {
        let claims = self.authentic(token.expose("checked against authd's public key"))?;
        timely(&claims, unix_now())?;
        Ok(claims)
    }

    /// The claims of a token that this authd made for us, at whatever time they count.
    fn authentic(&self, text: &str) -> Result<Claims, VerifyError> {
        let parts = Parts::split(text)?;
        let kid = parts.header("EdDSA")?.kid.ok_or(VerifyError::Invalid("it names no key"))?;
        let key = self.keys.get(&kid).ok_or(VerifyError::Invalid("its key is unknown"))?;
        let signature = URL_SAFE_NO_PAD.decode(parts.signature).ok();
        let signature = signature.and_then(|bytes| Signature::from_slice(&bytes).ok());
        signature
            .and_then(|signature| key.verify(parts.signed.as_bytes(), &signature).ok())
            .ok_or(VerifyError::Invalid("its signature is not our key's"))?;
        let claims = parts.claims()?;
        if claims.iss != self.issuer {
            return Err(VerifyError::Invalid("it comes from another issuer"));
        }
        if claims.aud != self.audience {
            return Err(VerifyError::Invalid("it is for another audience"));
        }
        Ok(claims)
    }
}

/// Whether the clock is within a token's times, give or take the leeway.
fn timely(claims: &Claims, now: u64) -> Result<(), VerifyError> {
    if claims.exp < now.saturating_sub(LEEWAY) {
        return Err(VerifyError::Expired);
    }
    if claims.nbf > now + LEEWAY {
        return Err(VerifyError::Invalid("it does not count yet"));
    }
    Ok(())
}

/// Whether a text has the form of an HS256 access token that has not expired, by its own words: only authd can
/// verify it, but nobody needs to ask authd about anything else.
pub(super) fn check_hs256_form(text: &str) -> Result<(), VerifyError> {
    let parts = Parts::split(text)?;
    parts.header("HS256")?;
    if parts.claims()?.exp <= unix_now() { Err(VerifyError::Expired) } else { Ok(()) }
}

/// `alg`, `typ` and `kid` are all that a header may hold: none brings its own key, a place to find one, or rules
/// that we do not know.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    alg: String,
    typ: String,
    kid: Option<String>,
}

/// A token in its compact form (RFC 7515 §3.1).
struct Parts<'a> {
    header: &'a str,
    claims: &'a str,
    /// Both, with the dot: what the signature is over.
    signed: &'a str,
    signature: &'a str,
}

impl<'a> Parts<'a> {
    fn split(text: &'a str) -> Result<Self, VerifyError> {
        let parts = text.rsplit_once('.').and_then(|(signed, signature)| {
            let (header, claims) = signed.split_once('.')?;
            Some(Self { header, claims, signed, signature })
        });
        parts.ok_or(VerifyError::Invalid("it has not three parts"))
    }

    /// The header of an access token under `algorithm`.
    fn header(&self, algorithm: &str) -> Result<Header, VerifyError> {
        let header: Header =
            json(self.header).ok_or(VerifyError::Invalid("its header is not one of ours"))?;
        if header.alg != algorithm {
            return Err(VerifyError::Invalid("its algorithm is not ours"));
        }
        if !header.typ.eq_ignore_ascii_case(TOKEN_TYPE) {
            return Err(VerifyError::Invalid("it is no access token by its `typ`"));
        }
        Ok(header)
    }

    fn claims(&self) -> Result<Claims, VerifyError> {
        json(self.claims).ok_or(VerifyError::Invalid("its claims cannot be read"))
    }
}

fn json<T: DeserializeOwned>(part: &str) -> Option<T> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
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
