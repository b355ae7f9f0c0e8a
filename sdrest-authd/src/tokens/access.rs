//! Access tokens: JWTs signed with EdDSA, header typ `at+jwt` (RFC 9068), claims as in proto. Verification asks
//! for everything: algorithm, key id, type, issuer, audience, exp and nbf. Nothing in a token's header chooses how
//! it is verified.

use super::key::SigningKey;
use crate::audit::unix_now;
use jsonwebtoken::{Algorithm, Header, Validation, errors::ErrorKind};
use sdrest_proto::{
    authd::{Claims, VerifyingKey},
    error::{ErrorCode, Fault},
    id::SessionId,
    identity::{Role, Subject},
    secret::BearerToken,
};

const TYPE: &str = "at+jwt";
/// `aud` of every token.
pub(crate) const AUDIENCE: &str = "sdrest";

/// Signs and verifies.
pub(crate) struct AccessTokens {
    key: SigningKey,
    issuer: String,
    lifetime: u64,
    validation: Validation,
}

/// Whom a token is for.
pub(super) struct Holder<'a> {
    pub(super) subject: &'a Subject,
    pub(super) name: &'a str,
    pub(super) uid: Option<u32>,
    pub(super) role: Role,
    pub(super) session: SessionId,
    pub(super) auth_time: u64,
}

impl AccessTokens {
    /// `lifetime` is in seconds.
    pub(crate) fn new(key: SigningKey, issuer: String, lifetime: u64) -> Self {
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_audience(&[AUDIENCE]);
        validation.set_issuer(&[&issuer]);
        validation.set_required_spec_claims(&["exp", "nbf", "iss", "aud", "sub"]);
        validation.validate_nbf = true;
        validation.leeway = 0;
        Self { key, issuer, lifetime, validation }
    }

    pub(crate) fn verifying_key(&self) -> VerifyingKey {
        self.key.public.clone()
    }

    pub(crate) fn issuer(&self) -> &str {
        &self.issuer
    }

    pub(crate) fn lifetime(&self) -> u64 {
        self.lifetime
    }

    /// Signs a token that begins now. Answers its claims too.
    pub(super) fn issue(
        &self,
        holder: &Holder<'_>,
    ) -> Result<(BearerToken, Claims), jsonwebtoken::errors::Error> {
        let now = unix_now();
        let claims = Claims {
            iss: self.issuer.clone(),
            aud: AUDIENCE.to_owned(),
            sub: holder.subject.clone(),
            name: holder.name.to_owned(),
            uid: holder.uid,
            roles: vec![holder.role],
            amr: vec!["pam".to_owned()],
            sid: holder.session,
            jti: uuid::Uuid::new_v4().to_string(),
            iat: now,
            nbf: now,
            exp: now + self.lifetime,
            auth_time: holder.auth_time,
        };
        let mut header = Header::new(Algorithm::EdDSA);
        header.typ = Some(TYPE.to_owned());
        header.kid = Some(self.key.public.kid.clone());
        let token = jsonwebtoken::encode(&header, &claims, &self.key.encoding)?;
        Ok((BearerToken::new(token), claims))
    }

    /// The claims of a token of ours that is valid now.
    pub(crate) fn verify(&self, token: &BearerToken) -> Result<Claims, Fault> {
        let text = token.expose("its signature is verified");
        let data = jsonwebtoken::decode::<Claims>(text, &self.key.decoding, &self.validation)
            .map_err(|error| match error.kind() {
                ErrorKind::ExpiredSignature => {
                    Fault::new(ErrorCode::TokenExpired, "the token has expired")
                }
                _ => invalid(),
            })?;
        let header = data.header;
        if header.typ.as_deref() != Some(TYPE)
            || header.kid.as_deref() != Some(&self.key.public.kid)
        {
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
