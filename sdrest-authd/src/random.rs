//! Random numbers from the kernel (getrandom(2)).

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

/// 256 bits.
pub(crate) fn bytes() -> Result<Zeroizing<[u8; 32]>, getrandom::Error> {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(bytes.as_mut_slice())?;
    Ok(bytes)
}

/// 256 bits as base64url: 43 characters.
pub(crate) fn text() -> Result<String, getrandom::Error> {
    Ok(URL_SAFE_NO_PAD.encode(bytes()?.as_slice()))
}
