//! authd's verbs, each one method, so that nobody above knows of RPC. While there is no connection they wait for one
//! a moment, as after a restart of authd, and then say so.

use crate::auth::Voucher;
use futures::future::BoxFuture;
use sdrest_proto::{
    api_key::{KeyHolder, KeyInfo, MadeKey, NewKey},
    authd::{AuthdClient, Claims, Whose},
    error::{ErrorCode, Fault},
    id::{KeyId, RequestId},
    login::{BeginLogin, ConversationRef, Grant, LoginState, PeerLogin, Poll, Respond, Step},
    secret::{ApiKey, BearerToken, RefreshToken},
    transport::deadline,
};
use std::{sync::Arc, time::Duration};
use tarpc::client::RpcError;
use tokio::{sync::watch, time::Instant};

/// What a verb that waits for nobody may take.
pub(super) const SHORT: Duration = Duration::from_secs(5);
/// What a verb may take that answers when it is on disk, or that asks the account database.
const DURABLE: Duration = Duration::from_secs(30);
/// How long a verb waits for a connection that is being made anew.
const COMES_BACK: Duration = Duration::from_secs(3);
/// How soon a question may be asked again to which there was no news.
pub(super) const AGAIN: Duration = Duration::from_secs(1);

/// The verbs. Clones share the connection.
#[derive(Clone, Debug)]
pub struct Verbs(Arc<watch::Sender<Option<AuthdClient>>>);

impl Verbs {
    pub(super) fn new(client: AuthdClient) -> Self {
        Self(Arc::new(watch::Sender::new(Some(client))))
    }

    /// The connection that is used from now on, or none.
    pub(super) fn set(&self, client: Option<AuthdClient>) {
        self.0.send_replace(client);
    }

    pub(super) fn is_connected(&self) -> bool {
        self.0.borrow().is_some()
    }

    pub async fn begin(&self, login: BeginLogin) -> Result<Step, Fault> {
        let patience = wait(login.wait_ms);
        answer(self.client().await?.begin(deadline(patience), login).await)?
    }

    pub async fn respond(&self, respond: Respond) -> Result<Step, Fault> {
        let patience = wait(respond.wait_ms);
        answer(self.client().await?.respond(deadline(patience), respond).await)?
    }

    pub async fn poll(&self, poll: Poll) -> Result<Step, Fault> {
        let patience = wait(poll.wait_ms);
        answer(self.client().await?.poll(deadline(patience), poll).await)?
    }

    /// A poll for who asks again and again: an answer without news that came early is held back, so that asking
    /// again cannot become a busy loop, whatever authd does.
    pub async fn news(&self, poll: Poll) -> Result<Step, Fault> {
        let (after, asked) = (poll.after, Instant::now());
        let pause = AGAIN.min(Duration::from_millis(u64::from(poll.wait_ms)));
        let step = self.poll(poll).await?;
        let running = matches!(step.state, LoginState::Running | LoginState::Waiting { .. });
        if running && step.sequence == after && step.messages.is_empty() {
            tokio::time::sleep_until(asked + pause).await;
        }
        Ok(step)
    }

    pub async fn cancel(
        &self,
        conversation: ConversationRef,
        request: RequestId,
    ) -> Result<(), Fault> {
        answer(self.client().await?.cancel(deadline(SHORT), conversation, request).await)?
    }

    pub async fn login_peer(&self, login: PeerLogin) -> Result<Grant, Fault> {
        answer(self.client().await?.login_peer(deadline(DURABLE), login).await)?
    }

    pub async fn refresh(&self, token: RefreshToken, request: RequestId) -> Result<Grant, Fault> {
        answer(self.client().await?.refresh(deadline(DURABLE), token, request).await)?
    }

    pub async fn logout(&self, token: BearerToken, request: RequestId) -> Result<(), Fault> {
        answer(self.client().await?.logout(deadline(DURABLE), token, request).await)?
    }

    pub async fn make_key(
        &self,
        token: BearerToken,
        new: NewKey,
        request: RequestId,
    ) -> Result<MadeKey, Fault> {
        answer(self.client().await?.make_key(deadline(DURABLE), token, new, request).await)?
    }

    pub async fn list_keys(
        &self,
        token: BearerToken,
        whose: Whose,
        request: RequestId,
    ) -> Result<Vec<KeyInfo>, Fault> {
        answer(self.client().await?.list_keys(deadline(SHORT), token, whose, request).await)?
    }

    pub async fn revoke_key(
        &self,
        token: BearerToken,
        key: KeyId,
        request: RequestId,
    ) -> Result<(), Fault> {
        answer(self.client().await?.revoke_key(deadline(DURABLE), token, key, request).await)?
    }

    async fn client(&self) -> Result<AuthdClient, Fault> {
        let mut connection = self.0.subscribe();
        let there = tokio::time::timeout(COMES_BACK, connection.wait_for(Option::is_some)).await;
        there.ok().and_then(Result::ok).and_then(|client| client.clone()).ok_or_else(unavailable)
    }
}

impl Voucher for Verbs {
    /// The account database may be asked on the way.
    fn check_key(
        &self,
        key: ApiKey,
        request: RequestId,
    ) -> BoxFuture<'static, Result<KeyHolder, Fault>> {
        let verbs = self.clone();
        Box::pin(async move {
            answer(verbs.client().await?.check_key(deadline(DURABLE), key, request).await)?
        })
    }

    fn introspect(
        &self,
        token: BearerToken,
        request: RequestId,
    ) -> BoxFuture<'static, Result<Claims, Fault>> {
        let verbs = self.clone();
        Box::pin(async move {
            answer(verbs.client().await?.introspect(deadline(SHORT), token, request).await)?
        })
    }
}

/// The other side holds an answer for so long; some more for the way.
pub(super) fn wait(ms: u32) -> Duration {
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
