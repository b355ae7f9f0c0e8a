//! How refresh tokens are written: the id of their session, 256 random bits that all tokens of the session share, and
//! 256 of each token's own, as base64url. authd keeps the SHA-256 of both secrets and nothing else: the shared one
//! proves that a token is one of the session's however long ago it was spent, and nobody who merely knows the id can
//! make one up.

use crate::{digest::Digest, random};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sdrest_proto::{id::SessionId, secret::RefreshToken};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

const ID: usize = 16;
const SECRET: usize = 32;
const LENGTH: usize = ID + 2 * SECRET;

type Secret = Zeroizing<[u8; SECRET]>;
pub(super) type Hash = Digest<32>;

fn hash(secret: &Secret) -> Hash {
    Sha256::new_with_prefix(secret.as_slice()).into()
}

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
        let (family, own) = (hash(&secrets.0), hash(&secrets.1));
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
