//! The link to authd: connects, learns the policy, follows the revocations, looks every five seconds
//! whether authd still answers, and comes back after a restart. Each verb that routes use is one method
//! here, so that no route knows of RPC. This process trusts what authd says; authd trusts nothing that is
//! said here but "these are the bytes of a request".

use crate::auth::{Policies, Policy};
use anyhow::{Context, Result};
use sdrest_proto::{
    authd::{AuthdClient, AuthdDescription, Revocations},
    error::{ErrorCode, Fault},
    health::Serving,
    id::RequestId,
    login::{BeginLogin, ConversationRef, Grant, Poll, Respond, Step},
    secret::{BearerToken, RefreshToken},
    transport::{self, AUTHD, TrustedUids, deadline},
};
use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tarpc::client::{Config, RpcError};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How often authd is asked for its health.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// What a verb that waits for nobody may take.
const SHORT: Duration = Duration::from_secs(5);
/// What logout and refresh may take: they answer when it is on disk, or ask the account database.
const DURABLE: Duration = Duration::from_secs(30);
/// How long authd may hold the list of revocations.
const REVOCATIONS_WAIT_MS: u32 = 25_000;
/// Between two attempts to connect.
const RETRY: Duration = Duration::from_millis(250);
const RETRY_MAX: Duration = Duration::from_secs(2);

/// Where authd is, and who may be at the other end.
#[derive(Clone, Debug)]
pub struct AuthdAddress {
    pub socket: PathBuf,
    pub trusted: TrustedUids,
}

/// The link. Clones share it.
#[derive(Clone, Debug)]
pub struct Authd {
    client: Arc<watch::Sender<Option<AuthdClient>>>,
    policies: Policies,
    /// Whether authd said at the last heartbeat that it could sign people in.
    able: Arc<AtomicBool>,
}

