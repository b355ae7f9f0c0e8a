//! Where the server and the engine thread meet: jobs that wait, what is known of each job's attempt, events
//! that wait for their reader, questions for the engine thread. It is one lock, held for moments only, so the
//! server answers at once while a step takes seconds. It names no tensor and runs nothing.
//!
//! Fencing happens here and nowhere else: an event counts only while its attempt is the job's newest.

use super::events::EventLog;
use sdrest_proto::{
    bounds::ModelName,
    error::{ErrorCode, Fault},
    event::{JobEvent, WorkerEvent},
    id::{Attempt, JobId},
    model::ModelInfo,
    worker::SubmitJob,
};
use std::{
    collections::{HashMap, VecDeque},
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::sync::{oneshot, watch};

/// How much there may be at once.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Jobs in slots.
    pub active: usize,
    /// Jobs that wait for a slot.
    pub waiting: usize,
    /// Bytes of pictures that nobody has read; above it no slot goes on.
    pub unread_picture_bytes: usize,
    /// Ended jobs whose attempt is still known, so that the same attempt is not drawn twice.
    pub remembered: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { active: 8, waiting: 64, unread_picture_bytes: 256 << 20, remembered: 4096 }
    }
}

/// A question that only the engine thread can answer.
#[derive(Debug)]
pub enum Question {
    /// Nobody asks; the engine has something new to say of its models.
    Look,
    Refresh(oneshot::Sender<Vec<ModelInfo>>),
    Load(ModelName, oneshot::Sender<Result<ModelInfo, Fault>>),
    Unload(ModelName, oneshot::Sender<Result<(), Fault>>),
}

impl Question {
    /// Whether nobody waits for the answer any more.
    fn is_abandoned(&self) -> bool {
        match self {
            Self::Look => false,
            Self::Refresh(reply) => reply.is_closed(),
            Self::Load(_, reply) => reply.is_closed(),
            Self::Unload(_, reply) => reply.is_closed(),
        }
    }
}

/// What the engine thread is to do next.
#[derive(Debug)]
pub enum Work {
    /// Answer these, then tick if there is anything to tick.
    Go(Vec<Question>),
    Stop,
}

/// Counters for `health`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    pub active_slots: u64,
    pub waiting_jobs: u64,
    pub steps_done: u64,
    pub images_done: u64,
    pub jobs_failed: u64,
    pub unread_events: u64,
    pub unread_picture_bytes: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Waiting,
    Active,
    Ended,
}

#[derive(Debug)]
struct Ticket {
    attempt: Attempt,
    phase: Phase,
}

#[derive(Debug)]
struct State {
    jobs: HashMap<JobId, Ticket>,
    /// Ended jobs, the one that ended first in front.
    ended: VecDeque<JobId>,
    waiting: VecDeque<SubmitJob>,
    events: EventLog,
    questions: Vec<Question>,
    models: Vec<ModelInfo>,
    /// The job whose tick runs now.
    ticking: Option<JobId>,
    figures: Figures,
    stopping: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Board {
    limits: Limits,
    incarnation: u64,
    state: Mutex<State>,
    engine_wakes: Condvar,
    newest: watch::Sender<u64>,
    /// Whether the engine thread has looked at the models yet.
    looked: watch::Sender<bool>,
}

impl Board {
    pub fn new(limits: Limits) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // Microseconds, so that no earlier life of this worker can have counted as far.
        let floor = u64::try_from(now.as_micros()).unwrap_or(0);
        let state = State {
            jobs: HashMap::new(),
            ended: VecDeque::new(),
            waiting: VecDeque::new(),
            events: EventLog::starting_after(floor),
            questions: Vec::new(),
            models: Vec::new(),
            ticking: None,
            figures: Figures::default(),
            stopping: false,
        };
        Self {
            limits,
            incarnation: u64::try_from(now.as_nanos()).unwrap_or(floor),
            state: Mutex::new(state),
            engine_wakes: Condvar::new(),
            newest: watch::Sender::new(floor),
            looked: watch::Sender::new(false),
        }
    }

