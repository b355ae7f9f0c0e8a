//! Logins in progress: the table that bounds them, one driver task for each, the link to its program and the
//! frames on it. Nothing here may issue a token: a finished login is a `VerifiedAccount`, which only this room
//! can make.

mod driver;
mod entry;
mod frames;
mod link;
mod outcome;
mod pacing;
mod slots;
mod table;

pub(crate) use entry::{Entry, State, UntilAsked};
pub(crate) use link::{ConversationSocket, LinkError};
pub(crate) use outcome::VerifiedAccount;
pub(crate) use pacing::{PASSWORD_PROMPT, Pacing};
pub(crate) use table::{Begin, Limits, Table, gone};
