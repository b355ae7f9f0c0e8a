//! The words that sdrest's processes share: ids, bounded values, secrets, requests, events, and the two
//! tarpc services. Wire types validate while they are decoded, so that a process never has to trust the
//! one at the other end. Nothing here does I/O but `transport`, and nothing here may name a tensor, a
//! PAM handle or an HTTP type.
//!
//! With the feature `rpc` (default) come the services and the transport. The conversation program turns
//! it off, and so links no async runtime.
#![forbid(unsafe_code)]

pub mod bounds;
pub mod conversation;
pub mod error;
pub mod event;
pub mod generation;
pub mod health;
pub mod id;
pub mod identity;
pub mod image;
pub mod login;
pub mod model;
pub mod sampling;
pub mod secret;

#[cfg(feature = "tokens")]
pub mod access_token;
#[cfg(feature = "rpc")]
pub mod accounts;
#[cfg(feature = "rpc")]
pub mod api_key;
#[cfg(feature = "rpc")]
pub mod authd;
#[cfg(feature = "rpc")]
pub mod codec;
#[cfg(feature = "configuration")]
pub mod configuration;
#[cfg(feature = "rpc")]
pub mod transport;
#[cfg(feature = "rpc")]
pub mod worker;

/// The version of everything that crosses a socket. It changes when any wire type does: the processes of
/// one installation are built together, and a mismatch is refused at `hello` with both numbers named.
pub const PROTOCOL: u32 = 3;

/// What this build calls itself, in `hello`, health answers and the `Version` of a picture.
pub const BUILD: &str = concat!("sdrest ", env!("CARGO_PKG_VERSION"));
