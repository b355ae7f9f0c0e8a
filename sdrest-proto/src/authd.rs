//! authd's verbs, as the front end may use them. No verb takes a name as authority: whoever acts for somebody
//! carries that person's token or key, which authd verifies itself, and a login is granted only by a conversation
//! that authd followed to its end. The one exception is `login_peer`, for servers whose administrator has chosen that
//! the kernel's word is enough; authd refuses it in every other mode.

use crate::bounds::quote;
use crate::{
    accounts::{NewUser, UserInfo, UserName},
    api_key::{KeyHolder, KeyInfo, MadeKey, NewKey},
    error::Fault,
    health::Health,
    id::{KeyId, RequestId, SessionId},
    identity::{Role, Subject},
    login::{BeginLogin, ConversationRef, Grant, PeerLogin, Poll, Respond, Step},
    secret::{Answer, ApiKey, BearerToken, RefreshToken},
};
use serde::{Deserialize, Serialize};
use std::str::FromStr;

pub use crate::accounts::UserState;

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
    async fn cancel(conversation: ConversationRef, request: RequestId) -> Result<(), Fault>;
    /// Signs in the account that the kernel says is at the other end; only in mode unix without PAM.
    async fn login_peer(login: PeerLogin) -> Result<Grant, Fault>;
    /// The claims of an access token that is valid now: what a front end without the verification key asks (HS256).
    async fn introspect(token: BearerToken, request: RequestId) -> Result<Claims, Fault>;
    /// Whose key this is, while key and account are good. May be believed for 30 s, or until the next revocation.
    async fn check_key(key: ApiKey, request: RequestId) -> Result<KeyHolder, Fault>;
    /// Makes a key for the token's owner, whose login must not be older than five minutes.
    async fn make_key(
        token: BearerToken,
        new: NewKey,
        request: RequestId,
    ) -> Result<MadeKey, Fault>;
    /// The owner's keys, or everybody's for who may see those.
    async fn list_keys(
        token: BearerToken,
        whose: Whose,
        request: RequestId,
    ) -> Result<Vec<KeyInfo>, Fault>;
    /// Revokes a key of the owner, or anybody's for who may; answers when that is on disk.
    async fn revoke_key(token: BearerToken, key: KeyId, request: RequestId) -> Result<(), Fault>;
    /// Spends a refresh token for a new pair.
    async fn refresh(token: RefreshToken, request: RequestId) -> Result<Grant, Fault>;
    /// Revokes the session of this access token; answers when that is on disk.
    async fn logout(token: BearerToken, request: RequestId) -> Result<(), Fault>;
    /// All sessions that are revoked and not yet expired, once the list is newer than `after`, or after
    /// `wait_ms`. The version also moves when a key or the account behind one is revoked: then what `check_key` said
    /// counts no more.
    async fn revocations(after: u64, wait_ms: u32) -> Revocations;
    async fn health() -> Health;
}

/// The only verbs of `authd-admin.sock`, for root and the group `sdrest-admin`.
#[tarpc::service]
pub trait AuthdAdmin {
    async fn health() -> Health;
    /// Adds a record to the internal user database.
    async fn add_user(new: NewUser) -> Result<UserInfo, Fault>;
    async fn list_users() -> Result<Vec<UserInfo>, Fault>;
    /// Replaces a password; the user's sessions end.
    async fn set_password(user: UserName, password: Answer) -> Result<(), Fault>;
    /// A disabled user cannot sign in, and sessions and keys end or are refused.
    async fn set_user_state(user: UserName, state: UserState) -> Result<UserInfo, Fault>;
    async fn set_user_role(user: UserName, role: Role) -> Result<UserInfo, Fault>;
    /// Removes a record with its sessions and keys. Its pictures keep their owner, whom nobody is any more.
    async fn remove_user(user: UserName) -> Result<(), Fault>;
    /// Makes a key for an internal user or a system account, who need not be there.
    async fn make_key_for(user: UserName, new: NewKey) -> Result<MadeKey, Fault>;
    async fn list_all_keys() -> Result<Vec<KeyInfo>, Fault>;
    async fn revoke_any_key(key: KeyId) -> Result<(), Fault>;
    /// Makes a new signing key; the one before verifies until its last token has expired. Answers the new `kid`.
    async fn rotate_key() -> Result<String, Fault>;
    /// Ends all sessions of a user; answers how many there were.
    async fn revoke_sessions(user: UserName) -> Result<u32, Fault>;
}

/// Whose keys a caller asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Whose {
    Own,
    Everybodys,
}

/// How callers prove who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AuthMode {
    /// Everybody is `anonymous`.
    None,
    /// The internal user database, and a JWT for it.
    Jwt,
    /// API keys, and nothing else.
    ApiKey,
    /// PAM where it is built in, else the kernel's word for who is at the other end; a token of kind `unix` for it.
    Unix,
    /// PAM, and a JWT for it.
    Pam,
    /// Whatever is configured, for those who sign in; the others are guests.
    Optional,
}

impl AuthMode {
    pub const ALL: [Self; 6] =
        [Self::None, Self::Jwt, Self::ApiKey, Self::Unix, Self::Pam, Self::Optional];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Jwt => "jwt",
            Self::ApiKey => "api-key",
            Self::Unix => "unix",
            Self::Pam => "pam",
            Self::Optional => "optional",
        }
    }
}

impl FromStr for AuthMode {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|mode| mode.as_str() == text).ok_or_else(|| {
            format!("must be none, jwt, api-key, unix, pam or optional, got {}", quote(text))
        })
    }
}

/// How a caller of this server can sign in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SignIn {
    /// Not at all, or with an API key only.
    No,
    /// `begin`: a password, and whatever else is asked.
    Conversation,
    /// `login_peer`: no password, the kernel knows.
    Peer,
}

/// How access tokens are signed; one algorithm for a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Signature {
    /// Ed25519: whoever has the public keys can verify.
    EdDsa,
    /// A shared secret that authd keeps to itself: `introspect` verifies.
    Hs256,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthdDescription {
    pub mode: AuthMode,
    pub sign_in: SignIn,
    /// Whether PAM is asked, so that a login can take any number of steps.
    pub pam: bool,
    /// Whether API keys are accepted: in every mode but none.
    pub api_keys: bool,
    pub signature: Signature,
    pub realm: String,
    /// As configured: prefixes in whole segments.
    pub public_paths: Vec<String>,
    /// Whether callers without credentials are guests.
    pub guests: bool,
    /// `iss` and `aud` of every token.
    pub issuer: String,
    pub audience: String,
    /// None with HS256; two for a while after a rotation.
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

/// The sessions that no longer count. `version` moves with every change, and with every change of the keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocations {
    pub version: u64,
    pub sessions: Vec<SessionId>,
    /// As in the description: a rotation arrives here.
    pub keys: Vec<VerifyingKey>,
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
    /// RFC 8176 and our own: `pam`, `pwd` (internal database), `peer` (the kernel's word).
    pub amr: Vec<String>,
    pub sid: SessionId,
    pub jti: String,
    pub iat: u64,
    pub nbf: u64,
    pub exp: u64,
    pub auth_time: u64,
}
