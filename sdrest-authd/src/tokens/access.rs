//! Access tokens: JWTs signed with EdDSA, or with HS256 where the administrator gave a secret; header typ `at+jwt`
//! (RFC 9068), claims as in proto. Verification asks for everything: algorithm, key id, type, issuer, audience, exp
//! and nbf. A token's header chooses among our own keys of the one algorithm, and nothing else.

use super::{
    key::{KeyError, Signer},
    sessions::Login,
};
use crate::audit::unix_now;
use crate::state_dir::StateError;
use jsonwebtoken::{Header, Validation, errors::ErrorKind};
use sdrest_proto::{
    authd::{Claims, Signature, VerifyingKey},
    error::{ErrorCode, Fault},
    id::SessionId,
    secret::BearerToken,
};
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

const TYPE: &str = "at+jwt";
/// `aud` of every token.
pub(crate) const AUDIENCE: &str = "sdrest";

/// Signs and verifies.
pub(crate) struct AccessTokens {
    signer: RwLock<Signer>,
    /// Held by who changes what signs, while that is written.
    changing: Mutex<()>,
    issuer: String,
    lifetime: u64,
    validation: Validation,
}

impl AccessTokens {
    /// `lifetime` is in seconds.
    pub(crate) fn new(signer: Signer, issuer: String, lifetime: u64) -> Self {
        let mut validation = Validation::new(signer.algorithm());
        validation.set_audience(&[AUDIENCE]);
        validation.set_issuer(&[&issuer]);
        validation.set_required_spec_claims(&["exp", "nbf", "iss", "aud", "sub"]);
        validation.validate_nbf = true;
        validation.leeway = 0;
        Self {
            signer: RwLock::new(signer),
            changing: Mutex::default(),
            issuer,
            lifetime,
            validation,
        }
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
        match &*self.signer() {
            Signer::EdDsa(_) => Signature::EdDsa,
            Signer::Hs256(_) => Signature::Hs256,
        }
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
        &self.issuer
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
    ) -> Result<(BearerToken, Claims), jsonwebtoken::errors::Error> {
        let claims = Claims {
            iss: self.issuer.clone(),
            aud: AUDIENCE.to_owned(),
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
        let (key, kid) = signer.signing();
        let mut header = Header::new(signer.algorithm());
        header.typ = Some(TYPE.to_owned());
        header.kid = kid.map(str::to_owned);
        let token = jsonwebtoken::encode(&header, &claims, key)?;
        Ok((BearerToken::new(token), claims))
    }

    /// The claims of a token of ours that is valid now.
    pub(crate) fn verify(&self, token: &BearerToken) -> Result<Claims, Fault> {
        let text = token.expose("its signature is verified");
        let header = jsonwebtoken::decode_header(text).map_err(|_| invalid())?;
        let signer = self.signer();
        let key = signer.verifying(header.kid.as_deref()).ok_or_else(invalid)?;
        let data = jsonwebtoken::decode::<Claims>(text, key, &self.validation).map_err(
            |error| match error.kind() {
                ErrorKind::ExpiredSignature => {
                    Fault::new(ErrorCode::TokenExpired, "the token has expired")
                }
                _ => invalid(),
            },
        )?;
        if data.header.typ.as_deref() != Some(TYPE) {
            return Err(invalid());
        }
        Ok(data.claims)
    }
}

fn invalid() -> Fault {
    Fault::new(ErrorCode::TokenInvalid, "the token is not valid")
}

#[cfg(test)]
mod tests;
