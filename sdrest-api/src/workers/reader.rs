//! What a worker tells, in its order: each event is handled whole before the cursor moves past it, so a
//! connection that breaks in between loses nothing.

use crate::{
    jobs::store::Blame,
    workers::{
        connection::{Link, LinkError},
        desk::{Desk, Flight},
        outcome::{RawPicture, Recorder, will_pass},
    },
};
use sdrest_proto::{
    event::{JobEvent, WorkerEvent},
    id::{Attempt, JobId},
    transport::deadline,
};
use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::time::sleep;
use tokio_util::task::TaskTracker;

/// How long one poll is held by the worker.
const HOLD: Duration = Duration::from_secs(20);
/// How much longer than that an answer may take before the worker counts as hung.
const PATIENCE: Duration = Duration::from_secs(30);

/// The pause after a poll that was answered early and with nothing new: a worker cannot keep us busy with that.
const PAUSE: Duration = Duration::from_millis(20);

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
            let (context, begun) = (deadline(HOLD + PATIENCE), Instant::now());
            let page = link.client.next_events(context, after, HOLD.as_millis() as u32).await?;
            if page.incarnation != link.description.incarnation {
                return Err(LinkError::Restarted);
            }
            for event in page.events {
                if event.sequence <= self.cursor.load(Ordering::Relaxed) {
                    continue;
                }
                self.cursor.store(event.sequence, Ordering::Relaxed);
                if self.desk.holds(event.job) {
                    self.handle(event);
                } else if !event.event.is_last() && strays.insert((event.job, event.attempt)) {
                    self.stop_stray(link, event.job).await?;
                }
            }
            let nothing_new = self.cursor.load(Ordering::Relaxed) == after;
            if nothing_new && begun.elapsed() < HOLD / 2 {
                sleep(PAUSE).await;
            }
        }
    }

    /// A job that nobody here waits for: of an attempt that was given up, or of an earlier run of the server. It is
    /// not stopped where it has come back meanwhile, and does not come back before it is stopped.
    async fn stop_stray(&self, link: &Link, job: JobId) -> Result<(), LinkError> {
        if let Some(_stopping) = self.desk.stop(job) {
            link.client.interrupt(deadline(PATIENCE), job).await?;
        }
        Ok(())
    }

    fn handle(&self, WorkerEvent { job, attempt, event, .. }: WorkerEvent) {
        let recorder = Arc::clone(&self.recorder);
        match event {
            JobEvent::Started => self.desk.start(job, attempt),
            JobEvent::Step { step, .. } => self.desk.step(&self.recorder.queue, job, attempt, step),
            JobEvent::Image { index, seed, image } => {
                self.picture(job, attempt, RawPicture { index, seed, image });
            }
            JobEvent::Done { engine_micros } => {
                tracing::debug!(%job, engine_micros, "the worker is done with a job");
                if let Some(flight) = self.desk.take(job, attempt) {
                    self.tasks
                        .spawn(async move { recorder.finish(&flight.job, flight.pictures).await });
                }
            }
            JobEvent::Failed(fault) => {
                let rest = will_pass(&fault).then(|| self.desk.rest());
                if let Some(flight) = self.desk.take(job, attempt) {
                    self.tasks.spawn(async move {
                        recorder.failed(&flight.job, fault).await;
                        drop(rest);
                        recorder.dispose(flight.pictures).await;
                    });
                }
            }
            JobEvent::Interrupted => self.interrupted(job, attempt),
        }
    }

    /// A cancelled job has ended in the store, and this changes nothing. Any other was given back unasked.
    fn interrupted(&self, job: JobId, attempt: Attempt) {
        let rest = self.desk.rest();
        let Some(flight) = self.desk.take(job, attempt) else { return };
        let rest = (!flight.cancelled).then_some(rest);
        let recorder = Arc::clone(&self.recorder);
        self.tasks.spawn(async move {
            if rest.is_some() {
                recorder.given_back(job, attempt).await;
            } else {
                recorder.requeue(job, attempt, Blame::Innocent).await;
            }
            drop(rest);
            recorder.dispose(flight.pictures).await;
        });
    }

    /// Takes a picture if it is one that was asked for; else the worker has failed over this job.
    fn picture(&self, job: JobId, attempt: Attempt, raw: RawPicture) {
        let taken = self.desk.change(job, attempt, |flight| {
            unasked(flight, &raw)?;
            let (recorder, request) = (Arc::clone(&self.recorder), flight.job.request.clone());
            let index = raw.index;
            let kept =
                self.tasks.spawn(async move { recorder.keep(job, attempt, request, raw).await });
            flight.pictures.insert(index, kept);
            flight.progress.image = flight.pictures.len() as u32;
            self.recorder.queue.progress(job, attempt, flight.progress);
            Ok(())
        });
        if let Some(Err(Unasked(what))) = taken {
            tracing::error!(%job, %attempt, what, "the worker sent a picture that was not asked for");
            self.blame(job, attempt);
        }
    }

    /// Ends an attempt without a result: the job waits again, or fails where that came to pass too often.
    fn blame(&self, job: JobId, attempt: Attempt) {
        let Some(flight) = self.desk.take(job, attempt) else { return };
        let recorder = Arc::clone(&self.recorder);
        let blame = Blame::Suspect { step: flight.progress.step };
        self.tasks.spawn(async move {
            recorder.requeue(job, attempt, blame).await;
            recorder.dispose(flight.pictures).await;
        });
    }
}

/// What is wrong with a picture.
struct Unasked(&'static str);

fn unasked(flight: &Flight, raw: &RawPicture) -> Result<(), Unasked> {
    let request = &flight.job.request;
    let seed = request.seed.get().saturating_add(raw.index.into());
    if raw.index >= request.num_images.get() {
        Err(Unasked("more pictures than asked for"))
    } else if flight.pictures.contains_key(&raw.index) {
        Err(Unasked("the same place twice"))
    } else if (raw.image.width(), raw.image.height()) != (request.width.get(), request.height.get())
    {
        Err(Unasked("another size"))
    } else if raw.seed.get() != seed {
        Err(Unasked("another seed"))
    } else {
        Ok(())
    }
}
