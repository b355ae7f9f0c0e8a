//! The keys that sign access tokens. By default Ed25519 (RFC 8032, RFC 8037), made on first start and kept in the
//! state folder with mode 0600; after a rotation the one before goes on verifying until its last token has expired.
//! With a shared secret instead (HS256, RFC 7518) there is one key, and it is not public. Neither is ever sent
//! anywhere; only public halves leave this file.

use crate::{
    random,
    state_dir::{StateDir, StateError},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ed25519_dalek::Signer as _;
use hmac::{Hmac, KeyInit, Mac, digest::InvalidLength};
use sdrest_proto::{
    access_token::TokenError,
    authd::{Signature, VerifyingKey},
};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use thiserror::Error;
use zeroize::Zeroizing;

const FILE: &str = "signing-key.der";
/// The PKCS #8 frame of an Ed25519 private key (RFC 8410, section 7): the 32 bytes of the seed follow.
const FRAME: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];
const LENGTH: usize = FRAME.len() + ed25519_dalek::SECRET_KEY_LENGTH;

#[derive(Debug, Error)]
pub(crate) enum KeyError {
    #[error(transparent)]
    State(#[from] StateError),
    #[error("the signing key cannot be made: {0}")]
    Random(#[from] getrandom::Error),
    #[error("the secret cannot be used: {0}")]
    Secret(#[from] InvalidLength),
    #[error(
        "the signing key in the state folder is not an Ed25519 key; restore {FILE}, or remove it, which ends all access tokens; who also removes logins.json ends all sessions"
    )]
    Damaged,
    #[error("the key before the present one verifies for {0} s more; only two keys are kept")]
    TooSoon(u64),
    #[error(
        "tokens are signed with a shared secret (HS256), which is changed in the configuration"
    )]
    NoRotation,
}

/// One key, of one algorithm.
enum Key {
    EdDsa {
        secret: ed25519_dalek::SigningKey,
        public: VerifyingKey,
    },
    /// Keyed with a secret that other programs know too.
    Hs256(Hmac<Sha256>),
}

impl Key {
    fn make() -> Result<Self, KeyError> {
        tracing::info!("a new signing key is made");
        Ok(Self::from_seed(&*random::bytes()?))
    }

    fn from_seed(seed: &[u8; 32]) -> Self {
        let secret = ed25519_dalek::SigningKey::from_bytes(seed);
        let public = secret.verifying_key().to_bytes();
        Self::EdDsa { secret, public: VerifyingKey { kid: thumbprint(&public), public } }
    }

    fn from_der(der: &[u8]) -> Result<Self, KeyError> {
        let seed = der.strip_prefix(&FRAME).and_then(|seed| seed.try_into().ok());
        Ok(Self::from_seed(seed.ok_or(KeyError::Damaged)?))
    }

    /// What is kept of it: nothing of a secret that is not ours.
    fn der(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(match self {
            Self::EdDsa { secret, .. } => [FRAME.as_slice(), secret.as_bytes()].concat(),
            Self::Hs256(_) => Vec::new(),
        })
    }

    fn public(&self) -> Option<&VerifyingKey> {
        match self {
            Self::EdDsa { public, .. } => Some(public),
            Self::Hs256(_) => None,
        }
    }

    fn kid(&self) -> Option<&str> {
        self.public().map(|public| public.kid.as_str())
    }

    fn sign(&self, text: &[u8]) -> Vec<u8> {
        match self {
            Self::EdDsa { secret, .. } => secret.sign(text).to_vec(),
            Self::Hs256(mac) => mac.clone().chain_update(text).finalize().into_bytes().to_vec(),
        }
    }

    fn signed(&self, text: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::EdDsa { secret, .. } => ed25519_dalek::Signature::from_slice(signature)
                .is_ok_and(|signature| secret.verify(text, &signature).is_ok()),
            Self::Hs256(mac) => mac.clone().chain_update(text).verify_slice(signature).is_ok(),
        }
    }
}

/// The SHA-256 of the public key's JSON Web Key in its canonical form (RFC 7638, RFC 8037).
fn thumbprint(public: &[u8]) -> String {
    let x = URL_SAFE_NO_PAD.encode(public);
    let jwk = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#);
    URL_SAFE_NO_PAD.encode(Sha256::digest(jwk))
}

/// The present key and, for a while after a rotation, the one before with its end in Unix seconds. One file holds
/// both, the end as a u64 in little-endian. A change makes another signer, which is on disk already.
#[derive(Clone)]
pub(crate) struct Signer {
    dir: StateDir,
    current: Arc<Key>,
    previous: Option<(Arc<Key>, u64)>,
    /// Whether front ends have had time to learn of the present key; until then the one before signs.
    settled: bool,
}

