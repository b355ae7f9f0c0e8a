//! authd's verbs, with a key pair and a handful of accounts that stand in this file. It signs what the real
//! one signs; what it knows of passwords is a table.

use super::tokens::{Keys, claims, now};
use futures::StreamExt;
use sdrest_proto::{
    authd::{AuthMode, Authd, AuthdDescription, Revocations},
    error::{ErrorCode, Fault},
    health::{Health, SandboxReport, Serving},
    id::{ConversationId, RequestId, SessionId},
    identity::{Role, Subject},
    login::{
        BeginLogin, ConversationRef, Echo, Grant, LoginMessage, LoginPrompt, LoginState,
        MessageStyle, Poll, Respond, Step,
    },
    secret::{BearerToken, ConversationSecret, RefreshToken},
    transport::{self, AUTHD, TrustedUids},
};
use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};
use tarpc::{
    context::Context,
    server::{BaseChannel, Channel},
};
use tokio::{sync::watch, task::JoinSet};

pub(crate) const SECRET: &str = "the-secret-of-the-conversation";

/// Source and request of one login.
type Begun = (Option<std::net::IpAddr>, RequestId);

#[derive(Clone)]
pub(crate) struct TestAuthd {
    pub(crate) description: AuthdDescription,
    keys: Arc<Keys>,
    revoked: Arc<watch::Sender<Revocations>>,
    /// Open conversations, with the step that each is at.
    open: Arc<Mutex<HashMap<ConversationId, u32>>>,
    /// What `begin` was told: source and request.
    pub(crate) begun: Arc<Mutex<Vec<Begun>>>,
}

impl TestAuthd {
    pub(crate) fn new(mode: AuthMode) -> Self {
        let keys = Keys::new();
        let description = AuthdDescription {
            mode,
            realm: "test-realm".to_owned(),
            public_paths: vec!["/api/health".to_owned(), "/api/status".to_owned()],
            guests: false,
            issuer: "sdrest-authd".to_owned(),
            audience: "sdrest-api".to_owned(),
            keys: vec![keys.verifying()],
        };
        Self {
            description,
            keys: Arc::new(keys),
            revoked: Arc::new(watch::Sender::new(Revocations { version: 1, sessions: Vec::new() })),
            open: Arc::default(),
            begun: Arc::default(),
        }
    }

    /// Listens until the set is dropped.
    pub(crate) fn listen(&self, path: &Path) -> JoinSet<()> {
        let listener = transport::listen(path).unwrap();
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

    pub(crate) fn token(&self, role: Role) -> String {
        self.keys.sign(&claims(role, SessionId::random(), now()))
    }

    fn grant(&self, username: &str) -> Grant {
        let session = SessionId::random();
        Grant {
            token: BearerToken::new(self.keys.sign(&claims(Role::User, session, now()))),
            refresh_token: RefreshToken::new("refresh-1".to_owned()),
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

fn prompt(echo: Echo, text: &str) -> LoginPrompt {
    LoginPrompt { echo, text: text.to_owned() }
}

impl Authd for TestAuthd {
    async fn describe(self, _: Context) -> AuthdDescription {
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
            ("slow", Some(_)) => LoginState::Running,
            _ => LoginState::Waiting {
                prompts: vec![prompt(Echo::Off, "Password: "), prompt(Echo::On, "Code: ")],
            },
        };
        self.open.lock().unwrap().insert(id, 1);
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
        let at = self.open(&poll.conversation)?;
        let id = poll.conversation.id;
        self.open.lock().unwrap().remove(&id);
        Ok(step(id, at + 1, LoginState::Succeeded(self.grant("slow"))))
    }

    async fn cancel(self, _: Context, conversation: ConversationRef) -> Result<(), Fault> {
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
        self.revoked.send_modify(|revoked| {
            revoked.version += 1;
            revoked.sessions.push(session);
        });
        Ok(())
    }

    async fn revocations(self, _: Context, after: u64, wait_ms: u32) -> Revocations {
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
