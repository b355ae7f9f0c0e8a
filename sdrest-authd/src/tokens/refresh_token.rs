//! How refresh tokens are written: the id of their session, 256 random bits that all tokens of the session share, and
//! 256 of each token's own, as base64url. authd keeps the SHA-256 of both secrets and nothing else: the shared one
//! proves that a token is one of the session's however long ago it was spent, and nobody who merely knows the id can
//! make one up.

use crate::random;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sdrest_proto::{id::SessionId, secret::RefreshToken};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

const ID: usize = 16;
const SECRET: usize = 32;
const LENGTH: usize = ID + 2 * SECRET;

/// A SHA-256, on disk as base64url.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(super) struct Hash([u8; 32]);

impl Hash {
    fn of(secret: &[u8]) -> Self {
        Self(Sha256::digest(secret).into())
    }
}

impl From<Hash> for String {
    fn from(hash: Hash) -> String {
        URL_SAFE_NO_PAD.encode(hash.0)
    }
}

impl TryFrom<String> for Hash {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or("a hash must be 32 bytes as base64url")
    }
}

type Secret = Zeroizing<[u8; SECRET]>;

/// What a token says.
#[derive(Clone)]
pub(super) struct Shown {
    pub(super) id: SessionId,
    pub(super) family: Hash,
    pub(super) own: Hash,
    secrets: (Secret, Secret),
}

impl Shown {
    /// Nothing where it is not written as tokens are.
    pub(super) fn read(token: &RefreshToken) -> Option<Self> {
        let text = token.expose("it is taken apart");
        let mut bytes = Zeroizing::new([0; LENGTH]);
        let length = URL_SAFE_NO_PAD.decode_slice(text, bytes.as_mut_slice()).ok()?;
        let (id, secrets) = bytes.split_first_chunk()?;
        let (family, own) = secrets.split_first_chunk()?;
        let secrets = (Secret::new(*family), Secret::new(*own.first_chunk()?));
        (length == LENGTH).then(|| Self::of(SessionId::from_bytes(*id), secrets))
    }

    fn of(id: SessionId, secrets: (Secret, Secret)) -> Self {
        let (family, own) = (Hash::of(secrets.0.as_slice()), Hash::of(secrets.1.as_slice()));
        Self { id, family, own, secrets }
    }

    /// The first token of a session.
    pub(super) fn first(id: SessionId) -> Result<Self, getrandom::Error> {
        Ok(Self::of(id, (random::bytes()?, random::bytes()?)))
    }

    /// Another token of the same session.
    pub(super) fn successor(&self) -> Result<Self, getrandom::Error> {
        Ok(Self::of(self.id, (self.secrets.0.clone(), random::bytes()?)))
    }

    pub(super) fn token(&self) -> RefreshToken {
        let mut bytes = Zeroizing::new(Vec::with_capacity(LENGTH));
        for part in
            [self.id.as_bytes().as_slice(), self.secrets.0.as_slice(), self.secrets.1.as_slice()]
        {
            bytes.extend_from_slice(part);
        }
        RefreshToken::new(URL_SAFE_NO_PAD.encode(bytes.as_slice()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_of_one_session_share_their_family_and_nothing_else_is_one() {
        let id = SessionId::random();
        let first = Shown::first(id).unwrap();
        let second = first.successor().unwrap();
        assert!(first.family == second.family && first.own != second.own);
        assert!(Shown::first(id).unwrap().family != first.family);
        let read = Shown::read(&second.token()).unwrap();
        assert!(read.id == id && read.family == second.family && read.own == second.own);
        let text = second.token().expose("test").to_owned();
        for bad in ["", "cmVmcmVzaA", &text[1..], &format!("{text}A"), &"A".repeat(100_000)] {
            assert!(Shown::read(&RefreshToken::new(bad.to_owned())).is_none(), "{bad}");
        }
    }
}
