//! What a worker tells, in its order: each event is handled whole before the cursor moves past it, so a
//! connection that breaks in between loses nothing.

use crate::{
    jobs::store::Blame,
    workers::{
        connection::{Link, LinkError},
        desk::Desk,
        outcome::{RawPicture, Recorder},
    },
};
use sdrest_proto::{
    event::{JobEvent, WorkerEvent},
    id::JobId,
    transport::deadline,
};
use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio_util::task::TaskTracker;

/// How long one poll is held by the worker.
const HOLD: Duration = Duration::from_secs(20);
/// How much longer than that an answer may take before the worker counts as hung.
const PATIENCE: Duration = Duration::from_secs(30);

/// Reads the events of one worker.
pub(crate) struct Reader {
    pub(crate) desk: Arc<Desk>,
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) tasks: TaskTracker,
    /// The newest event that was handled, of the worker's present incarnation.
    pub(crate) cursor: AtomicU64,
}

impl Reader {
    /// Reads until the connection ends.
    pub(crate) async fn read(&self, link: &Link) -> Result<(), LinkError> {
        let mut strays = HashSet::new();
        loop {
            let after = self.cursor.load(Ordering::Relaxed);
            let context = deadline(HOLD + PATIENCE);
            let page = link.client.next_events(context, after, HOLD.as_millis() as u32).await?;
            if page.incarnation != link.description.incarnation {
                return Err(LinkError::Restarted);
            }
            for event in page.events {
                if event.sequence <= self.cursor.load(Ordering::Relaxed) {
                    continue;
                }
                self.cursor.store(event.sequence, Ordering::Relaxed);
                if !self.desk.holds(event.job) {
                    if !event.event.is_last() && strays.insert(event.job) {
                        self.stop_stray(link, event.job);
                    }
                    continue;
                }
                self.handle(event);
            }
        }
    }

    /// A job that nobody here waits for: of an attempt that was given up, or of an earlier run of the server.
    fn stop_stray(&self, link: &Link, job: JobId) {
        let client = link.client.clone();
        self.tasks.spawn(async move {
            // If it cannot be stopped it runs to its end, and its result counts for nothing.
            let _ = client.interrupt(deadline(PATIENCE), job).await;
        });
    }

    fn handle(&self, WorkerEvent { job, attempt, event, .. }: WorkerEvent) {
        match event {
            JobEvent::Started => {
                self.desk.start_clock();
                self.desk.change(job, attempt, |flight| flight.started = true);
            }
            JobEvent::Step { step, .. } => self.desk.step(&self.recorder.queue, job, attempt, step),
            JobEvent::Image { index, seed, image } => {
                let raw = RawPicture { index, seed, image };
                self.desk.change(job, attempt, |flight| {
                    let (recorder, request) =
                        (Arc::clone(&self.recorder), flight.job.request.clone());
                    let kept = self
                        .tasks
                        .spawn(async move { recorder.keep(job, attempt, request, raw).await });
                    flight.pictures.push(kept);
                    flight.progress.image = flight.pictures.len() as u32;
                    self.recorder.queue.progress(job, attempt, flight.progress);
                });
            }
            JobEvent::Done { engine_micros } => {
                tracing::debug!(%job, engine_micros, "the worker is done with a job");
                let recorder = Arc::clone(&self.recorder);
                if let Some(flight) = self.desk.take(job, attempt) {
                    self.tasks
                        .spawn(async move { recorder.finish(&flight.job, flight.pictures).await });
                }
            }
            JobEvent::Failed(fault) => {
                let recorder = Arc::clone(&self.recorder);
                if let Some(flight) = self.desk.take(job, attempt) {
                    self.tasks.spawn(async move { recorder.failed(&flight.job, fault).await });
                }
            }
            JobEvent::Interrupted => {
                let recorder = Arc::clone(&self.recorder);
                if self.desk.take(job, attempt).is_some() {
                    // A cancelled job has ended in the store, and this changes nothing.
                    self.tasks.spawn(async move {
                        recorder.requeue(job, attempt, Blame::Innocent).await
                    });
                }
            }
        }
    }
}
