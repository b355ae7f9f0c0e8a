//! What is known of jobs between two looks at the store: one watched value per live job. Progress is lossy
//! (a slow reader sees the newest only); an end is never lost, because whoever is told of it gets it as it was
//! recorded or reads the store, and whoever subscribes late reads the store.
//!
//! Ids of notices grow within a job, over attempts and over restarts of this process: an attempt has a
//! million of them, and those of its end are counted from the top.

use crate::jobs::{
    job::{Job, Progress},
    state::JobState,
};
use futures::stream::BoxStream;
use sdrest_proto::id::{Attempt, JobId};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};
use tokio::sync::watch;

/// Ids that one attempt may use.
const IDS: u64 = 1_000_000;
/// Ids at the top of an attempt's range that are kept for its pictures and its end.
const RESERVED: u64 = 100;

/// Something that a subscriber is told, with the job as it was then.
#[derive(Clone, Debug)]
pub struct JobNotice {
    /// Grows within a job: the `id:` of a server-sent event.
    pub id: u64,
    pub kind: NoticeKind,
    pub job: Job,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoticeKind {
    /// Its state, place, step or number of pictures changed.
    Progress,
    /// `job.images[index]` can be fetched.
    Image {
        index: usize,
    },
    Done,
    Failed,
    Cancelled,
}

impl NoticeKind {
    /// The name of the server-sent event.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Progress => "progress",
            Self::Image { .. } => "image",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// Notices of one job; it ends after the notice of the job's end.
pub type EventStream = BoxStream<'static, JobNotice>;

/// What is known of one live job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Live {
    pub state: JobState,
    pub attempt: Attempt,
    pub progress: Progress,
    pub position: Option<u32>,
    /// What the whole job costs, once it runs.
    pub cost: u64,
    /// The id of the newest notice.
    pub id: u64,
}

impl Live {
    fn new() -> Self {
        Self {
            state: JobState::Queued,
            attempt: Attempt(0),
            progress: Progress::default(),
            position: None,
            cost: 0,
            id: 1,
        }
    }

    fn advance(&mut self) {
        let floor = u64::from(self.attempt.0) * IDS;
        let ceiling = floor + IDS - RESERVED - 1;
        self.id = (self.id + 1).clamp(floor + 1, ceiling);
    }
}

/// The notices of a job that has ended: its pictures, then its end. The same ids each time.
pub fn closing_notices(job: &Job) -> Vec<JobNotice> {
    let last = u64::from(job.attempt.0) * IDS + IDS - 1;
    let end = match job.state {
        JobState::Done => NoticeKind::Done,
        JobState::Failed => NoticeKind::Failed,
        JobState::Cancelled => NoticeKind::Cancelled,
        JobState::Queued | JobState::Running => return Vec::new(),
    };
    // By its place among those that were asked for: a picture that was deleted leaves a gap.
    let first = last - u64::from(job.request.num_images.get());
    let images = job.images.iter().enumerate().map(|(index, image)| JobNotice {
        id: first + u64::from(image.index),
        kind: NoticeKind::Image { index },
        job: job.clone(),
    });
    images.chain([JobNotice { id: last, kind: end, job: job.clone() }]).collect()
}

/// A live job as the hub has it.
#[derive(Debug)]
struct Entry {
    live: watch::Sender<Live>,
    ended: Arc<OnceLock<Box<Job>>>,
}

/// A job that somebody watches.
#[derive(Debug)]
pub struct Watched {
    pub live: watch::Receiver<Live>,
    ended: Arc<OnceLock<Box<Job>>>,
}

impl Watched {
    /// Returns when the job has ended, or the hub has forgotten it: then the store knows. Gives the job as its end
    /// was recorded, where that was told.
    pub async fn end(&mut self) -> Option<Job> {
        let _ = self.live.wait_for(|live| live.state.is_terminal()).await;
        self.ended.get().map(|job| Job::clone(job))
    }
}

/// Whoever watches a job and has yet to hear from the store that it lives. Dropped before that, it leaves nothing
/// behind: an end that was recorded earlier is not announced, so nobody else would forget the job.
#[derive(Debug)]
pub struct Unsettled<'a> {
    hub: &'a EventHub,
    job: JobId,
    lives: bool,
}

