//! The worker's socket: a task for each connection, each peer's uid checked before its first byte is decoded, a
//! bound on connections and on calls of each. It hands every verb to the board and never waits for the engine
//! but in `load`, `unload` and `refresh_models`. It knows no tensor and no user. A frame that cannot be decoded
//! ends its own connection and nothing else.

use crate::{
    engine::board::{Board, Question},
    sandbox::Sandboxed,
};
use futures::StreamExt;
use sdrest_proto::{
    BUILD,
    bounds::ModelName,
    error::{ErrorCode, Fault},
    health::{Health, SandboxReport, Serving},
    id::JobId,
    model::ModelInfo,
    transport::{self, TrustedUids, WORKER},
    worker::{EventPage, SubmitJob, Worker, WorkerDescription},
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
    server::{BaseChannel, Channel, Config},
};
use tokio::{
    net::{UnixListener, UnixStream},
    sync::{Semaphore, oneshot},
};

/// Connections at once; a front end holds one or two.
const MAX_CONNECTIONS: usize = 16;
/// Calls at once on one connection; more are answered with an error.
const MAX_CALLS: usize = 32;
/// Answers that may lie ready on one connection; each may hold a picture.
const MAX_ANSWERS_READY: usize = 4;
/// The longest that `next_events` waits.
const MAX_WAIT: Duration = Duration::from_secs(60);

/// What the server is made of.
pub struct Served {
    pub board: Arc<Board>,
    pub description: WorkerDescription,
    /// Uids that may connect.
    pub trusted: TrustedUids,
}

/// One verb after another, for all connections.
#[derive(Clone)]
struct Verbs(Arc<Shared>);

struct Shared {
    board: Arc<Board>,
    description: WorkerDescription,
    trusted: TrustedUids,
    sandbox: SandboxReport,
    since: Instant,
    refused_peers: AtomicU64,
}

/// Accepts connections for ever. Ends only by being dropped, or where the listening socket breaks.
pub async fn serve(
    sandboxed: &Sandboxed,
    listener: UnixListener,
    served: Served,
) -> io::Result<()> {
    let shared = Arc::new(Shared {
        board: served.board,
        description: served.description,
        trusted: served.trusted,
        sandbox: sandboxed.report().clone(),
        since: Instant::now(),
        refused_peers: AtomicU64::new(0),
    });
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return Ok(()) };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) if is_passing(&error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
            Err(error) => return Err(error),
        };
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            serve_connection(stream, shared).await;
            drop(place);
        });
    }
}

/// accept(2): errors that concern one connection, or descriptors that are short at the moment.
fn is_passing(error: &io::Error) -> bool {
    let passing =
        [libc::ECONNABORTED, libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM, libc::EPERM];
    error.raw_os_error().is_some_and(|errno| passing.contains(&errno))
}

async fn serve_connection(stream: UnixStream, shared: Arc<Shared>) {
    let (peer, transport) = match transport::accept(stream, &shared.trusted, WORKER).await {
        Ok(accepted) => accepted,
        Err(error) => {
            shared.refused_peers.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(%error, "a peer was refused");
            return;
        }
    };
    tracing::debug!(uid = peer.uid, pid = peer.pid, "connected");
    let channel =
        BaseChannel::new(Config { pending_response_buffer: MAX_ANSWERS_READY }, transport);
    let mut calls = Box::pin(channel.max_concurrent_requests(MAX_CALLS).requests());
    // The verbs of this connection end with it: a caller that is gone needs no answer.
    let mut running = tokio::task::JoinSet::new();
    loop {
        let call = tokio::select! {
            call = calls.next() => call,
            Some(_ended) = running.join_next() => continue,
        };
        match call {
            Some(Ok(call)) => {
                running.spawn(call.execute(Verbs(Arc::clone(&shared)).serve()));
            }
            Some(Err(error)) => {
                tracing::warn!(%error, uid = peer.uid, "a connection was ended for what it sent");
                return;
            }
            None => return,
        }
    }
}

