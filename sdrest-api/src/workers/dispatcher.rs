//! One worker, served for as long as the server runs: connect, feed, read, interrupt; and let wait again what
//! a dead worker took with it.

use crate::{
    images::BlobStore,
    jobs::WorkQueue,
    workers::{
        board::Board,
        connection::{Backoff, Link, LinkError},
        desk::Desk,
        feeder::Feeder,
        outcome::Recorder,
        reader::Reader,
        settings::WorkerSettings,
    },
};
use sdrest_proto::{id::JobId, transport::deadline};
use std::{
    num::NonZero,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread::available_parallelism,
    time::{Duration, Instant},
};
use tokio::{
    sync::{Semaphore, broadcast, broadcast::error::RecvError},
    time::sleep,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// How long a worker may take to answer what it only has to look up.
const VERB: Duration = Duration::from_secs(30);
/// How often models are looked at: often until all hashes are known, seldom after.
const LOOK_SOON: Duration = Duration::from_millis(500);
const LOOK_LATER: Duration = Duration::from_secs(15);
/// Looks at `LOOK_SOON`, at most.
const SOON_LOOKS: u32 = 120;
/// A worker that served for so long is connected to again at once.
const SETTLED: Duration = Duration::from_secs(2);

/// Which worker a dispatcher serves, and with what.
pub(crate) struct Room {
    pub(crate) worker: usize,
    pub(crate) socket: PathBuf,
    pub(crate) settings: WorkerSettings,
    pub(crate) board: Arc<Board>,
    pub(crate) tasks: TaskTracker,
    pub(crate) stop: CancellationToken,
}

/// Serves one worker.
pub(crate) struct Dispatcher {
    room: Room,
    queue: WorkQueue,
    desk: Arc<Desk>,
    recorder: Arc<Recorder>,
    reader: Reader,
    interrupts: broadcast::Receiver<JobId>,
    /// Counts connections, from 1.
    connection: u64,
}

impl Dispatcher {
    pub(crate) fn new(room: Room, queue: WorkQueue, blobs: BlobStore) -> Self {
        let desk = Arc::new(Desk::new());
        let recorder = Arc::new(Recorder {
            worker: room.worker,
            queue: queue.clone(),
            blobs,
            board: Arc::clone(&room.board),
            stop: room.stop.clone(),
            encoders: Semaphore::new(available_parallelism().map_or(1, NonZero::get)),
            hashless: Mutex::default(),
        });
        let reader = Reader {
            desk: Arc::clone(&desk),
            recorder: Arc::clone(&recorder),
            tasks: room.tasks.clone(),
            cursor: AtomicU64::new(0),
        };
        let interrupts = queue.interrupts();
        Self { room, queue, desk, recorder, reader, interrupts, connection: 0 }
    }

    /// Connects again and again until the server stops.
    pub(crate) async fn run(mut self) {
        let stop = self.room.stop.clone();
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.serve() => {}
        }
        self.room.board.disconnected(self.room.worker);
    }

    async fn serve(&mut self) {
        let socket = self.room.socket.clone();
        let (mut incarnation, mut backoff) = (None, Backoff::new());
        loop {
            let link = self.reconnect(&socket).await;
            if incarnation.is_some_and(|known| known != link.description.incarnation) {
                self.give_up().await;
            }
            if incarnation != Some(link.description.incarnation) {
                incarnation = Some(link.description.incarnation);
                self.reader.cursor.store(0, Ordering::Relaxed);
            }
            tracing::info!(
                worker = self.room.worker,
                profile = link.description.profile.line(),
                "worker connected"
            );
            self.room.board.connected(self.room.worker, &link);
            self.connection += 1;
            let begun = Instant::now();
            let error = self.session(&link).await;
            self.room.board.disconnected(self.room.worker);
            tracing::warn!(worker = self.room.worker, %error, "worker lost");
            if begun.elapsed() >= SETTLED {
                backoff = Backoff::new();
            } else {
                sleep(backoff.next()).await;
            }
        }
    }

    /// Tries until there is a link. Where there are other workers, this one's jobs go to them after a while.
    async fn reconnect(&self, socket: &Path) -> Link {
        let (lost, mut backoff, mut told) = (Instant::now(), Backoff::new(), false);
        loop {
            match Link::open(socket, &self.room.settings.trusted).await {
                Ok(link) => return link,
                Err(error) if told => {
                    tracing::debug!(worker = self.room.worker, %error, "still no worker")
                }
                Err(error) => {
                    told = true;
                    tracing::warn!(worker = self.room.worker, %error, "the worker cannot be reached; trying again");
                }
            }
            if self.room.settings.sockets.len() > 1 && lost.elapsed() > self.room.settings.grace {
                self.give_up().await;
            }
            sleep(backoff.next()).await;
        }
    }

    /// Lets everything that the worker had wait again: it came back as another process, or cannot be reached. Of
    /// one that cannot be reached nobody knows that it did not die over a job.
    async fn give_up(&self) {
        for (job, attempt, blame) in self.desk.blames() {
            let requeued = self.recorder.requeue(job, attempt, blame).await;
            tracing::warn!(%job, %attempt, ?blame, ?requeued, "the job's worker went away");
            if let Some(flight) = self.desk.take(job, attempt) {
                let recorder = Arc::clone(&self.recorder);
                self.room.tasks.spawn(async move { recorder.dispose(flight.pictures).await });
            }
        }
    }

    /// Uses a link until it fails.
    async fn session(&mut self, link: &Link) -> LinkError {
        let capacity = usize::try_from(link.description.capacity).unwrap_or(usize::MAX).max(1);
        let feeder = Feeder {
            worker: self.room.worker,
            most: self.room.settings.jobs_per_worker.clamp(1, capacity),
            board: Arc::clone(&self.room.board),
            queue: self.queue.clone(),
            desk: Arc::clone(&self.desk),
            recorder: Arc::clone(&self.recorder),
            connection: self.connection,
        };
        let ended = tokio::select! {
            ended = feeder.feed(link) => ended,
            ended = self.reader.read(link) => ended,
            ended = interrupt(&self.queue, &self.desk, &mut self.interrupts, link) => ended,
            ended = keep_models(&self.room, link) => ended,
        };
        ended.err().unwrap_or(LinkError::Restarted)
    }
}