    /// Changes with every start of the process.
    pub fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// Jobs in slots and waiting, at most.
    pub fn capacity(&self) -> usize {
        self.limits.active + self.limits.waiting
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere ends the process soon; what is here is whole after every statement.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The server's side.
impl Board {
    /// Takes a job, or says why not: older than what is known (CONFLICT), or no room (WORKER_UNAVAILABLE).
    pub fn submit(&self, job: SubmitJob) -> Result<(), Fault> {
        let mut state = self.lock();
        if state.stopping {
            return Err(
                Fault::new(ErrorCode::WorkerUnavailable, "the worker is stopping").retry_after(2)
            );
        }
        if state.events.len() >= self.limits.remembered {
            let message = "nobody reads this worker's events";
            return Err(Fault::new(ErrorCode::WorkerUnavailable, message).retry_after(5));
        }
        let known = state.jobs.get(&job.job).map(|ticket| ticket.attempt);
        match known {
            Some(known) if known == job.attempt => return Ok(()),
            Some(known) if known > job.attempt => {
                let message =
                    format!("attempt {} of this job is older than attempt {known}", job.attempt);
                return Err(Fault::new(ErrorCode::Conflict, message));
            }
            Some(_) | None => {}
        }
        if state.waiting.iter().filter(|waiting| waiting.job != job.job).count()
            >= self.limits.waiting
        {
            let message = format!(
                "{} jobs are waiting for this worker, no more are taken",
                self.limits.waiting
            );
            return Err(Fault::new(ErrorCode::WorkerUnavailable, message).retry_after(5));
        }
        if !state.end(job.job, JobEvent::Interrupted) {
            // It had ended already; what nobody read of the older attempt would be refused as too old.
            state.events.forget(job.job);
        }
        state.ended.retain(|ended| *ended != job.job);
        state.jobs.insert(job.job, Ticket { attempt: job.attempt, phase: Phase::Waiting });
        state.waiting.push_back(job);
        self.publish(&state);
        Ok(())
    }

    /// Ends a job that waits or runs; its slot is dropped before the next step. Answers whether it was there.
    pub fn interrupt(&self, job: JobId) -> bool {
        let mut state = self.lock();
        let was_there = state.end(job, JobEvent::Interrupted);
        state.forget_oldest(self.limits.remembered);
        self.publish(&state);
        was_there
    }

    /// Events after `after`: at once if there are any, else when there are, or none after `wait`.
    pub async fn next_events(&self, after: u64, wait: Duration) -> Vec<WorkerEvent> {
        let mut newest = self.newest.subscribe();
        let give_up = tokio::time::sleep(wait);
        tokio::pin!(give_up);
        loop {
            let events = self.read(after);
            if !events.is_empty() {
                return events;
            }
            tokio::select! {
                changed = newest.changed() => if changed.is_err() { return events },
                () = &mut give_up => return self.read(after),
            }
        }
    }

    fn read(&self, after: u64) -> Vec<WorkerEvent> {
        let mut state = self.lock();
        let was_full = self.is_full(&state);
        let events = state.events.read(after);
        if was_full && !self.is_full(&state) {
            self.engine_wakes.notify_all();
        }
        events
    }

    /// Leaves a question for the engine thread. A question that is dropped, with its reply, says that the thread
    /// has ended or is about to.
    pub fn ask(&self, question: Question) {
        let mut state = self.lock();
        state.questions.retain(|question| !question.is_abandoned());
        if !state.stopping && state.questions.len() < self.limits.waiting {
            state.questions.push(question);
            self.engine_wakes.notify_all();
        }
    }

    /// Waits until there is a first list of models: before that an empty one would be a lie.
    pub async fn until_looked(&self) {
        let mut looked = self.looked.subscribe();
        // An error would mean that this board is gone.
        let _gone = looked.wait_for(|looked| *looked).await.is_err();
    }

    /// The models as the engine thread last saw them.
    pub fn models(&self) -> Vec<ModelInfo> {
        self.lock().models.clone()
    }

    pub fn figures(&self) -> Figures {
        let state = self.lock();
        Figures {
            waiting_jobs: state.waiting.len() as u64,
            unread_events: state.events.len() as u64,
            unread_picture_bytes: state.events.picture_bytes() as u64,
            ..state.figures
        }
    }

    pub fn is_stopping(&self) -> bool {
        self.lock().stopping
    }

    /// Takes nothing new and ends the engine thread after the step that runs now.
    pub fn stop(&self) {
        let mut state = self.lock();
        state.stopping = true;
        state.questions.clear();
        self.engine_wakes.notify_all();
    }

    /// The job whose tick ran when the engine thread ended.
    pub fn ticking(&self) -> Option<JobId> {
        self.lock().ticking
    }

    /// Wakes whoever waits for what changed.
    fn publish(&self, state: &State) {
        self.newest.send_replace(state.events.last());
        self.engine_wakes.notify_all();
    }

    fn is_full(&self, state: &State) -> bool {
        state.events.picture_bytes() > self.limits.unread_picture_bytes
    }
}

/// The engine thread's side.
impl Board {
    /// Sleeps until there is something to do. `busy` says that there are slots to tick.
    pub(super) fn next_work(&self, busy: bool) -> Work {
        let mut state = self.lock();
        loop {
            let to_tick = (busy || !state.waiting.is_empty()) && !self.is_full(&state);
            if state.stopping {
                return Work::Stop;
            }
            if to_tick || !state.questions.is_empty() {
                return Work::Go(std::mem::take(&mut state.questions));
            }
            state = self.engine_wakes.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Takes the waiting job that `key` puts first, the one that came first among equals. `None` from `key`
    /// leaves a job where it is.
    pub(super) fn take_waiting<K: Ord>(
        &self,
        key: impl Fn(&SubmitJob) -> Option<K>,
    ) -> Option<SubmitJob> {
        let mut state = self.lock();
        let candidates =
            state.waiting.iter().enumerate().filter_map(|(place, job)| Some((key(job)?, place)));
        let (_, place) = candidates.min()?;
        let job = state.waiting.remove(place)?;
        if let Some(ticket) = state.jobs.get_mut(&job.job) {
            ticket.phase = Phase::Active;
        }
        state.ticking = Some(job.job);
        Some(job)
    }

    /// Whether this attempt is still wanted; if so, it is noted as the one whose tick runs now.
    pub(super) fn begin_tick(&self, job: JobId, attempt: Attempt) -> bool {
        let mut state = self.lock();
        let wanted = state.is_current(job, attempt);
        state.ticking = wanted.then_some(job);
        wanted
    }

    /// Whether this attempt is still wanted.
    pub(super) fn is_current(&self, job: JobId, attempt: Attempt) -> bool {
        self.lock().is_current(job, attempt)
    }

    /// Adds an event of an attempt; nothing happens if it is no longer wanted.
    pub(super) fn emit(&self, job: JobId, attempt: Attempt, event: JobEvent) {
        let mut state = self.lock();
        state.ticking = None;
        if !state.is_current(job, attempt) {
            return;
        }
        match &event {
            JobEvent::Step { .. } => state.figures.steps_done += 1,
            JobEvent::Image { .. } => state.figures.images_done += 1,
            JobEvent::Failed(_) => state.figures.jobs_failed += 1,
            JobEvent::Started | JobEvent::Done { .. } | JobEvent::Interrupted => {}
        }
        if event.is_last() {
            state.note_end(job);
            state.forget_oldest(self.limits.remembered);
        }
        state.events.push(job, attempt, event);
        self.publish(&state);
    }

    pub(super) fn set_active(&self, slots: usize) {
        self.lock().figures.active_slots = slots as u64;
    }

    pub(super) fn set_models(&self, models: Vec<ModelInfo>) {
        self.lock().models = models;
        self.looked.send_replace(true);
    }
}

impl State {
    fn is_current(&self, job: JobId, attempt: Attempt) -> bool {
        self.jobs
            .get(&job)
            .is_some_and(|ticket| ticket.attempt == attempt && ticket.phase == Phase::Active)
    }

    /// Ends a job from outside: what was said of it and not read is replaced by `last`. Answers whether it was
    /// waiting or running.
    fn end(&mut self, job: JobId, last: JobEvent) -> bool {
        let Some(ticket) = self.jobs.get(&job).filter(|ticket| ticket.phase != Phase::Ended) else {
            return false;
        };
        let attempt = ticket.attempt;
        self.waiting.retain(|waiting| waiting.job != job);
        self.events.forget(job);
        self.events.push(job, attempt, last);
        self.note_end(job);
        true
    }

    fn note_end(&mut self, job: JobId) {
        if let Some(ticket) = self.jobs.get_mut(&job) {
            ticket.phase = Phase::Ended;
            self.ended.push_back(job);
        }
    }

    fn forget_oldest(&mut self, remembered: usize) {
        while self.ended.len() > remembered {
            if let Some(job) = self.ended.pop_front() {
                self.jobs.remove(&job);
            }
        }
    }
}