impl Worker for Verbs {
    async fn describe(self, _: Context) -> WorkerDescription {
        self.0.description.clone()
    }

    async fn list_models(self, _: Context) -> Vec<ModelInfo> {
        self.0.board.until_looked().await;
        self.0.board.models()
    }

    async fn refresh_models(self, _: Context) -> Vec<ModelInfo> {
        match self.ask(Question::Refresh).await {
            Ok(models) => models,
            Err(_) => self.0.board.models(),
        }
    }

    async fn load(self, _: Context, model: ModelName) -> Result<ModelInfo, Fault> {
        self.ask(|reply| Question::Load(model, reply)).await?
    }

    async fn unload(self, _: Context, model: ModelName) -> Result<(), Fault> {
        self.ask(|reply| Question::Unload(model, reply)).await?
    }

    async fn submit(self, _: Context, job: SubmitJob) -> Result<(), Fault> {
        let (request_id, id, attempt) = (job.request_id, job.job, job.attempt);
        let answer = self.0.board.submit(job);
        match &answer {
            Ok(()) => tracing::info!(%request_id, job = %id, %attempt, "taken"),
            Err(fault) => tracing::warn!(%request_id, job = %id, %attempt, %fault, "not taken"),
        }
        answer
    }

    async fn next_events(self, _: Context, after: u64, wait_ms: u32) -> EventPage {
        let wait = Duration::from_millis(wait_ms.into()).min(MAX_WAIT);
        let events = self.0.board.next_events(after, wait).await;
        EventPage { incarnation: self.0.board.incarnation(), events }
    }

    async fn interrupt(self, _: Context, job: JobId) -> bool {
        let was_there = self.0.board.interrupt(job);
        tracing::info!(%job, was_there, "interrupt");
        was_there
    }

    async fn health(self, _: Context) -> Health {
        self.0.health()
    }
}

impl Verbs {
    /// Asks the engine thread; its answer comes after the step that runs now.
    async fn ask<Answer>(
        &self,
        question: impl FnOnce(oneshot::Sender<Answer>) -> Question,
    ) -> Result<Answer, Fault> {
        let (reply, answer) = oneshot::channel();
        self.0.board.ask(question(reply));
        answer.await.map_err(|_| {
            Fault::new(ErrorCode::WorkerUnavailable, "the worker is stopping").retry_after(2)
        })
    }
}

impl Shared {
    fn health(&self) -> Health {
        let figures = self.board.figures();
        let models = self.board.models();
        let profile = &self.description.profile;
        let stopping = self.board.is_stopping();
        let detail =
            format!("{} on {}, {} threads", profile.dtype, profile.device, profile.threads);
        Health {
            serving: if stopping { Serving::Draining } else { Serving::Serving },
            detail: if models.is_empty() {
                format!("{detail}; no model in the models folder")
            } else {
                detail
            },
            build: BUILD.to_owned(),
            pid: std::process::id(),
            uid: nix::unistd::geteuid().as_raw(),
            uptime_seconds: self.since.elapsed().as_secs(),
            sandbox: self.sandbox.clone(),
            figures: [
                ("active_slots", figures.active_slots),
                ("waiting_jobs", figures.waiting_jobs),
                ("steps_done", figures.steps_done),
                ("images_done", figures.images_done),
                ("jobs_failed", figures.jobs_failed),
                ("unread_events", figures.unread_events),
                ("unread_picture_bytes", figures.unread_picture_bytes),
                ("models", models.len() as u64),
                ("models_loaded", models.iter().filter(|model| model.loaded).count() as u64),
                ("refused_peers", self.refused_peers.load(Ordering::Relaxed)),
            ]
            .map(|(name, figure)| (name.to_owned(), figure))
            .into(),
        }
    }
}

#[cfg(test)]
mod tests;
