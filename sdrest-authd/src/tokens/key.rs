//! The keys that sign access tokens. By default Ed25519 (RFC 8032, RFC 8037), made on first start and kept in the
//! state folder with mode 0600; after a rotation the one before goes on verifying until its last token has expired.
//! With a shared secret instead (HS256, RFC 7518) there is one key, and it is not public. Neither is ever sent
//! anywhere; only public halves leave this file.

use crate::{
    random,
    state_dir::{StateDir, StateError},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{
    Algorithm, DecodingKey, EncodingKey,
    jwk::{AlgorithmParameters, Jwk, ThumbprintHash},
};
use sdrest_proto::authd::VerifyingKey;
use std::sync::Arc;
use thiserror::Error;
use zeroize::Zeroizing;

const FILE: &str = "signing-key.der";
/// The PKCS #8 frame of an Ed25519 private key (RFC 8410, section 7): the 32 bytes of the seed follow.
const FRAME: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];
const LENGTH: usize = FRAME.len() + 32;

#[derive(Debug, Error)]
pub(crate) enum KeyError {
    #[error(transparent)]
    State(#[from] StateError),
    #[error("the signing key cannot be made: {0}")]
    Random(#[from] getrandom::Error),
    #[error(
        "the signing key in the state folder is not an Ed25519 key; restore {FILE} or remove it, which ends all sessions"
    )]
    Damaged,
    #[error("the signing key cannot be used: {0}")]
    Library(#[from] jsonwebtoken::errors::Error),
    #[error("the key before the present one verifies for {0} s more; only two keys are kept")]
    TooSoon(u64),
    #[error(
        "tokens are signed with a shared secret (HS256), which is changed in the configuration"
    )]
    NoRotation,
}

pub(crate) struct SigningKey {
    der: Zeroizing<Vec<u8>>,
    pub(super) encoding: EncodingKey,
    pub(super) decoding: DecodingKey,
    pub(super) public: VerifyingKey,
}

impl SigningKey {
    fn make() -> Result<Self, KeyError> {
        let mut der = Zeroizing::new(FRAME.to_vec());
        der.extend_from_slice(random::bytes()?.as_slice());
        tracing::info!("a new signing key was made");
        Self::from_der(der)
    }

    fn from_der(der: Zeroizing<Vec<u8>>) -> Result<Self, KeyError> {
        if der.len() != LENGTH || !der.starts_with(&FRAME) {
            return Err(KeyError::Damaged);
        }
        let encoding = EncodingKey::from_ed_der(&der);
        let jwk = Jwk::from_encoding_key(&encoding, Algorithm::EdDSA)?;
        let AlgorithmParameters::OctetKeyPair(pair) = &jwk.algorithm else {
            return Err(KeyError::Damaged);
        };
        let public = URL_SAFE_NO_PAD
            .decode(&pair.x)
            .ok()
            .and_then(|x| x.try_into().ok())
            .ok_or(KeyError::Damaged)?;
        let kid = jwk.thumbprint(ThumbprintHash::SHA256)?;
        let decoding = DecodingKey::from_ed_components(&pair.x)?;
        Ok(Self { der, encoding, decoding, public: VerifyingKey { kid, public } })
    }
}

/// The key before the present one, and until when it verifies.
#[derive(Clone)]
struct Previous {
    key: Arc<SigningKey>,
    until: u64,
}

/// The present key and, for a while after a rotation, the one before. One file holds both: the present key, then the
/// one before and its end in Unix seconds (u64, little-endian). A change makes another ring, which is on disk already.
#[derive(Clone)]
pub(crate) struct KeyRing {
    dir: StateDir,
    current: Arc<SigningKey>,
    previous: Option<Previous>,
    /// Whether front ends have had time to learn of the present key; until then the one before signs.
    settled: bool,
}

impl KeyRing {
    pub(crate) fn load_or_make(dir: &StateDir) -> Result<Self, KeyError> {
        let made = |current, previous| Self {
            dir: dir.clone(),
            current: Arc::new(current),
            previous,
            settled: true,
        };
        let Some(bytes) = dir.read(FILE)?.map(Zeroizing::new) else {
            return Ok(made(SigningKey::make()?, None).written()?);
        };
        let part = |range: std::ops::Range<usize>| {
            let der = bytes.get(range).ok_or(KeyError::Damaged)?;
            SigningKey::from_der(Zeroizing::new(der.to_vec()))
        };
        let current = part(0..LENGTH)?;
        if bytes.len() == LENGTH {
            return Ok(made(current, None));
        }
        let until = bytes.get(2 * LENGTH..).and_then(|end| end.try_into().ok());
        let until = u64::from_le_bytes(until.ok_or(KeyError::Damaged)?);
        let key = Arc::new(part(LENGTH..2 * LENGTH)?);
        Ok(made(current, Some(Previous { key, until })))
    }

