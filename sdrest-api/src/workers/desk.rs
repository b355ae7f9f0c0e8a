//! The jobs that one worker has been given and that have not ended yet. They outlive a connection: a worker
//! that comes back with the same incarnation goes on with them.

use crate::jobs::{Job, Progress, WorkQueue, store::Blame};
use sdrest_proto::{
    id::{Attempt, JobId},
    worker::SubmitJob,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Instant,
};
use tokio::sync::watch;

use crate::workers::outcome::Pictures;

/// One job at the worker.
pub(crate) struct Flight {
    pub(crate) job: Box<Job>,
    share: u64,
    /// The connection over which it was sent; 0 before.
    sent_in: u64,
    /// Its place among all that the worker was sent; nothing before.
    sent: Option<u64>,
    /// Whether it has a slot.
    pub(crate) started: bool,
    /// Whether it was cancelled since.
    pub(crate) cancelled: bool,
    pub(crate) progress: Progress,
    /// Its pictures on their way to the blob store, by their place in the job.
    pub(crate) pictures: Pictures,
}

/// All jobs at one worker.
pub(crate) struct Desk {
    flights: Mutex<BTreeMap<JobId, Flight>>,
    /// Jobs that the worker is told to stop and has not answered for.
    stopping: Mutex<BTreeSet<JobId>>,
    /// Counts what the worker was sent.
    sent: AtomicU64,
    /// Places that stay taken a while after their job came back unasked.
    resting: AtomicUsize,
    /// When the worker was last heard of to work at steps.
    ticked: Mutex<Option<Instant>>,
    changes: watch::Sender<u64>,
}

impl Desk {
    pub(crate) fn new() -> Self {
        Self {
            flights: Mutex::new(BTreeMap::new()),
            stopping: Mutex::new(BTreeSet::new()),
            sent: AtomicU64::new(0),
            resting: AtomicUsize::new(0),
            ticked: Mutex::new(None),
            changes: watch::Sender::new(0),
        }
    }

