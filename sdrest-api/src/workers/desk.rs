//! The jobs that one worker has been given and that have not ended yet. They outlive a connection: a worker
//! that comes back with the same incarnation goes on with them.

use crate::jobs::{Job, Progress, WorkQueue};
use sdrest_proto::{
    id::{Attempt, JobId},
    worker::SubmitJob,
};
use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
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
    /// When the worker was last heard of to work.
    ticked: Mutex<Option<Instant>>,
    changes: watch::Sender<u64>,
}

impl Desk {
    pub(crate) fn new() -> Self {
        Self {
            flights: Mutex::new(BTreeMap::new()),
            ticked: Mutex::new(None),
            changes: watch::Sender::new(0),
        }
    }

    fn flights(&self) -> MutexGuard<'_, BTreeMap<JobId, Flight>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
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
        let flight = Flight { share, sent_in: 0, started, cancelled, progress, pictures, job };
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

    /// All that is here, by id and attempt, and the steps done of what has a slot.
    pub(crate) fn all(&self) -> Vec<(JobId, Attempt, Option<u32>)> {
        self.flights()
            .values()
            .map(|flight| {
                (flight.job.id, flight.job.attempt, flight.started.then_some(flight.progress.step))
            })
            .collect()
    }

    /// What was not sent over this connection yet.
    pub(crate) fn unsent(&self, connection: u64) -> Vec<SubmitJob> {
        let flights = self.flights();
        let unsent = flights.values().filter(|flight| flight.sent_in != connection);
        let submits = unsent.map(|flight| SubmitJob {
            job: flight.job.id,
            attempt: flight.job.attempt,
            share: flight.share,
            request_id: flight.job.request_id,
            request: flight.job.request.clone(),
        });
        submits.collect()
    }

    /// Notes that the worker has a job, and gives whether it was cancelled in the meantime.
    pub(crate) fn mark_sent(&self, job: JobId, attempt: Attempt, connection: u64) -> bool {
        let sent = self.change(job, attempt, |flight| {
            flight.sent_in = connection;
            flight.cancelled
        });
        sent.unwrap_or(false)
    }

    /// How many jobs are here, and whether one of them must run alone.
    pub(crate) fn load(&self) -> (usize, bool) {
        let flights = self.flights();
        (flights.len(), flights.values().any(|flight| flight.job.worker_deaths > 0))
    }

    /// The worker begins to work now: the time before does not count.
    pub(crate) fn start_clock(&self) {
        *self.ticked.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
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
