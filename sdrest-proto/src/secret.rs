//! Secrets that cannot be printed, cloned or left behind in memory. Reading one takes `expose`, which says
//! why in its argument; the argument is only there so that a search finds every place with its reason.

use serde::{Deserialize, Serialize};
use std::fmt;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

macro_rules! secret {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            pub fn new(text: String) -> Self {
                Self(text)
            }

            /// The text itself; `_why` is for the reader of the code.
            pub fn expose(&self, _why: &'static str) -> &str {
                &self.0
            }

            pub fn is_empty(&self) -> bool {
                self.0.is_empty()
            }

            /// Length in bytes.
            pub fn len(&self) -> usize {
                self.0.len()
            }

            /// Whether both are the same, in a time that does not depend on where they differ.
            pub fn matches(&self, other: &Self) -> bool {
                self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(…)"))
            }
        }
    };
}

secret!(/// What a person answered to a PAM prompt: a password or a one-time code.
    Answer);
secret!(/// An access token as it travels in `Authorization: Bearer`.
    BearerToken);
secret!(/// The opaque token that buys the next access token.
    RefreshToken);
secret!(/// An API key as it travels in `X-API-Key` or `Authorization: Bearer`.
    ApiKey);
secret!(/// 256 random bits that prove who began a conversation (header `X-Sdrest-Conversation`).
    ConversationSecret);

impl Answer {
    /// PAM_MAX_RESP_SIZE of <security/_pam_types.h> is 512, with the closing NUL.
    pub const MAX_BYTES: usize = 511;
}
