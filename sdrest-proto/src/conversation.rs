//! The frames between authd and one conversation program: a length (u32, little-endian), then bincode.
//! One connection is one login. authd opens with `Start`; the program speaks until `Verdict`, which is
//! its last word. Both sides treat the other as hostile: frames are capped, and a frame out of order ends
//! the login.
//!
//! This file has no I/O of its own runtime: the program reads blocking, authd reads with tokio.

use crate::{
    login::{Echo, MessageStyle},
    secret::Answer,
};
use bincode::Options;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::io::{self, Read, Write};

/// The largest frame, in bytes: 32 prompts of 4 KiB and change.
pub const MAX_FRAME: usize = 256 * 1024;
/// PAM_MAX_NUM_MSG of <security/_pam_types.h>.
pub const MAX_MESSAGES: usize = 32;
/// The longest text of one message that is passed on, in bytes; longer ones are cut at a character.
pub const MAX_TEXT: usize = 4096;
/// The bytes of all texts of one login.
pub const MAX_TEXT_TOTAL: usize = 64 * 1024;

/// What authd says.
#[derive(Debug, Serialize, Deserialize)]
pub enum ToConversation {
    /// The first frame: run this login.
    Start(Start),
    /// The first frame, instead: say whether logins can run at all, and end.
    Probe { service: Option<String> },
    /// The first frame, instead: look an account up, and end.
    Account(AccountQuery),
    /// The first frame, instead: compare a password with a record of the internal user database, and end.
    Verify { phc: String, password: Answer },
    /// The first frame, instead: make the record for a new password, and end.
    Hash { password: Answer },
    /// One answer for each prompt of the last `Prompts`.
    Answers(Vec<Answer>),
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Start {
    /// The PAM service: a file of this name in /etc/pam.d.
    pub service: String,
    pub username: String,
    /// PAM_RHOST: an IP address, or nothing.
    pub rhost: Option<String>,
    /// The longest time without a frame from authd while prompts are open, in milliseconds.
    pub step_deadline_ms: u32,
    /// The longest life of the whole program, in milliseconds.
    pub total_deadline_ms: u32,
    pub purpose: Purpose,
}

/// What a PAM transaction is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Purpose {
    /// authenticate → acct_mgmt.
    SignIn,
    /// authenticate → acct_mgmt says that the password has expired → chauthtok → acct_mgmt, in one handle. Only a
    /// program that was started with `--change-expired` does this.
    ChangeExpired,
}

/// What the account database says of somebody, without a password.
#[derive(Debug, Serialize, Deserialize)]
pub struct AccountQuery {
    pub who: AccountKey,
    /// With a PAM service, acct_mgmt is asked too; a module that wants to ask a person is a refusal.
    pub service: Option<String>,
    pub deadline_ms: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AccountKey {
    Name(String),
    Uid(u32),
}

/// What the program says.
#[derive(Debug, Serialize, Deserialize)]
pub enum FromConversation {
    /// Text that asks nothing; passed on at once.
    Message {
        style: MessageStyle,
        text: String,
    },
    /// Text that asks; the module waits for as many answers.
    Prompts(Vec<Prompt>),
    Verdict(Verdict),
    /// The answer to `Probe`: nothing, or why logins cannot run; and whether PAM is built in.
    Probed {
        fault: Option<String>,
        pam: bool,
    },
    /// The answer to `Verify`.
    Compared {
        matches: bool,
    },
    /// The answer to `Hash`: a PHC string (argon2id).
    Hashed {
        phc: String,
    },
}

impl FromConversation {
    /// The bytes of what a person is to read.
    pub fn text_bytes(&self) -> usize {
        match self {
            Self::Message { text, .. } => text.len(),
            Self::Prompts(prompts) => prompts.iter().map(|prompt| prompt.text.len()).sum(),
            Self::Verdict(_)
            | Self::Probed { .. }
            | Self::Compared { .. }
            | Self::Hashed { .. } => 0,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prompt {
    pub echo: Echo,
    pub text: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// authenticate and acct_mgmt both succeeded, and PAM_USER was read again in between.
    Verified(AccountFacts),
    Denied {
        denial: Denial,
        pam_code: i32,
    },
}

/// What NSS says of the account that PAM vouched for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountFacts {
    /// PAM_USER after authenticate, not the name that was typed.
    pub username: String,
    pub uid: u32,
    pub gid: u32,
    /// Names of all groups (getgrouplist), the primary one included. A failed lookup is a failed login.
    pub groups: Vec<String>,
}

/// Why not. Everything that authenticate itself says is `AuthErr`; the account codes come from acct_mgmt,
/// after a correct password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Denial {
    AuthErr,
    AcctExpired,
    NewAuthtokReqd,
    AcctDenied,
    /// PAM, the service file or the account database cannot be used.
    Unavailable,
    /// A deadline passed.
    Timeout,
    /// An answer never came: the caller went away.
    Cancelled,
}

fn options() -> impl Options {
    bincode::DefaultOptions::new().with_limit(MAX_FRAME as u64)
}

/// The body of a frame, without its length.
pub fn encode<T: Serialize>(frame: &T) -> io::Result<Vec<u8>> {
    options().serialize(frame).map_err(io::Error::other)
}

/// Reads a body; trailing bytes are an error.
pub fn decode<T: DeserializeOwned>(body: &[u8]) -> io::Result<T> {
    options().deserialize(body).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Writes one frame and flushes.
pub fn write_frame<T: Serialize>(to: &mut impl Write, frame: &T) -> io::Result<()> {
    let body = encode(frame)?;
    let length = u32::try_from(body.len()).map_err(io::Error::other)?;
    let mut bytes = Vec::with_capacity(4 + body.len());
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&body);
    to.write_all(&bytes)?;
    to.flush()
}

/// Reads one frame. `UnexpectedEof` where the other side is gone.
pub fn read_frame<T: DeserializeOwned>(from: &mut impl Read) -> io::Result<T> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length) as usize;
    if length > MAX_FRAME {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("a frame of {length} bytes is over {MAX_FRAME}"),
        ));
    }
    let mut body = vec![0; length];
    from.read_exact(&mut body)?;
    decode(&body)
}
