//! The Ed25519 key that signs access tokens (RFC 8032, RFC 8037). Made on first start, kept in the state folder
//! with mode 0600, never sent anywhere; only its public half leaves this file.

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
}

pub(crate) struct SigningKey {
    pub(super) encoding: EncodingKey,
    pub(super) decoding: DecodingKey,
    pub(super) public: VerifyingKey,
}

impl SigningKey {
    pub(crate) fn load_or_make(dir: &StateDir) -> Result<Self, KeyError> {
        let der = match dir.read(FILE)? {
            Some(der) => Zeroizing::new(der),
            None => {
                let mut der = Zeroizing::new(FRAME.to_vec());
                der.extend_from_slice(random::bytes()?.as_slice());
                dir.write(FILE, &der)?;
                tracing::info!("a new signing key was made");
                der
            }
        };
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
        Ok(Self { encoding, decoding, public: VerifyingKey { kid, public } })
    }
}
