//! SHA-256 (FIPS 180-4) of what must not be kept itself, whole or its first bytes; on disk as base64url.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Digest<const N: usize>([u8; N]);

impl<const N: usize> From<Sha256> for Digest<N> {
    fn from(hashed: Sha256) -> Self {
        let bytes = hashed.finalize();
        Self(std::array::from_fn(|at| bytes.get(at).copied().unwrap_or_default()))
    }
}

impl<const N: usize> From<Digest<N>> for String {
    fn from(digest: Digest<N>) -> String {
        URL_SAFE_NO_PAD.encode(digest.0)
    }
}

impl<const N: usize> TryFrom<String> for Digest<N> {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or_else(|| format!("a digest must be {N} bytes as base64url"))
    }
}
