//! authd's verbs, with a key pair and a handful of accounts that stand in this file. It signs what the real
//! one signs; what it knows of passwords is a table.

use super::tokens::{HS256_SECRET, Keys, claims, claims_of, now, sign_hs256};
use futures::StreamExt;
use sdrest_proto::{
    api_key::{KeyHolder, KeyInfo, KeyName, MadeKey, NewKey, Scopes},
    authd::{AuthMode, Authd, AuthdDescription, Claims, Revocations, SignIn, Signature, Whose},
    error::{ErrorCode, Fault},
    health::{Health, SandboxReport, Serving},
    id::{ConversationId, KeyId, RequestId, SessionId},
    identity::{Role, Subject},
    login::{
        BeginLogin, ConversationRef, Echo, Grant, LoginMessage, LoginPrompt, LoginState,
        MessageStyle, PeerLogin, Poll, Respond, Step,
    },
    secret::{ApiKey, BearerToken, ConversationSecret, RefreshToken},
    transport::{self, AUTHD, TrustedUids},
};
use std::{
    collections::HashMap,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};
use tarpc::{
    context::Context,
    server::{BaseChannel, Channel},
};
use tokio::{net::UnixListener, sync::watch, task::JoinSet};

/// The step of a conversation that goes nowhere, and of which every poll is answered at once.
const STUCK: u32 = 1000;

pub(crate) const SECRET: &str = "the-secret-of-the-conversation";

/// Source and request of one login.
type Begun = (Option<std::net::IpAddr>, RequestId);

#[derive(Clone)]
pub(crate) struct TestAuthd {
    pub(crate) description: AuthdDescription,
    keys: Arc<Keys>,
    pub(crate) revoked: Arc<watch::Sender<Revocations>>,
    /// Keys that count, by their text.
    pub(crate) api_keys: Arc<Mutex<HashMap<String, KeyHolder>>>,
    /// How often each of these verbs was asked for.
    pub(crate) asked: Arc<Asked>,
    /// Whether a logout does not show in the lists that are given out.
    pub(crate) late_lists: Arc<AtomicBool>,
    /// What `login_peer` was told.
    pub(crate) peers: Arc<Mutex<Vec<(u32, String)>>>,
    /// Open conversations, with the step that each is at.
    open: Arc<Mutex<HashMap<ConversationId, u32>>>,
    /// What `begin` was told: source and request.
    pub(crate) begun: Arc<Mutex<Vec<Begun>>>,
}

#[derive(Debug, Default)]
pub(crate) struct Asked {
    pub(crate) describe: AtomicU32,
    pub(crate) poll: AtomicU32,
    pub(crate) check_key: AtomicU32,
    pub(crate) introspect: AtomicU32,
    pub(crate) revocations: AtomicU32,
    /// The newest list that somebody has taken in: it asks for what comes after it.
    pub(crate) followed: AtomicU64,
}

impl TestAuthd {
    pub(crate) fn new(mode: AuthMode) -> Self {
        let keys = Keys::new();
        let description = AuthdDescription {
            mode,
            sign_in: match mode {
                AuthMode::None | AuthMode::ApiKey => SignIn::No,
                AuthMode::Jwt | AuthMode::Unix | AuthMode::Pam | AuthMode::Optional => {
                    SignIn::Conversation
                }
            },
            pam: matches!(mode, AuthMode::Unix | AuthMode::Pam | AuthMode::Optional),
            api_keys: mode != AuthMode::None,
            signature: Signature::EdDsa,
            realm: "test-realm".to_owned(),
            public_paths: vec!["/api/health".to_owned(), "/api/status".to_owned()],
            guests: false,
            issuer: "sdrest-authd".to_owned(),
            audience: "sdrest-api".to_owned(),
            keys: vec![keys.verifying()],
        };
        Self {
            revoked: Arc::new(watch::Sender::new(Revocations {
                version: 1,
                sessions: Vec::new(),
                keys: description.keys.clone(),
            })),
            description,
            keys: Arc::new(keys),
            api_keys: Arc::default(),
            asked: Arc::default(),
            late_lists: Arc::default(),
            peers: Arc::default(),
            open: Arc::default(),
            begun: Arc::default(),
        }
    }

