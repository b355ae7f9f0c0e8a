//! The verbs, thin: each turns a request into a call of a room below, and the room's answer into proto's words. The
//! front end's socket has no verb that takes a name as authority; the admin socket is another service on another
//! socket, and the front end's account is refused there.

use crate::{
    audit,
    conversation::{Begin, Entry, State, Table, UntilAsked, gone},
    peer::Source,
    sandbox::Sandboxed,
    tokens::{AUDIENCE, TokenIssuer},
};
use futures::StreamExt;
use sdrest_proto::{
    BUILD,
    authd::{AuthMode, Authd, AuthdAdmin, AuthdDescription, Revocations},
    error::{ErrorCode, Fault},
    health::{Health, Serving},
    id::RequestId,
    login::{BeginLogin, ConversationRef, Grant, LoginState, Poll, Respond, Step},
    secret::{BearerToken, RefreshToken},
    transport::{self, AUTHD, AUTHD_ADMIN, TrustedUids},
};
use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tarpc::{
    context::Context,
    server::{BaseChannel, Channel},
};
use tokio::net::{UnixListener, UnixStream};

/// The longest that an answer is held.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// Requests at once on one connection.
const IN_FLIGHT: usize = 512;

/// What both services stand on.
pub(crate) struct Service {
    pub(crate) mode: AuthMode,
    pub(crate) realm: String,
    pub(crate) public_paths: Vec<String>,
    pub(crate) guests: bool,
    pub(crate) tokens: Arc<TokenIssuer>,
    /// Without PAM there are no conversations.
    pub(crate) table: Option<Table>,
    pub(crate) sandbox: Sandboxed,
    pub(crate) began: Instant,
    pub(crate) refused_peers: AtomicU64,
}

#[derive(Clone)]
struct Verbs(Arc<Service>);

impl Service {
    fn table(&self) -> Result<&Table, Fault> {
        self.table.as_ref().ok_or_else(|| {
            let message = "this server runs without PAM authentication (PAM_NOT_AVAILABLE)";
            Fault::new(ErrorCode::PamAuthUnavailable, message)
        })
    }

    fn health(&self) -> Health {
        let mut figures = self.table.as_ref().map(Table::figures).unwrap_or_default();
        figures.push((
            "sessions".to_owned(),
            u64::try_from(self.tokens.sessions()).unwrap_or(u64::MAX),
        ));
        figures.push(("refused_peers".to_owned(), self.refused_peers.load(Ordering::Relaxed)));
        let reachable = self.table.as_ref().is_none_or(Table::reachable);
        let lacking = if reachable { "" } else { "; the conversation program does not start" };
        Health {
            serving: if reachable { Serving::Serving } else { Serving::Degraded },
            detail: format!("auth {}{lacking}", self.mode.as_str()),
            build: BUILD.to_owned(),
            pid: std::process::id(),
            uid: nix::unistd::geteuid().as_raw(),
            uptime_seconds: self.began.elapsed().as_secs(),
            sandbox: self.sandbox.report().clone(),
            figures,
        }
    }

    /// What the caller is told of a conversation; an end is exchanged for a grant here, and then it is gone.
    async fn step(&self, entry: &Entry, after: u32) -> Result<Step, Fault> {
        let view = entry.view(after);
        let state = match view.state {
            State::Running => LoginState::Running,
            State::Waiting(prompts) => LoginState::Waiting { prompts },
            State::Gone => return Err(gone()),
            State::Finished(finished) => {
                if let Some(table) = &self.table {
                    table.remove(entry.id);
                }
                match finished {
                    Err(fault) => LoginState::Failed(fault),
                    Ok(account) => {
                        let request = entry.request();
                        let grant = blocking(&self.tokens, request, move |tokens| {
                            tokens.grant(&account, &request)
                        })
                        .await;
                        grant.map_or_else(LoginState::Failed, LoginState::Succeeded)
                    }
                }
            }
        };
        Ok(Step {
            id: entry.id,
            secret: None,
            sequence: view.sequence,
            state,
            messages: view.messages,
            expires_in_ms: milliseconds(view.expires_in),
            step_expires_in_ms: milliseconds(view.step_expires_in),
        })
    }
}

impl Authd for Verbs {
    async fn describe(self, _: Context) -> AuthdDescription {
        let access = self.0.tokens.access();
        AuthdDescription {
            mode: self.0.mode,
            realm: self.0.realm.clone(),
            public_paths: self.0.public_paths.clone(),
            guests: self.0.guests,
            issuer: access.issuer().to_owned(),
            audience: AUDIENCE.to_owned(),
            keys: vec![access.verifying_key()],
        }
    }

    async fn begin(self, _: Context, login: BeginLogin) -> Result<Step, Fault> {
        let until = if login.password.is_some() { UntilAsked::Yes } else { UntilAsked::No };
        let entry = self.0.table()?.begin(Begin {
            username: login.username,
            password: login.password,
            source: Source::new(login.source),
            request: login.request,
        })?;
        entry.news(0, wait(login.wait_ms), until).await;
        let mut step = self.0.step(&entry, 0).await?;
        step.secret = Some(entry.secret());
        Ok(step)
    }