impl Unsettled<'_> {
    /// The job lives, and its end will be announced.
    pub fn settled(mut self) {
        self.lives = true;
    }
}

impl Drop for Unsettled<'_> {
    fn drop(&mut self) {
        let mut live = self.hub.live();
        let idle = live.get(&self.job).is_some_and(|entry| {
            entry.live.receiver_count() == 0 && entry.live.borrow().state != JobState::Running
        });
        if idle && !self.lives {
            live.remove(&self.job);
        }
    }
}

/// The live jobs.
#[derive(Debug, Default)]
pub struct EventHub {
    live: Mutex<HashMap<JobId, Entry>>,
}

impl EventHub {
    fn live(&self) -> MutexGuard<'_, HashMap<JobId, Entry>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Watches a job. Look at the store after this call, not before: an end that was recorded earlier than
    /// it is not announced again.
    pub fn watch(&self, job: JobId) -> Watched {
        let mut live = self.live();
        let entry = live.entry(job).or_insert_with(|| Entry {
            live: watch::channel(Live::new()).0,
            ended: Arc::default(),
        });
        Watched { live: entry.live.subscribe(), ended: Arc::clone(&entry.ended) }
    }

    /// To be taken before `watch`, so that it is dropped after what that gives, and settled after the look.
    pub fn unsettled(&self, job: JobId) -> Unsettled<'_> {
        Unsettled { hub: self, job, lives: false }
    }

    /// What is known of a job, if anything.
    pub fn peek(&self, job: JobId) -> Option<Live> {
        self.live().get(&job).map(|entry| *entry.live.borrow())
    }

    /// A job begins to run under a new attempt.
    pub fn begin(&self, job: JobId, attempt: Attempt, cost: u64) {
        drop(self.watch(job));
        self.update(job, |live| {
            let id = live.id;
            *live = Live { state: JobState::Running, attempt, cost, id, ..Live::new() };
        });
    }

    /// Changes what is known of a job and tells its watchers, unless nothing changed or nobody asked.
    pub fn update(&self, job: JobId, change: impl FnOnce(&mut Live)) {
        if let Some(entry) = self.live().get(&job) {
            entry.live.send_if_modified(|value| {
                let before = *value;
                change(value);
                let changed = *value != before;
                if changed {
                    value.advance();
                }
                changed
            });
        }
    }

    /// Cost that the running jobs still have before them.
    pub fn running_cost(&self) -> f64 {
        let live = self.live();
        let running = live
            .values()
            .map(|entry| *entry.live.borrow())
            .filter(|live| live.state == JobState::Running);
        running.map(|live| live.cost as f64 * (1.0 - live.progress.fraction())).sum()
    }

    /// Tells the watchers that a job has ended, with the job as it was recorded, and forgets it.
    pub fn end(&self, job: JobId, state: JobState, recorded: Option<Box<Job>>) {
        if let (Some(entry), Some(recorded)) = (self.live().get(&job), recorded) {
            let _ = entry.ended.set(recorded);
        }
        self.update(job, |live| live.state = state);
        self.live().remove(&job);
    }

    /// Forgets a job that turned out to be none, or to have ended before it was watched.
    pub fn forget(&self, job: JobId) {
        self.live().remove(&job);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_grow_over_attempts_and_end_at_the_top() {
        let hub = EventHub::default();
        let job = JobId::random();
        let mut seen = hub.watch(job).live;
        let mut last = seen.borrow_and_update().id;
        for attempt in 1..3 {
            hub.begin(job, Attempt(attempt), 100);
            for step in 1..5 {
                hub.update(job, |live| live.progress.step = step);
                let now = seen.borrow_and_update().id;
                assert!(now > last, "{now} after {last}");
                last = now;
            }
        }
        assert!(last < 3 * IDS - RESERVED);
        hub.end(job, JobState::Done, None);
        assert_eq!(seen.borrow_and_update().state, JobState::Done);
        assert!(hub.peek(job).is_none());
    }
}
