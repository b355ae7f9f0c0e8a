//! One connection to one worker, checked and introduced: the peer's uid, the protocol, what the worker is and
//! which models it has.

use sdrest_proto::{
    model::ModelInfo,
    transport::{TrustedUids, WORKER, connect, deadline},
    worker::{WorkerClient, WorkerDescription},
};
use std::{io, path::Path, time::Duration};
use tarpc::client::{Config, RpcError};
use thiserror::Error;

/// How long a verb may take that only reads memory.
const QUICK: Duration = Duration::from_secs(10);

/// Why there is no link to a worker.
#[derive(Debug, Error)]
pub(crate) enum LinkError {
    #[error("connect: {0}")]
    Connect(#[from] io::Error),
    #[error("call: {0}")]
    Call(#[from] RpcError),
    #[error("the worker was restarted while its connection stayed open")]
    Restarted,
    #[error("the connection is being closed because the server stops")]
    Stopping,
}

/// A live link.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub(crate) client: WorkerClient,
    pub(crate) description: WorkerDescription,
    pub(crate) models: Vec<ModelInfo>,
}

impl Link {
    /// Connects and asks what is there.
    pub(crate) async fn open(socket: &Path, trusted: &TrustedUids) -> Result<Self, LinkError> {
        let transport = connect(socket, trusted, WORKER).await?;
        let client = WorkerClient::new(Config::default(), transport).spawn();
        let description = client.describe(deadline(QUICK)).await?;
        let models = client.list_models(deadline(QUICK)).await?;
        Ok(Self { client, description, models })
    }
}

/// The time between tries to connect: short at first, never above two seconds.
#[derive(Debug)]
pub(crate) struct Backoff(Duration);

impl Backoff {
    const FIRST: Duration = Duration::from_millis(50);
    const MOST: Duration = Duration::from_secs(2);

    pub(crate) fn new() -> Self {
        Self(Self::FIRST)
    }

    /// The next pause.
    pub(crate) fn next(&mut self) -> Duration {
        let now = self.0;
        self.0 = (now * 2).min(Self::MOST);
        now
    }
}