    async fn respond(self, _: Context, respond: Respond) -> Result<Step, Fault> {
        let (after, patience) = (respond.sequence, wait(respond.wait_ms));
        let entry = self.0.table()?.respond(respond).await?;
        entry.news(after, patience, UntilAsked::No).await;
        self.0.step(&entry, after).await
    }

    async fn poll(self, _: Context, poll: Poll) -> Result<Step, Fault> {
        let entry = self.0.table()?.find(&poll.conversation)?;
        entry.news(poll.after, wait(poll.wait_ms), UntilAsked::No).await;
        self.0.step(&entry, poll.after).await
    }

    async fn cancel(self, _: Context, conversation: ConversationRef) -> Result<(), Fault> {
        self.0.table()?.cancel(&conversation)
    }

    async fn refresh(
        self,
        _: Context,
        token: RefreshToken,
        request: RequestId,
    ) -> Result<Grant, Fault> {
        blocking(&self.0.tokens, request, move |tokens| tokens.refresh(&token, &request)).await
    }

    async fn logout(self, _: Context, token: BearerToken, request: RequestId) -> Result<(), Fault> {
        blocking(&self.0.tokens, request, move |tokens| tokens.logout(&token, &request)).await
    }

    async fn revocations(self, _: Context, after: u64, wait_ms: u32) -> Revocations {
        self.0.tokens.revocations(after, wait(wait_ms)).await
    }

    async fn health(self, _: Context) -> Health {
        self.0.health()
    }
}

impl AuthdAdmin for Verbs {
    async fn health(self, _: Context) -> Health {
        self.0.health()
    }
}

/// Runs what waits for the disk where waiting is allowed.
async fn blocking<T: Send + 'static>(
    tokens: &Arc<TokenIssuer>,
    request: RequestId,
    work: impl FnOnce(&TokenIssuer) -> Result<T, Fault> + Send + 'static,
) -> Result<T, Fault> {
    let tokens = Arc::clone(tokens);
    tokio::task::spawn_blocking(move || work(&tokens)).await.unwrap_or_else(|error| {
        tracing::error!(request_id = %request, "tokens: {error}");
        Err(Fault::new(ErrorCode::Internal, "the login service failed; its log says why"))
    })
}

fn wait(milliseconds: u32) -> Duration {
    Duration::from_millis(milliseconds.into()).min(LONGEST_WAIT)
}

fn milliseconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

/// One of the two sockets, with who may connect to it.
pub(crate) struct Door {
    pub(crate) listener: UnixListener,
    pub(crate) trusted: TrustedUids,
}

/// Serves the front end's socket until the task is dropped.
pub(crate) async fn serve(service: Arc<Service>, door: Door) {
    loop {
        let Some(stream) = next(&door, AUTHD.name).await else { continue };
        let (service, trusted) = (Arc::clone(&service), door.trusted.clone());
        tokio::spawn(async move {
            match transport::accept(stream, &trusted, AUTHD).await {
                Ok((_, transport)) => {
                    BaseChannel::with_defaults(transport)
                        .max_concurrent_requests(IN_FLIGHT)
                        .execute(Authd::serve(Verbs(service)))
                        .for_each(|request| async {
                            tokio::spawn(request);
                        })
                        .await;
                }
                Err(error) => refused(&service, AUTHD.name, &error),
            }
        });
    }
}

/// Serves the administrators' socket until the task is dropped.
pub(crate) async fn serve_admin(service: Arc<Service>, door: Door) {
    loop {
        let Some(stream) = next(&door, AUTHD_ADMIN.name).await else { continue };
        let (service, trusted) = (Arc::clone(&service), door.trusted.clone());
        tokio::spawn(async move {
            match transport::accept(stream, &trusted, AUTHD_ADMIN).await {
                Ok((_, transport)) => {
                    BaseChannel::with_defaults(transport)
                        .max_concurrent_requests(IN_FLIGHT)
                        .execute(AuthdAdmin::serve(Verbs(service)))
                        .for_each(|request| async {
                            tokio::spawn(request);
                        })
                        .await;
                }
                Err(error) => refused(&service, AUTHD_ADMIN.name, &error),
            }
        });
    }
}

async fn next(door: &Door, name: &'static str) -> Option<UnixStream> {
    match door.listener.accept().await {
        Ok((stream, _)) => Some(stream),
        Err(error) => {
            tracing::warn!("{name}: accept: {error}");
            // Out of descriptors: somebody has to close one first.
            tokio::time::sleep(Duration::from_millis(100)).await;
            None
        }
    }
}

fn refused(service: &Service, socket: &'static str, error: &io::Error) {
    if error.kind() == io::ErrorKind::PermissionDenied {
        service.refused_peers.fetch_add(1, Ordering::Relaxed);
        audit::peer_refused(socket, &error.to_string());
    } else {
        tracing::debug!("{socket}: {error}");
    }
}
