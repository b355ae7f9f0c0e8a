//! What the front end and authd say to each other while somebody signs in: a PAM conversation of any
//! number of steps, and the grant at its end. No verb here takes a name as authority.

use crate::{
    bounds::Username,
    error::Fault,
    id::{ConversationId, RequestId, SessionId},
    identity::{Role, Subject},
    secret::{Answer, BearerToken, ConversationSecret, RefreshToken},
};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// Begins a login. With `password` it is the one-shot form: authd gives it to the first prompt if that is a
/// single ECHO_OFF that asks for a password, and to nothing else.
#[derive(Debug, Serialize, Deserialize)]
pub struct BeginLogin {
    pub username: Username,
    pub password: Option<Answer>,
    /// Where the caller says that the request came from; used for throttling and PAM_RHOST only.
    pub source: Option<IpAddr>,
    pub request: RequestId,
    /// How long the answer may be held while PAM works, in milliseconds; capped at 30 s.
    pub wait_ms: u32,
}

/// Names a conversation and proves who began it.
#[derive(Debug, Serialize, Deserialize)]
pub struct ConversationRef {
    pub id: ConversationId,
    pub secret: ConversationSecret,
}

/// Answers to the prompts of the step `sequence`, one for each, in their order.
#[derive(Debug, Serialize, Deserialize)]
pub struct Respond {
    pub conversation: ConversationRef,
    pub sequence: u32,
    pub answers: Vec<Answer>,
    pub wait_ms: u32,
    pub request: RequestId,
}

/// The kernel's word for who is at the other end of an HTTP connection.
#[derive(Debug, Serialize, Deserialize)]
pub struct PeerLogin {
    pub uid: u32,
    /// The name that was typed; it must be that account's.
    pub username: Username,
    pub request: RequestId,
}

/// Asks for what came after message `after`.
#[derive(Debug, Serialize, Deserialize)]
pub struct Poll {
    pub conversation: ConversationRef,
    pub after: u32,
    pub wait_ms: u32,
    pub request: RequestId,
}

/// Where a conversation stands.
#[derive(Debug, Serialize, Deserialize)]
pub struct Step {
    pub id: ConversationId,
    /// In the answer of `begin` only.
    pub secret: Option<ConversationSecret>,
    /// Moves with every message and every change of state.
    pub sequence: u32,
    pub state: LoginState,
    /// Info and error texts since the sequence that the caller named.
    pub messages: Vec<LoginMessage>,
    /// Milliseconds until the whole conversation, and until this step, are given up.
    pub expires_in_ms: u32,
    pub step_expires_in_ms: u32,
}

#[derive(Debug, Serialize, Deserialize)]
pub enum LoginState {
    /// A module is at work.
    Running,
    /// Somebody has to answer.
    Waiting { prompts: Vec<LoginPrompt> },
    /// Signed in. Delivered exactly once; after that the conversation is gone.
    Succeeded(Grant),
    /// Not signed in. Delivered exactly once.
    Failed(Fault),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoginPrompt {
    pub echo: Echo,
    /// As the module wrote it, control characters removed.
    pub text: String,
}

/// Whether what is typed may be seen (PAM_PROMPT_ECHO_ON, PAM_PROMPT_ECHO_OFF).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Echo {
    On,
    Off,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoginMessage {
    pub sequence: u32,
    pub style: MessageStyle,
    pub text: String,
}

/// PAM_TEXT_INFO and PAM_ERROR_MSG.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MessageStyle {
    Info,
    Error,
}

/// What a finished login is worth.
#[derive(Debug, Serialize, Deserialize)]
pub struct Grant {
    pub token: BearerToken,
    /// None for logins by the kernel's word: they are asked for again.
    pub refresh_token: Option<RefreshToken>,
    pub subject: Subject,
    pub username: Username,
    pub role: Role,
    pub session: SessionId,
    /// Seconds until `token` expires.
    pub expires_in: u32,
}