impl Signer {
    /// With HS256 and this secret, or with EdDSA and the keys in the state folder, which are made at the first start.
    pub(crate) fn load(dir: &StateDir, secret: Option<&[u8]>) -> Result<Self, KeyError> {
        let signer = |(current, previous): (_, Option<(_, u64)>)| {
            let previous = previous.map(|(key, until)| (Arc::new(key), until));
            Self { dir: dir.clone(), current: Arc::new(current), previous, settled: true }
        };
        if let Some(secret) = secret {
            return Ok(signer((Key::Hs256(Hmac::new_from_slice(secret)?), None)));
        }
        match dir.read(FILE)?.map(Zeroizing::new) {
            Some(bytes) => read(&bytes).map(signer),
            None => Ok(signer((Key::make()?, None)).written()?),
        }
    }

    fn written(self) -> Result<Self, StateError> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(2 * LENGTH + size_of::<u64>()));
        bytes.extend_from_slice(&self.current.der());
        if let Some((key, until)) = &self.previous {
            bytes.extend_from_slice(&key.der());
            bytes.extend_from_slice(&until.to_le_bytes());
        }
        self.dir.write(FILE, &bytes)?;
        Ok(self)
    }

    /// With a new key, and its id; the present one verifies until `until`, and signs until `settled`.
    pub(super) fn rotated(&self, until: u64, now: u64) -> Result<(Self, String), KeyError> {
        if let Some((_, until)) = self.previous.as_ref().filter(|(_, until)| *until > now) {
            return Err(KeyError::TooSoon(until.saturating_sub(now)));
        }
        self.current.public().ok_or(KeyError::NoRotation)?;
        let (dir, current) = (self.dir.clone(), Arc::new(Key::make()?));
        let kid = current.kid().unwrap_or_default().to_owned();
        let previous = Some((Arc::clone(&self.current), until));
        Ok((Self { dir, current, previous, settled: false }.written()?, kid))
    }

    pub(super) fn settle(&mut self) {
        self.settled = true;
    }

    /// Without the key before the present one; nothing while its time is not over.
    pub(super) fn swept(&self, now: u64) -> Result<Option<Self>, StateError> {
        if self.previous.as_ref().is_none_or(|(_, until)| *until > now) {
            return Ok(None);
        }
        Self { previous: None, settled: true, ..self.clone() }.written().map(Some)
    }

    /// The keys that verify, the present one first.
    fn keys(&self) -> impl Iterator<Item = &Key> {
        let previous = self.previous.as_ref().map(|(key, _)| &**key);
        std::iter::once(&*self.current).chain(previous)
    }

    fn signing(&self) -> &Key {
        match &self.previous {
            Some((previous, _)) if !self.settled => previous,
            _ => &self.current,
        }
    }

    pub(super) fn algorithm(&self) -> Signature {
        match &*self.current {
            Key::EdDsa { .. } => Signature::EdDsa,
            Key::Hs256(_) => Signature::Hs256,
        }
    }

    /// The id of the key that signs now.
    pub(super) fn kid(&self) -> Option<&str> {
        self.signing().kid()
    }

    pub(super) fn sign(&self, text: &[u8]) -> Vec<u8> {
        self.signing().sign(text)
    }

    /// Whether one of our keys, which the token names, signed this text.
    pub(super) fn verify(
        &self,
        kid: Option<&str>,
        text: &[u8],
        signature: &[u8],
    ) -> Result<(), TokenError> {
        let key = self.keys().find(|key| key.kid() == kid);
        let signed = key.filter(|key| key.signed(text, signature));
        signed.map(drop).ok_or(TokenError::Invalid("no key of ours signed it"))
    }

    pub(super) fn public(&self) -> Vec<VerifyingKey> {
        self.keys().filter_map(Key::public).cloned().collect()
    }
}

/// What a file of keys holds.
fn read(bytes: &[u8]) -> Result<(Key, Option<(Key, u64)>), KeyError> {
    let (current, rest) = bytes.split_at_checked(LENGTH).ok_or(KeyError::Damaged)?;
    let current = Key::from_der(current)?;
    if rest.is_empty() {
        return Ok((current, None));
    }
    let (previous, until) = rest.split_at_checked(LENGTH).ok_or(KeyError::Damaged)?;
    let until = u64::from_le_bytes(until.try_into().map_err(|_| KeyError::Damaged)?);
    Ok((current, Some((Key::from_der(previous)?, until))))
}