    /// Listens until the set is dropped.
    pub(crate) fn listen(&self, path: &Path) -> JoinSet<()> {
        let listener = UnixListener::from_std(transport::listen(path).unwrap()).unwrap();
        let this = self.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            let own = TrustedUids::new([nix::unistd::geteuid().as_raw()]);
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let Ok((_, transport)) = transport::accept(stream, &own, AUTHD).await else {
                    continue;
                };
                let requests = BaseChannel::with_defaults(transport).execute(this.clone().serve());
                connections.spawn(requests.for_each_concurrent(None, |request| request));
            }
        });
        tasks
    }

    /// The same authd with a secret instead of a key pair.
    pub(crate) fn with_hs256(mut self) -> Self {
        self.description.signature = Signature::Hs256;
        self.description.keys.clear();
        self.revoked.send_modify(|news| news.keys.clear());
        self
    }

    /// The same authd, which takes the kernel's word.
    pub(crate) fn with_peers(mut self) -> Self {
        (self.description.sign_in, self.description.pam) = (SignIn::Peer, false);
        self
    }

    pub(crate) fn token(&self, role: Role) -> String {
        self.sign(&claims(role, SessionId::random(), now()))
    }

    pub(crate) fn sign(&self, claims: &serde_json::Value) -> String {
        match self.description.signature {
            Signature::EdDsa => self.keys.sign(claims),
            Signature::Hs256 => sign_hs256(claims, HS256_SECRET),
        }
    }

    /// A key that counts.
    pub(crate) fn api_key(&self, role: Role, scopes: Scopes) -> String {
        let id = KeyId::random();
        let key = ApiKey::compose(id, &[7; 24]).expose("made by a test").to_owned();
        let (subject, username) = (Subject::unix(1000, 1), "alice".to_owned());
        let holder = KeyHolder { id, subject, username, role, scopes, expires: now() + 3600 };
        self.api_keys.lock().unwrap().insert(key.clone(), holder);
        key
    }

    /// Tells everybody that something was revoked, and gives the number of that list.
    pub(crate) fn announce(&self, change: impl FnOnce(&mut Revocations)) -> u64 {
        let mut version = 0;
        self.revoked.send_modify(|news| {
            news.version += 1;
            version = news.version;
            change(news);
        });
        version
    }

    /// Whether the front end has taken in the list of this number.
    pub(crate) fn is_followed(&self, version: u64) -> bool {
        self.asked.followed.load(Ordering::SeqCst) >= version
    }

    fn grant(&self, username: &str) -> Grant {
        let session = SessionId::random();
        Grant {
            token: BearerToken::new(self.sign(&claims(Role::User, session, now()))),
            refresh_token: Some(RefreshToken::new("refresh-1".to_owned())),
            subject: Subject::unix(1000, 1),
            username: username.to_owned().try_into().unwrap(),
            role: Role::User,
            session,
            expires_in: 3600,
        }
    }

    fn open(&self, conversation: &ConversationRef) -> Result<u32, Fault> {
        let known = self.open.lock().unwrap().get(&conversation.id).copied();
        let secret = ConversationSecret::new(SECRET.to_owned());
        known
            .filter(|_| conversation.secret.matches(&secret))
            .ok_or_else(|| Fault::new(ErrorCode::ConversationGone, "the conversation is over"))
    }
}

fn step(id: ConversationId, sequence: u32, state: LoginState) -> Step {
    let secret = (sequence == 1).then(|| ConversationSecret::new(SECRET.to_owned()));
    Step {
        id,
        secret,
        sequence,
        state,
        messages: Vec::new(),
        expires_in_ms: 180_000,
        step_expires_in_ms: 59_500,
    }
}

