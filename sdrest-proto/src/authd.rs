//! authd's verbs, as the front end may use them. No verb takes a name as authority: `logout` and
//! `introspect` carry the token that they are about, and a login is granted only by a conversation that
//! authd itself followed to its end.

use crate::{
    error::Fault,
    health::Health,
    id::{RequestId, SessionId},
    identity::{Role, Subject},
    login::{BeginLogin, ConversationRef, Grant, Poll, Respond, Step},
    secret::{BearerToken, RefreshToken},
};
use serde::{Deserialize, Serialize};

#[tarpc::service]
pub trait Authd {
    /// Mode, realm, public paths, guest policy and verification keys: authd's configuration decides them.
    async fn describe() -> AuthdDescription;
    /// Starts a PAM conversation; answers when something has to be said, at the latest after `wait_ms`.
    async fn begin(login: BeginLogin) -> Result<Step, Fault>;
    /// Answers the open prompts.
    async fn respond(respond: Respond) -> Result<Step, Fault>;
    /// Waits for news of a conversation.
    async fn poll(poll: Poll) -> Result<Step, Fault>;
    /// Ends a conversation and its process.
    async fn cancel(conversation: ConversationRef) -> Result<(), Fault>;
    /// Spends a refresh token for a new pair.
    async fn refresh(token: RefreshToken, request: RequestId) -> Result<Grant, Fault>;
    /// Revokes the session of this access token; answers when that is on disk.
    async fn logout(token: BearerToken, request: RequestId) -> Result<(), Fault>;
    /// All sessions that are revoked and not yet expired, once the list is newer than `after`, or after
    /// `wait_ms`.
    async fn revocations(after: u64, wait_ms: u32) -> Revocations;
    async fn health() -> Health;
}

/// The only verbs of `authd-admin.sock`, for root and the group `sdrest-admin`.
#[tarpc::service]
pub trait AuthdAdmin {
    async fn health() -> Health;
}

/// How callers prove who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AuthMode {
    /// Everybody is `anonymous`.
    None,
    /// PAM, and a JWT for it.
    Pam,
}

impl AuthMode {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Pam => "pam",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthdDescription {
    pub mode: AuthMode,
    pub realm: String,
    /// As configured: prefixes in whole segments.
    pub public_paths: Vec<String>,
    /// Whether callers without credentials are guests.
    pub guests: bool,
    /// `iss` and `aud` of every token.
    pub issuer: String,
    pub audience: String,
    pub keys: Vec<VerifyingKey>,
}

/// One public key for EdDSA (RFC 8037).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifyingKey {
    /// RFC 7638 thumbprint, base64url.
    pub kid: String,
    /// The 32 bytes of the Ed25519 public key.
    pub public: [u8; 32],
}

/// The sessions that no longer count. `version` moves with every change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocations {
    pub version: u64,
    pub sessions: Vec<SessionId>,
}

/// The claims of an access token (RFC 7519, RFC 9068).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Claims {
    pub iss: String,
    pub aud: String,
    pub sub: Subject,
    /// The account's name at the time of login, for display.
    pub name: String,
    pub uid: Option<u32>,
    pub roles: Vec<Role>,
    /// RFC 8176: `pam`.
    pub amr: Vec<String>,
    pub sid: SessionId,
    pub jti: String,
    pub iat: u64,
    pub nbf: u64,
    pub exp: u64,
    pub auth_time: u64,
}