    fn written(self) -> Result<Self, StateError> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(2 * LENGTH + 8));
        bytes.extend_from_slice(&self.current.der);
        if let Some(Previous { key, until }) = &self.previous {
            bytes.extend_from_slice(&key.der);
            bytes.extend_from_slice(&until.to_le_bytes());
        }
        self.dir.write(FILE, &bytes)?;
        Ok(self)
    }

    /// With a new key; the present one verifies until `until`, and signs until `settle`.
    fn rotated(&self, until: u64, now: u64) -> Result<Self, KeyError> {
        if let Some(previous) = self.previous.as_ref().filter(|previous| previous.until > now) {
            return Err(KeyError::TooSoon(previous.until.saturating_sub(now)));
        }
        let previous = Some(Previous { key: Arc::clone(&self.current), until });
        let (dir, current) = (self.dir.clone(), Arc::new(SigningKey::make()?));
        Ok(Self { dir, current, previous, settled: false }.written()?)
    }

    /// Without the key before the present one, if its time is over.
    fn swept(&self, now: u64) -> Result<Option<Self>, StateError> {
        if self.previous.as_ref().is_none_or(|previous| previous.until > now) {
            return Ok(None);
        }
        Self { previous: None, settled: true, ..self.clone() }.written().map(Some)
    }

    /// The keys that verify, the present one first.
    fn keys(&self) -> impl Iterator<Item = &SigningKey> {
        let previous = self.previous.as_ref().map(|previous| &*previous.key);
        std::iter::once(&*self.current).chain(previous)
    }

    fn signing(&self) -> &SigningKey {
        match &self.previous {
            Some(previous) if !self.settled => &previous.key,
            _ => &self.current,
        }
    }
}

/// A secret that other programs know too.
pub(crate) struct SharedSecret {
    encoding: EncodingKey,
    decoding: DecodingKey,
}

impl SharedSecret {
    pub(crate) fn new(secret: &[u8]) -> Self {
        Self {
            encoding: EncodingKey::from_secret(secret),
            decoding: DecodingKey::from_secret(secret),
        }
    }
}

/// What signs on this server: one algorithm.
pub(crate) enum Signer {
    EdDsa(KeyRing),
    Hs256(SharedSecret),
}

impl Signer {
    pub(super) fn algorithm(&self) -> Algorithm {
        match self {
            Self::EdDsa(_) => Algorithm::EdDSA,
            Self::Hs256(_) => Algorithm::HS256,
        }
    }

    /// What signs now, and its id.
    pub(super) fn signing(&self) -> (&EncodingKey, Option<&str>) {
        match self {
            Self::EdDsa(ring) => {
                let key = ring.signing();
                (&key.encoding, Some(&key.public.kid))
            }
            Self::Hs256(secret) => (&secret.encoding, None),
        }
    }

    /// What verifies a token that names this key: one of ours, or nothing.
    pub(super) fn verifying(&self, kid: Option<&str>) -> Option<&DecodingKey> {
        match self {
            Self::EdDsa(ring) => ring
                .keys()
                .find(|key| Some(key.public.kid.as_str()) == kid)
                .map(|key| &key.decoding),
            Self::Hs256(secret) => kid.is_none().then_some(&secret.decoding),
        }
    }

    pub(super) fn public(&self) -> Vec<VerifyingKey> {
        match self {
            Self::EdDsa(ring) => ring.keys().map(|key| key.public.clone()).collect(),
            Self::Hs256(_) => Vec::new(),
        }
    }

    /// What signs and verifies after a rotation, and the id of its new key.
    pub(super) fn rotated(&self, until: u64, now: u64) -> Result<(Self, String), KeyError> {
        match self {
            Self::EdDsa(ring) => {
                let ring = ring.rotated(until, now)?;
                let kid = ring.current.public.kid.clone();
                Ok((Self::EdDsa(ring), kid))
            }
            Self::Hs256(_) => Err(KeyError::NoRotation),
        }
    }

    pub(super) fn settle(&mut self) {
        if let Self::EdDsa(ring) = self {
            ring.settled = true;
        }
    }

    /// What is left once a key's time is over; nothing while none's is.
    pub(super) fn swept(&self, now: u64) -> Result<Option<Self>, StateError> {
        match self {
            Self::EdDsa(ring) => Ok(ring.swept(now)?.map(Self::EdDsa)),
            Self::Hs256(_) => Ok(None),
        }
    }
}
