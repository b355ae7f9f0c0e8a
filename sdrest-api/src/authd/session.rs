//! One connection to authd, from the first try to the description and the list of revocations that come with it.

use super::verbs::SHORT;
use anyhow::{Context, Result};
use sdrest_proto::{
    authd::{AuthdClient, AuthdDescription, Revocations},
    transport::{self, AUTHD, TrustedUids, deadline},
};
use std::{path::PathBuf, time::Duration};
use tarpc::client::Config;

/// Between two attempts to connect.
const RETRY: Duration = Duration::from_millis(250);
const RETRY_MAX: Duration = Duration::from_secs(2);

/// Where authd is, and who may be at the other end.
#[derive(Clone, Debug)]
pub struct AuthdAddress {
    pub socket: PathBuf,
    pub trusted: TrustedUids,
}

/// What a connection begins with.
pub(super) struct Session {
    pub(super) client: AuthdClient,
    pub(super) description: AuthdDescription,
    pub(super) revocations: Revocations,
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

/// Tries until it works; says why not at the first try and then once every half minute.
pub(super) async fn reconnect(address: &AuthdAddress) -> Session {
    let (mut pause, mut tries) = (RETRY, 0_u32);
    loop {
        match open(address).await {
            Ok(session) => return session,
            Err(error) if tries.is_multiple_of(15) => {
                tracing::warn!(socket = %address.socket.display(), "authd cannot be reached: {error:#}");
            }
            Err(_) => {}
        }
        tries = tries.wrapping_add(1);
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(RETRY_MAX);
    }
}
