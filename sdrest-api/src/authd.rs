//! The link to authd: connects, learns the policy, follows the revocations, looks every five seconds
//! whether authd still answers, and comes back after a restart. This process trusts what authd says, but for
//! one thing: a policy that opens what was closed when this process was started is not taken over; authd trusts
//! nothing that is said here but "these are the bytes of a request".

mod session;
mod verbs;

pub use session::AuthdAddress;
pub use verbs::Verbs;

use crate::auth::{Policies, Policy};
use anyhow::Result;
use sdrest_proto::{authd::AuthdClient, health::Serving, transport::deadline};
use session::{Session, reconnect};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tarpc::client::RpcError;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use verbs::{AGAIN, SHORT, wait};

/// How often authd is asked for its health.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// How long authd may hold the list of revocations.
const REVOCATIONS_WAIT_MS: u32 = 25_000;
/// Before another look at an authd whose policy could not be taken over.
const REFUSED: Duration = Duration::from_secs(30);

/// The link. Clones share it.
#[derive(Clone, Debug)]
pub struct Authd {
    verbs: Verbs,
    policies: Policies,
    /// Whether authd said at the last heartbeat that it could sign people in.
    able: Arc<AtomicBool>,
}

impl Authd {
    /// Connects for the first time, however long that takes, and keeps the link up from then on. Nothing
    /// can be served before this returns: keys, policy and the full list of revocations come with it.
    pub async fn connect(address: AuthdAddress, stop: CancellationToken) -> Result<Self> {
        let Session { client, description, revocations } = tokio::select! {
            first = reconnect(&address) => first,
            () = stop.cancelled() => anyhow::bail!("stopped before authd answered"),
        };
        let (mode, version) = (description.mode, revocations.version);
        let policy = Policy::new(description, revocations)?;
        tracing::info!(
            mode = mode.as_str(),
            keys = policy.description().keys.len(),
            "authd answers"
        );
        let verbs = Verbs::new(client.clone());
        let policies = Policies::new(policy, Arc::new(verbs.clone()));
        let link = Self { verbs, policies, able: Arc::new(AtomicBool::new(true)) };
        let keeper = link.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = keeper.keep(address, client, version) => {}
                () = stop.cancelled() => {}
            }
        });
        Ok(link)
    }

    pub fn policies(&self) -> &Policies {
        &self.policies
    }

    /// What can be asked of authd.
    pub fn verbs(&self) -> &Verbs {
        &self.verbs
    }

    /// Whether authd answers now. Tokens are verified without it.
    pub fn is_connected(&self) -> bool {
        self.verbs.is_connected()
    }

    /// Whether it answers and, at the last heartbeat, could sign people in.
    pub fn is_able(&self) -> bool {
        self.is_connected() && self.able.load(Ordering::Relaxed)
    }

    /// Follows the session until it breaks, then makes a new one; for ever.
    async fn keep(&self, address: AuthdAddress, mut client: AuthdClient, mut version: u64) {
        loop {
            let begun = Instant::now();
            let error = tokio::select! {
                error = self.follow_revocations(&client, version) => error,
                error = self.heartbeat(&client) => error,
            };
            tracing::warn!(%error, "authd does not answer; tokens stay good until they expire");
            self.verbs.set(None);
            // An authd that hangs up as soon as it has introduced itself must not turn this into a busy loop.
            tokio::time::sleep_until(begun + AGAIN).await;
            (client, version) = self.come_back(&address).await;
            self.verbs.set(Some(client.clone()));
            tracing::info!("authd answers again");
        }
    }

    /// Connects again, until authd has a policy that can be taken over. Until then the older one stays.
    async fn come_back(&self, address: &AuthdAddress) -> (AuthdClient, u64) {
        loop {
            let Session { client, description, revocations } = reconnect(address).await;
            let version = revocations.version;
            match Policy::new(description, revocations.clone()) {
                Ok(policy) => match policy.opens_beyond(&self.policies.current()) {
                    None => {
                        // First: whoever is woken by the new policy may have something to ask.
                        self.verbs.set(Some(client.clone()));
                        self.policies.install(policy);
                        return (client, version);
                    }
                    Some(opened) => {
                        tracing::error!(
                            opened,
                            "authd came back with a policy that opens what was closed; the older one stays until this \
                             program is started again"
                        );
                        // What was taken away counts all the same.
                        self.policies.follow(revocations);
                    }
                },
                Err(error) => {
                    tracing::error!(%error, "authd's policy cannot be used; the older one stays");
                }
            }
            tokio::time::sleep(REFUSED).await;
        }
    }

    async fn follow_revocations(&self, client: &AuthdClient, mut version: u64) -> RpcError {
        loop {
            let (context, asked) = (deadline(wait(REVOCATIONS_WAIT_MS)), Instant::now());
            match client.revocations(context, version, REVOCATIONS_WAIT_MS).await {
                Err(error) => return error,
                Ok(news) if news.version != version => {
                    version = news.version;
                    self.policies.follow(news);
                }
                // A server that answers early must not turn this into a busy loop.
                Ok(_) => tokio::time::sleep_until(asked + AGAIN).await,
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
