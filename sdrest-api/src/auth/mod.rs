//! Who a caller is and what that caller may do. Everything begins with `Gate`, which stands before every
//! route of the table and is the only maker of a `User`; handlers get at it through `Authenticated<User>`
//! and `Permit<…>`, neither of which can be made anywhere else. A handler that forgets them has nobody to
//! submit as.
//!
//! Tokens are verified here with authd's public keys, or by authd itself; nothing in this process could sign
//! one.

mod confirmed;
mod credential;
mod extract;
mod gate;
mod job_secret;
mod known_tokens;
mod permit;
mod policies;
mod policy;
mod public_paths;
mod user;
mod verifier;
mod voucher;

pub use credential::{Credential, credential, token};
pub use extract::Authenticated;
pub use gate::{Access, Gate, Opening, Rule, gate};
pub use job_secret::{JobSecrets, Viewer};
pub use permit::{Allows, Generate, Permit};
pub use policies::Policies;
pub use policy::Policy;
pub use public_paths::PublicPaths;
pub use user::User;
pub use verifier::{KeyError, Verifier};
pub use voucher::Voucher;