fn info(holder: &KeyHolder, name: KeyName) -> KeyInfo {
    KeyInfo {
        id: holder.id,
        name,
        owner: holder.subject.clone(),
        username: holder.username.clone(),
        scopes: holder.scopes.clone(),
        created: now(),
        expires: holder.expires,
        last_used: None,
    }
}

fn prompt(echo: Echo, text: &str) -> LoginPrompt {
    LoginPrompt { echo, text: text.to_owned() }
}

impl Authd for TestAuthd {
    async fn describe(self, _: Context) -> AuthdDescription {
        self.asked.describe.fetch_add(1, Ordering::SeqCst);
        self.description
    }

    async fn begin(self, _: Context, login: BeginLogin) -> Result<Step, Fault> {
        self.begun.lock().unwrap().push((login.source, login.request));
        let id = ConversationId::random();
        let password = login
            .password
            .as_ref()
            .map(|password| password.expose("compared in a test").to_owned());
        let state = match (login.username.as_str(), password.as_deref()) {
            ("locked", _) => {
                return Err(Fault::new(ErrorCode::TooManyAttempts, "too many attempts; wait")
                    .retry_after(17));
            }
            ("alice", Some("right")) => LoginState::Succeeded(self.grant("alice")),
            ("alice", Some(_)) => LoginState::Failed(Fault::new(
                ErrorCode::AuthenticationFailed,
                "the user name or the password is wrong",
            )),
            ("slow" | "stuck", Some(_)) => LoginState::Running,
            ("stuck", None) => LoginState::Running,
            ("dropped", None) => LoginState::Failed(
                Fault::new(ErrorCode::TooManyAttempts, "others came after you").retry_after(30),
            ),
            _ => LoginState::Waiting {
                prompts: vec![prompt(Echo::Off, "Password: "), prompt(Echo::On, "Code: ")],
            },
        };
        let at = if login.username.as_str() == "stuck" { STUCK } else { 1 };
        self.open.lock().unwrap().insert(id, at);
        let mut step = step(id, 1, state);
        if login.password.is_none() {
            let text = "Welcome".to_owned();
            step.messages.push(LoginMessage { sequence: 1, style: MessageStyle::Info, text });
        }
        Ok(step)
    }

    async fn respond(self, _: Context, respond: Respond) -> Result<Step, Fault> {
        let at = self.open(&respond.conversation)?;
        if respond.sequence != at {
            return Err(Fault::new(
                ErrorCode::ConversationOutOfStep,
                format!("the conversation is at {at}"),
            ));
        }
        let id = respond.conversation.id;
        self.open.lock().unwrap().remove(&id);
        let answers: Vec<&str> =
            respond.answers.iter().map(|answer| answer.expose("compared in a test")).collect();
        let state = match answers.as_slice() {
            ["right", "123456"] => LoginState::Succeeded(self.grant("bob")),
            _ => LoginState::Failed(Fault::new(ErrorCode::AuthenticationFailed, "that was wrong")),
        };
        Ok(step(id, at + 1, state))
    }

    async fn poll(self, _: Context, poll: Poll) -> Result<Step, Fault> {
        self.asked.poll.fetch_add(1, Ordering::SeqCst);
        let at = self.open(&poll.conversation)?;
        let id = poll.conversation.id;
        if at == STUCK {
            return Ok(step(id, poll.after, LoginState::Running));
        }
        self.open.lock().unwrap().remove(&id);
        Ok(step(id, at + 1, LoginState::Succeeded(self.grant("slow"))))
    }

    async fn cancel(
        self,
        _: Context,
        conversation: ConversationRef,
        _: RequestId,
    ) -> Result<(), Fault> {
        self.open(&conversation)?;
        self.open.lock().unwrap().remove(&conversation.id);
        Ok(())
    }

    async fn refresh(self, _: Context, token: RefreshToken, _: RequestId) -> Result<Grant, Fault> {
        match token.expose("compared in a test") {
            "refresh-1" => Ok(self.grant("alice")),
            _ => Err(Fault::new(ErrorCode::TokenRevoked, "the refresh token was spent")),
        }
    }

