//! How the workers are, as health answers show it. Anybody may ask that as often as they like, and a worker
//! answers over the same connection as its jobs use: so there is one look a second for everybody, never two at
//! a time, with all workers asked at once.

use crate::workers::board::{Board, Entry};
use futures::future::join_all;
use sdrest_proto::{
    error::{ErrorCode, Fault},
    health::Health,
    transport::deadline,
    worker::WorkerDescription,
};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tarpc::client::RpcError;
use tokio::{sync::OwnedMutexGuard, time::timeout};

/// How long a worker may take to say how it is.
pub(crate) const HEALTH: Duration = Duration::from_secs(3);
/// How long an answer is good for.
const FRESH: Duration = Duration::from_secs(1);
/// Seconds until a client may find a worker back.
const RETRY: u32 = 5;

/// One worker as health answers show it.
#[derive(Clone, Debug)]
pub struct WorkerReport {
    /// The socket's file name without its ending.
    pub name: String,
    pub connected: bool,
    /// As it was described last.
    pub description: Option<WorkerDescription>,
    /// Its own answer, or why there is none.
    pub health: Result<Health, Fault>,
}

/// The last look. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Reports {
    last: Arc<Mutex<Option<Look>>>,
    /// Held by whoever looks.
    turn: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Clone)]
struct Look {
    begun: Instant,
    /// The board's version before it.
    version: u64,
    reports: Vec<WorkerReport>,
}

impl Reports {
    /// The last look if it is fresh, else a new one; while somebody looks, everybody else takes the last.
    pub(crate) async fn get(&self, board: &Arc<Board>) -> Vec<WorkerReport> {
        let last = self.last();
        if let Some(look) = last.as_ref().filter(|look| look.is_fresh(board)) {
            return look.reports.clone();
        }
        let turn = match (Arc::clone(&self.turn).try_lock_owned(), last) {
            (Ok(turn), _) => turn,
            (Err(_), Some(look)) => return look.reports,
            (Err(_), None) => Arc::clone(&self.turn).lock_owned().await,
        };
        match self.last().filter(|look| look.is_fresh(board)) {
            Some(look) => look.reports,
            None => self.look(Arc::clone(board), turn).await,
        }
    }

    fn last(&self) -> Option<Look> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// In a task of its own, so that askers who go away do not each begin one.
    async fn look(&self, board: Arc<Board>, turn: OwnedMutexGuard<()>) -> Vec<WorkerReport> {
        let last = Arc::clone(&self.last);
        let looking = tokio::spawn(async move {
            let (begun, version) = (Instant::now(), board.version());
            let reports = join_all(board.snapshot().into_iter().map(ask)).await;
            let look = Look { begun, version, reports: reports.clone() };
            *last.lock().unwrap_or_else(PoisonError::into_inner) = Some(look);
            drop(turn);
            reports
        });
        looking.await.unwrap_or_default()
    }
}

impl Look {
    /// A worker that came or went meanwhile is worth another look.
    fn is_fresh(&self, board: &Board) -> bool {
        self.begun.elapsed() < FRESH && self.version == board.version()
    }
}

async fn ask(entry: Entry) -> WorkerReport {
    let health = match &entry.client {
        None => Err(no_worker()),
        Some(client) => match timeout(HEALTH, client.health(deadline(HEALTH))).await {
            Ok(answer) => answer.map_err(|error| unreachable_worker(&error)),
            Err(_) => Err(unreachable_worker(&RpcError::DeadlineExceeded)),
        },
    };
    let connected = health.is_ok();
    WorkerReport { name: entry.name, connected, description: entry.description, health }
}

pub(crate) fn no_worker() -> Fault {
    Fault::new(ErrorCode::WorkerUnavailable, "no worker is connected now").retry_after(RETRY)
}

pub(crate) fn unreachable_worker(error: &RpcError) -> Fault {
    tracing::warn!(%error, "a worker did not answer");
    Fault::new(ErrorCode::WorkerUnavailable, "the worker did not answer in time").retry_after(RETRY)
}
