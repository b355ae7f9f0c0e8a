//! Logins in progress: the table that bounds them, one driver task for each, the link to its program and the
//! frames on it. Nothing here may issue a token: a finished login is a `VerifiedAccount`, which only this room
//! can make.

mod driver;
mod entry;
mod frames;
mod link;
mod outcome;
mod pacing;
mod questions;
mod slots;
mod surroundings;
mod table;

pub(crate) use entry::{Begin, Entry, State, UntilAsked};
pub(crate) use link::{ConversationSocket, Probed};
pub(crate) use outcome::{Candidate, KnownAccount, VerifiedAccount, Vouched, denied};
pub(crate) use pacing::{PASSWORD_PROMPT, Pacing, milliseconds};
pub(crate) use questions::Questions;
pub(crate) use slots::Slots;
pub(crate) use surroundings::{PamWay, Surroundings};
pub(crate) use table::{Backend, Limits, Table, gone};