    async fn logout(self, _: Context, token: BearerToken, _: RequestId) -> Result<(), Fault> {
        let session = super::tokens::session_of(token.expose("read by the test"));
        if !self.late_lists.load(Ordering::SeqCst) {
            self.announce(|news| news.sessions.push(session));
        }
        Ok(())
    }

    async fn login_peer(self, _: Context, login: PeerLogin) -> Result<Grant, Fault> {
        let name = login.username.as_str().to_owned();
        self.peers.lock().unwrap().push((login.uid, name.clone()));
        match name.as_str() {
            "me" => Ok(Grant { refresh_token: None, ..self.grant("me") }),
            _ => Err(Fault::new(ErrorCode::AuthenticationFailed, "that is not your account")),
        }
    }

    async fn introspect(
        self,
        _: Context,
        token: BearerToken,
        _: RequestId,
    ) -> Result<Claims, Fault> {
        self.asked.introspect.fetch_add(1, Ordering::SeqCst);
        claims_of(token.expose("verified by the test"), HS256_SECRET)
            .ok_or_else(|| Fault::new(ErrorCode::TokenInvalid, "it is not one of this server's"))
    }

    async fn check_key(self, _: Context, key: ApiKey, _: RequestId) -> Result<KeyHolder, Fault> {
        self.asked.check_key.fetch_add(1, Ordering::SeqCst);
        let known = self.api_keys.lock().unwrap().get(key.expose("looked up")).cloned();
        known.ok_or_else(|| Fault::new(ErrorCode::TokenInvalid, "the key does not count"))
    }

    async fn make_key(
        self,
        _: Context,
        token: BearerToken,
        new: NewKey,
        _: RequestId,
    ) -> Result<MadeKey, Fault> {
        let role = super::tokens::role_of(token.expose("read by the test"));
        let key = self.api_key(role, new.scopes.unwrap_or_else(|| Scopes::all(role)));
        let holder = self.api_keys.lock().unwrap()[&key].clone();
        Ok(MadeKey { info: info(&holder, new.name), key: ApiKey::new(key) })
    }

    async fn list_keys(
        self,
        _: Context,
        _: BearerToken,
        _: Whose,
        _: RequestId,
    ) -> Result<Vec<KeyInfo>, Fault> {
        let keys = self.api_keys.lock().unwrap();
        let name = || KeyName::try_from("a key".to_owned()).unwrap();
        Ok(keys.values().map(|holder| info(holder, name())).collect())
    }

    /// Says nothing to those who wait for news: the one who asked knows.
    async fn revoke_key(
        self,
        _: Context,
        _: BearerToken,
        key: KeyId,
        _: RequestId,
    ) -> Result<(), Fault> {
        let mut keys = self.api_keys.lock().unwrap();
        let before = keys.len();
        keys.retain(|_, holder| holder.id != key);
        if keys.len() == before {
            return Err(Fault::new(ErrorCode::NotFound, "there is no such key of yours"));
        }
        Ok(())
    }

    async fn revocations(self, _: Context, after: u64, wait_ms: u32) -> Revocations {
        self.asked.revocations.fetch_add(1, Ordering::SeqCst);
        self.asked.followed.fetch_max(after, Ordering::SeqCst);
        let mut news = self.revoked.subscribe();
        let patience = Duration::from_millis(u64::from(wait_ms));
        let _ = tokio::time::timeout(patience, news.wait_for(|news| news.version > after)).await;
        self.revoked.borrow().clone()
    }

    async fn health(self, _: Context) -> Health {
        Health {
            serving: Serving::Serving,
            detail: String::new(),
            build: sdrest_proto::BUILD.to_owned(),
            pid: std::process::id(),
            uid: nix::unistd::geteuid().as_raw(),
            uptime_seconds: 0,
            sandbox: SandboxReport::default(),
            figures: Vec::new(),
        }
    }
}
