//! Access tokens, signed with EdDSA, or with HS256 where the administrator gave a secret. Verification asks for
//! everything: algorithm, key id, type, issuer, audience, exp and nbf. A token's header chooses among our own keys of
//! the one algorithm, and nothing else; how it is written is proto's `access_token`.

use super::{
    key::{KeyError, Signer},
    sessions::Login,
};
use crate::audit::unix_now;
use crate::state_dir::StateError;
use sdrest_proto::{
    access_token::{self, Rules, TokenError},
    authd::{Claims, Signature, VerifyingKey},
    error::{ErrorCode, Fault},
    id::SessionId,
    secret::BearerToken,
};
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// `aud` of every token.
pub(crate) const AUDIENCE: &str = "sdrest";

/// Signs and verifies.
pub(crate) struct AccessTokens {
    signer: RwLock<Signer>,
    /// Held by who changes what signs, while that is written.
    changing: Mutex<()>,
    rules: Rules,
    lifetime: u64,
}

impl AccessTokens {
    /// `lifetime` is in seconds.
    pub(crate) fn new(signer: Signer, issuer: String, lifetime: u64) -> Self {
        let rules = Rules { algorithm: signer.algorithm(), issuer, audience: AUDIENCE.to_owned() };
        Self { signer: RwLock::new(signer), changing: Mutex::default(), rules, lifetime }
    }

    fn signer(&self) -> RwLockReadGuard<'_, Signer> {
        self.signer.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn signer_to_change(&self) -> RwLockWriteGuard<'_, Signer> {
        self.signer.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The public keys; none with a shared secret.
    pub(crate) fn verifying_keys(&self) -> Vec<VerifyingKey> {
        self.signer().public()
    }

    pub(crate) fn signature(&self) -> Signature {
        self.rules.algorithm
    }

    /// A new key, which signs after `settle`; the one before verifies until `until`. Blocks for a disk write.
    pub(super) fn rotate(&self, until: u64) -> Result<String, KeyError> {
        let _alone = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        // Apart from the change itself: who verifies does not wait for the disk.
        let (rotated, kid) = self.signer().rotated(until, unix_now())?;
        *self.signer_to_change() = rotated;
        Ok(kid)
    }

    pub(super) fn settle(&self) {
        let _alone = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        self.signer_to_change().settle();
    }

    /// Forgets a key whose tokens have all expired; whether there was one.
    pub(super) fn forget(&self, now: u64) -> Result<bool, StateError> {
        let _alone = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let swept = self.signer().swept(now)?;
        let forgotten = swept.is_some();
        if let Some(swept) = swept {
            *self.signer_to_change() = swept;
        }
        Ok(forgotten)
    }

    pub(crate) fn issuer(&self) -> &str {
        &self.rules.issuer
    }

    pub(crate) fn lifetime(&self) -> u64 {
        self.lifetime
    }

    /// Signs a token of this session that begins now. Answers its claims too.
    pub(super) fn issue(
        &self,
        session: SessionId,
        login: &Login,
        now: u64,
    ) -> Result<(BearerToken, Claims), serde_json::Error> {
        let claims = Claims {
            iss: self.rules.issuer.clone(),
            aud: self.rules.audience.clone(),
            sub: login.subject.clone(),
            name: login.name.clone(),
            uid: login.uid,
            roles: vec![login.role],
            amr: vec![login.how.as_str().to_owned()],
            sid: session,
            jti: uuid::Uuid::new_v4().to_string(),
            iat: now,
            nbf: now,
            exp: now + self.lifetime,
            auth_time: login.auth_time,
        };
        let signer = self.signer();
        let by = (self.rules.algorithm, signer.kid());
        Ok((access_token::write(&claims, by, |text| signer.sign(text))?, claims))
    }

    /// The claims of a token of ours that is valid now.
    pub(crate) fn verify(&self, token: &BearerToken) -> Result<Claims, Fault> {
        let text = token.expose("its signature is verified");
        let verify =
            |kid: Option<&str>, text: &[u8], sig: &[u8]| self.signer().verify(kid, text, sig);
        let claims = access_token::read(text, &self.rules, verify);
        let claims = claims.and_then(|claims| claims.timely(unix_now(), 0).map(|()| claims));
        claims.map_err(|error| match error {
            TokenError::Expired => Fault::new(ErrorCode::TokenExpired, "the token has expired"),
            TokenError::Invalid(_) => Fault::new(ErrorCode::TokenInvalid, "the token is not valid"),
        })
    }
}

#[cfg(test)]
mod tests;
