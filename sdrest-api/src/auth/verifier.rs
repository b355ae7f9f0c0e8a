//! Verifies access tokens with authd's public keys (RFC 8037). One algorithm, EdDSA, chosen here and never by the
//! token; `iss`, `aud`, `sub`, `exp` and `nbf` must all be there and right. A token that was checked before costs only a
//! digest and a look at the clock; for one that was not, header, signature and claims are read once each, and the keys
//! lie decompressed.

use super::known_tokens::KnownTokens;
use crate::error::unix_now;
use ed25519_dalek::{Signature, Verifier as _};
use sdrest_proto::{
    access_token::{self, Rules, TokenError},
    authd::{self, Claims, VerifyingKey},
    secret::BearerToken,
};
use std::{collections::HashMap, fmt, sync::Arc};
use thiserror::Error;

/// Seconds by which the clocks of one host may seem to differ.
const LEEWAY: u64 = 5;

#[derive(Debug, Error)]
#[error("a key of authd's cannot be used: {0}")]
pub struct KeyError(String);

/// The public keys of one authd, by their thumbprints.
#[derive(Clone)]
pub struct Verifier {
    rules: Rules,
    keys: HashMap<String, ed25519_dalek::VerifyingKey>,
    known: KnownTokens,
}

impl Verifier {
    pub fn new(issuer: &str, audience: &str, keys: &[VerifyingKey]) -> Result<Self, KeyError> {
        let decompressed = |key: &VerifyingKey| {
            ed25519_dalek::VerifyingKey::from_bytes(&key.public)
                .map(|point| (key.kid.clone(), point))
                .map_err(|error| KeyError(error.to_string()))
        };
        let (issuer, audience) = (issuer.to_owned(), audience.to_owned());
        Ok(Self {
            rules: Rules { algorithm: authd::Signature::EdDsa, issuer, audience },
            keys: keys.iter().map(decompressed).collect::<Result<_, _>>()?,
            known: KnownTokens::default(),
        })
    }

    /// The claims of a token that is authentic and timely. Whether its session still counts is asked
    /// elsewhere.
    pub fn verify(&self, token: &BearerToken) -> Result<Arc<Claims>, TokenError> {
        let digest = KnownTokens::digest(token.expose("checked against authd's public key"));
        let now = unix_now();
        if let Some(claims) = self.known.get(&digest) {
            return claims.timely(now, LEEWAY).map(|()| claims);
        }
        let claims = Arc::new(self.verify_anew(token)?);
        self.known.keep(digest, &claims, now);
        Ok(claims)
    }

    /// The same without looking at what is known.
    pub fn verify_anew(&self, token: &BearerToken) -> Result<Claims, TokenError> {
        let text = token.expose("checked against authd's public key");
        let claims = access_token::read(text, &self.rules, |kid, signed, signature| {
            let kid = kid.ok_or(TokenError::Invalid("it names no key"))?;
            let key = self.keys.get(kid).ok_or(TokenError::Invalid("its key is unknown"))?;
            Signature::from_slice(signature)
                .and_then(|signature| key.verify(signed, &signature))
                .map_err(|_| TokenError::Invalid("its signature is not our key's"))
        })?;
        claims.timely(unix_now(), LEEWAY)?;
        Ok(claims)
    }
}

/// Whether a text has the form of an HS256 access token that has not expired, by its own words: only authd can
/// verify it, but nobody needs to ask authd about anything else.
pub(super) fn check_hs256_form(text: &str) -> Result<(), TokenError> {
    let claims = access_token::read_unverified(text, authd::Signature::Hs256)?;
    if claims.exp <= unix_now() { Err(TokenError::Expired) } else { Ok(()) }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").field("keys", &self.keys.keys()).finish_non_exhaustive()
    }
}