/// Stops at the worker what was cancelled.
async fn interrupt(
    queue: &WorkQueue,
    desk: &Desk,
    interrupts: &mut broadcast::Receiver<JobId>,
    link: &Link,
) -> Result<(), LinkError> {
    loop {
        let cancelled = match interrupts.recv().await {
            Ok(job) => vec![job],
            Err(RecvError::Lagged(_)) => ended_meanwhile(queue, desk).await,
            Err(RecvError::Closed) => return Err(LinkError::Stopping),
        };
        for job in cancelled {
            if desk.mark_cancelled(job) {
                link.client.interrupt(deadline(VERB), job).await?;
            }
        }
    }
}

async fn ended_meanwhile(queue: &WorkQueue, desk: &Desk) -> Vec<JobId> {
    let mut ended = Vec::new();
    for (job, attempt) in desk.all() {
        if let Ok(false) = queue.is_running(job, attempt).await {
            ended.push(job);
        }
    }
    ended
}

/// Keeps what is known of the worker's models fresh.
async fn keep_models(room: &Room, link: &Link) -> Result<(), LinkError> {
    let mut models = link.models.clone();
    let mut soon = SOON_LOOKS;
    loop {
        let unknown = models.iter().any(|model| model.hash.is_none() && model.fault.is_none());
        if unknown && soon > 0 {
            soon -= 1;
            sleep(LOOK_SOON).await;
        } else {
            sleep(LOOK_LATER).await;
        }
        models = link.client.list_models(deadline(VERB)).await?;
        room.board.set_models(room.worker, models.clone());
    }
}
