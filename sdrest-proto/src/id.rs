//! Typed identifiers, so that a job's id can never be taken for a picture's. Version 7 (RFC 9562) where
//! order of creation matters, version 4 where an id must not tell when it was made.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};
use uuid::Uuid;

macro_rules! typed_id {
    ($(#[$doc:meta])* $name:ident, $new:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// A fresh one.
            pub fn random() -> Self {
                Self(Uuid::$new())
            }

            /// The id with these bytes.
            pub fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }

            pub fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.as_hyphenated().fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(text).map(Self)
            }
        }
    };
}

typed_id!(/// One accepted generation request. Ordered by the time of acceptance.
    JobId, now_v7);
typed_id!(/// One finished picture.
    ImageId, now_v7);
typed_id!(/// One PAM conversation. Not a secret: it may reach a proxy's log.
    ConversationId, new_v4);
typed_id!(/// One HTTP request, carried through every process and log line that serves it.
    RequestId, new_v4);
typed_id!(/// One login and all tokens that follow from it (`sid`).
    SessionId, new_v4);
typed_id!(/// One API key: its public half, which lists and revocations name.
    KeyId, new_v4);
typed_id!(/// One record of the internal user database.
    UserId, new_v4);

/// How often a job has been handed to a worker: the fencing token. A result that carries an older
/// attempt than the store's is refused, so a job never records two results.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Attempt(pub u32);

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