    fn flights(&self) -> MutexGuard<'_, BTreeMap<JobId, Flight>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stopping(&self) -> MutexGuard<'_, BTreeSet<JobId>> {
        self.stopping.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self) {
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Changes whenever a job comes or goes.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    pub(crate) fn put(&self, job: Box<Job>, share: u64) {
        let request = &job.request;
        let progress = Progress {
            steps: request.num_inference_steps.get(),
            images: request.num_images.get(),
            ..Progress::default()
        };
        let (started, cancelled, pictures) = (false, false, BTreeMap::new());
        let (sent_in, sent) = (0, None);
        let flight = Flight { share, sent_in, sent, started, cancelled, progress, pictures, job };
        self.flights().insert(flight.job.id, flight);
        self.changed();
    }

    /// Removes a job that has ended or is given up, if it is here under this attempt.
    pub(crate) fn take(&self, job: JobId, attempt: Attempt) -> Option<Flight> {
        let mut flights = self.flights();
        let flight = flights
            .get(&job)
            .is_some_and(|flight| flight.job.attempt == attempt)
            .then(|| flights.remove(&job));
        drop(flights);
        self.changed();
        flight.flatten()
    }

    /// Changes a job that is here under this attempt.
    pub(crate) fn change<T>(
        &self,
        job: JobId,
        attempt: Attempt,
        change: impl FnOnce(&mut Flight) -> T,
    ) -> Option<T> {
        self.flights().get_mut(&job).filter(|flight| flight.job.attempt == attempt).map(change)
    }

    /// Marks a job as cancelled; gives whether it is here.
    pub(crate) fn mark_cancelled(&self, job: JobId) -> bool {
        self.flights().get_mut(&job).map(|flight| flight.cancelled = true).is_some()
    }

    pub(crate) fn holds(&self, job: JobId) -> bool {
        self.flights().contains_key(&job)
    }

    /// All that is here, by id and attempt.
    pub(crate) fn all(&self) -> Vec<(JobId, Attempt)> {
        self.flights().values().map(|flight| (flight.job.id, flight.job.attempt)).collect()
    }

    /// All that is here, and what each has to do with the loss of the worker. Whatever had a slot may have caused
    /// it; where nothing had, it may be the one that was sent first: the news of its slot may have died too.
    pub(crate) fn blames(&self) -> Vec<(JobId, Attempt, Blame)> {
        let flights = self.flights();
        let any_started = flights.values().any(|flight| flight.started);
        let sent = flights.values().filter_map(|flight| Some((flight.sent?, flight.job.id)));
        let first = if any_started { None } else { sent.min().map(|(_, job)| job) };
        let blame = |flight: &Flight| match flight.started {
            true => Blame::Suspect { step: flight.progress.step },
            false if first == Some(flight.job.id) => Blame::Possible,
            false => Blame::Innocent,
        };
        flights.values().map(|flight| (flight.job.id, flight.job.attempt, blame(flight))).collect()
    }

    /// What was not sent over this connection yet and may be.
    pub(crate) fn unsent(&self, connection: u64) -> Vec<SubmitJob> {
        let (flights, stopping) = (self.flights(), self.stopping());
        let unsent = flights.values().filter(|flight| flight.sent_in != connection);
        let unsent = unsent.filter(|flight| !stopping.contains(&flight.job.id));
        let submits = unsent.map(|flight| SubmitJob {
            job: flight.job.id,
            attempt: flight.job.attempt,
            share: flight.share,
            request_id: flight.job.request_id,
            request: flight.job.request.clone(),
        });
        submits.collect()
    }

    /// Notes that a job is on its way. Before the worker has it: it may die over it at once.
    pub(crate) fn mark_sending(&self, job: JobId, attempt: Attempt) {
        let place = self.sent.fetch_add(1, Ordering::Relaxed);
        self.change(job, attempt, |flight| *flight.sent.get_or_insert(place));
    }

    /// Notes that the worker has a job, and gives whether it was cancelled in the meantime.
    pub(crate) fn mark_sent(&self, job: JobId, attempt: Attempt, connection: u64) -> bool {
        let sent = self.change(job, attempt, |flight| {
            flight.sent_in = connection;
            flight.cancelled
        });
        sent.unwrap_or(false)
    }

    /// How many places are taken, and whether a job that is here must run alone.
    pub(crate) fn load(&self) -> (usize, bool) {
        let flights = self.flights();
        let taken = flights.len() + self.resting.load(Ordering::Relaxed);
        (taken, flights.values().any(|flight| flight.job.worker_deaths > 0))
    }

    /// Holds a job back until the guard is dropped, or gives nothing where the job is here already. An interrupt names
    /// no attempt, and a worker may do what it is told in another order: while one is under way, the job must not be
    /// sent again.
    pub(crate) fn stop(self: &Arc<Self>, job: JobId) -> Option<Stopping> {
        let (flights, mut stopping) = (self.flights(), self.stopping());
        if flights.contains_key(&job) || !stopping.insert(job) {
            return None;
        }
        Some(Stopping(Arc::clone(self), job))
    }

    /// Takes a place until the guard is dropped: a worker that gives back whatever it gets cannot run through
    /// the whole queue meanwhile.
    pub(crate) fn rest(self: &Arc<Self>) -> Rest {
        self.resting.fetch_add(1, Ordering::Relaxed);
        Rest(Arc::clone(self))
    }

    /// Notes that a job has a slot. What the worker does until the next step is no measure of its pace, as it may
    /// load a model; where there is only one step, there is no other measure.
    pub(crate) fn start(&self, job: JobId, attempt: Attempt) {
        let steps = self.change(job, attempt, |flight| {
            flight.started = true;
            flight.progress.steps
        });
        *self.ticked.lock().unwrap_or_else(PoisonError::into_inner) =
            (steps == Some(1)).then(Instant::now);
    }

    /// Notes steps of a job, tells its watchers, and measures the pace.
    pub(crate) fn step(&self, queue: &WorkQueue, job: JobId, attempt: Attempt, step: u32) {
        let told = self.change(job, attempt, |flight| {
            let step = step.min(flight.progress.steps);
            let fresh = step.saturating_sub(flight.progress.step);
            flight.progress.step = step;
            let share = f64::from(fresh) / f64::from(flight.progress.steps.max(1));
            (flight.progress, share * crate::jobs::fairness::cost(&flight.job.request) as f64)
        });
        let Some((progress, cost)) = told else { return };
        queue.progress(job, attempt, progress);
        let now = Instant::now();
        let before = self.ticked.lock().unwrap_or_else(PoisonError::into_inner).replace(now);
        if let Some(before) = before {
            queue.observe_pace(cost, now - before);
        }
    }
}

/// A job that the worker is being told to stop.
pub(crate) struct Stopping(Arc<Desk>, JobId);

impl Drop for Stopping {
    fn drop(&mut self) {
        self.0.stopping().remove(&self.1);
        self.0.changed();
    }
}

/// A place on the desk that is not given away yet.
pub(crate) struct Rest(Arc<Desk>);

impl Drop for Rest {
    fn drop(&mut self) {
        self.0.resting.fetch_sub(1, Ordering::Relaxed);
        self.0.changed();
    }
}