impl Authd {
    /// Connects for the first time, however long that takes, and keeps the link up from then on. Nothing
    /// can be served before this returns: keys, policy and the full list of revocations come with it.
    pub async fn connect(address: AuthdAddress, stop: CancellationToken) -> Result<Self> {
        let first = tokio::select! {
            first = first_session(&address) => first,
            () = stop.cancelled() => anyhow::bail!("stopped before authd answered"),
        };
        let policies = Policies::new(Policy::new(first.description, first.revocations.clone())?);
        let client = Arc::new(watch::Sender::new(Some(first.client.clone())));
        let link = Self { client, policies, able: Arc::new(AtomicBool::new(true)) };
        let keeper = link.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = keeper.keep(address, first.client, first.revocations.version) => {}
                () = stop.cancelled() => {}
            }
        });
        Ok(link)
    }

    pub fn policies(&self) -> &Policies {
        &self.policies
    }

    /// Whether authd answers now. Tokens are verified without it.
    pub fn is_connected(&self) -> bool {
        self.client.borrow().is_some()
    }

    /// Whether it answers and, at the last heartbeat, could sign people in.
    pub fn is_able(&self) -> bool {
        self.is_connected() && self.able.load(Ordering::Relaxed)
    }

    pub async fn begin(&self, login: BeginLogin) -> Result<Step, Fault> {
        let patience = wait(login.wait_ms);
        answer(self.client()?.begin(deadline(patience), login).await)?
    }

    pub async fn respond(&self, respond: Respond) -> Result<Step, Fault> {
        let patience = wait(respond.wait_ms);
        answer(self.client()?.respond(deadline(patience), respond).await)?
    }

    pub async fn poll(&self, poll: Poll) -> Result<Step, Fault> {
        let patience = wait(poll.wait_ms);
        answer(self.client()?.poll(deadline(patience), poll).await)?
    }

    pub async fn cancel(&self, conversation: ConversationRef) -> Result<(), Fault> {
        answer(self.client()?.cancel(deadline(SHORT), conversation).await)?
    }

    pub async fn refresh(&self, token: RefreshToken, request: RequestId) -> Result<Grant, Fault> {
        answer(self.client()?.refresh(deadline(DURABLE), token, request).await)?
    }

    pub async fn logout(&self, token: BearerToken, request: RequestId) -> Result<(), Fault> {
        answer(self.client()?.logout(deadline(DURABLE), token, request).await)?
    }

    fn client(&self) -> Result<AuthdClient, Fault> {
        self.client.borrow().clone().ok_or_else(unavailable)
    }

    /// Follows the session until it breaks, then makes a new one; for ever.
    async fn keep(&self, address: AuthdAddress, mut client: AuthdClient, mut version: u64) {
        loop {
            let error = tokio::select! {
                error = self.follow_revocations(&client, version) => error,
                error = self.heartbeat(&client) => error,
            };
            tracing::warn!(%error, "authd does not answer; tokens stay good until they expire");
            self.client.send_replace(None);
            let session = reconnect(&address).await;
            match Policy::new(session.description, session.revocations.clone()) {
                Ok(policy) => self.policies.replace(policy),
                Err(error) => {
                    tracing::error!(%error, "authd's policy cannot be used; the older one stays");
                    continue;
                }
            }
            (client, version) = (session.client, session.revocations.version);
            self.client.send_replace(Some(client.clone()));
            tracing::info!("authd answers again");
        }
    }

    async fn follow_revocations(&self, client: &AuthdClient, mut version: u64) -> RpcError {
        loop {
            let context = deadline(wait(REVOCATIONS_WAIT_MS));
            match client.revocations(context, version, REVOCATIONS_WAIT_MS).await {
                Err(error) => return error,
                Ok(news) if news.version != version => {
                    version = news.version;
                    self.policies.replace(self.policies.current().with_revocations(news));
                }
                // A server that answers early must not turn this into a busy loop.
                Ok(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    }

    async fn heartbeat(&self, client: &AuthdClient) -> RpcError {
        loop {
            match client.health(deadline(SHORT)).await {
                Ok(health) => {
                    let able = health.serving == Serving::Serving;
                    if self.able.swap(able, Ordering::Relaxed) != able {
                        tracing::warn!(able, detail = health.detail, "authd's health changed");
                    }
                }
                Err(error) => return error,
            }
            tokio::time::sleep(HEARTBEAT).await;
        }
    }
}

/// What a connection begins with.
struct Session {
    client: AuthdClient,
    description: AuthdDescription,
    revocations: Revocations,
}

async fn open(address: &AuthdAddress) -> Result<Session> {
    let transport = transport::connect(&address.socket, &address.trusted, AUTHD).await?;
    let client = AuthdClient::new(Config::default(), transport).spawn();
    let description =
        client.describe(deadline(SHORT)).await.context("authd did not describe itself")?;
    let revocations =
        client.revocations(deadline(SHORT), 0, 0).await.context("authd gave no revocations")?;
    Ok(Session { client, description, revocations })
}

async fn first_session(address: &AuthdAddress) -> Session {
    let session = reconnect(address).await;
    tracing::info!(
        mode = session.description.mode.as_str(),
        keys = session.description.keys.len(),
        "authd answers"
    );
    session
}

/// Tries until it works; says why not at the first try and then once every half minute.
async fn reconnect(address: &AuthdAddress) -> Session {
    let (mut pause, mut tries) = (RETRY, 0_u32);
    loop {
        match open(address).await {
            Ok(session) => return session,
            Err(error) if tries.is_multiple_of(15) => {
                tracing::warn!(socket = %address.socket.display(), "authd cannot be reached: {error:#}");
            }
            Err(_) => {}
        }
        tries += 1;
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(RETRY_MAX);
    }
}

/// The other side holds an answer for so long; some more for the way.
fn wait(ms: u32) -> Duration {
    Duration::from_millis(u64::from(ms)) + SHORT
}

fn answer<T>(result: Result<T, RpcError>) -> Result<T, Fault> {
    result.map_err(|error| {
        tracing::warn!(%error, "authd did not answer a verb");
        unavailable()
    })
}

fn unavailable() -> Fault {
    Fault::new(
        ErrorCode::PamAuthUnavailable,
        "signing in is not possible now: authd does not answer",
    )
    .retry_after(2)
}
