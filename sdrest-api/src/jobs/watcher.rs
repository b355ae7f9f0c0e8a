//! The notices of one job as a stream: from what is known now, through progress, to its end. A reader that
//! comes back with the id of the last notice it saw gets what follows it; an end is always among that.

use crate::jobs::{
    events::{EventStream, JobNotice, Live, NoticeKind, closing_notices},
    job::Job,
    shared::Shared,
    state::JobState,
};
use futures::{StreamExt, stream};
use std::{sync::Arc, time::Duration};
use tokio::{sync::watch, time::timeout};

/// How often a watcher of a waiting job looks at its place.
const PLACE_INTERVAL: Duration = Duration::from_secs(2);

struct Watcher {
    shared: Arc<Shared>,
    /// As it was last told.
    job: Job,
    live: watch::Receiver<Live>,
    /// The newest id that was told.
    last: u64,
    phase: Phase,
}

enum Phase {
    Following,
    /// The rest, last first.
    Closing(Vec<JobNotice>),
}

/// Notices with ids above `after`. `live` was subscribed before `job` was read.
pub(crate) fn watch_job(
    shared: Arc<Shared>,
    job: Job,
    live: watch::Receiver<Live>,
    after: u64,
) -> EventStream {
    let watcher = Watcher { shared, job, live, last: after, phase: Phase::Following };
    stream::unfold(watcher, |mut watcher| async move {
        watcher.next().await.map(|notice| (notice, watcher))
    })
    .boxed()
}

impl Watcher {
    async fn next(&mut self) -> Option<JobNotice> {
        loop {
            if let Phase::Closing(rest) = &mut self.phase {
                return rest.pop();
            }
            if self.job.state.is_terminal() {
                let rest =
                    closing_notices(&self.job).into_iter().filter(|notice| notice.id > self.last);
                self.phase = Phase::Closing(rest.rev().collect());
                continue;
            }
            let live = *self.live.borrow_and_update();
            if live.id > self.last {
                self.last = live.id;
                self.catch_up(live).await?;
                if !self.job.state.is_terminal() {
                    return Some(JobNotice {
                        id: live.id,
                        kind: NoticeKind::Progress,
                        job: self.job.clone(),
                    });
                }
            } else {
                self.pause().await?;
            }
        }
    }

    /// Brings the job to what is known; only a change of state costs a look at the store.
    async fn catch_up(&mut self, live: Live) -> Option<()> {
        if live.state == JobState::Running
            && self.job.state == live.state
            && self.job.attempt == live.attempt
        {
            self.job.progress.step = live.progress.step;
            self.job.progress.image = live.progress.image;
            self.job.eta_seconds = self.shared.pace.estimate(self.shared.hub.running_cost());
            return Some(());
        }
        self.look().await
    }

    async fn look(&mut self) -> Option<()> {
        match self.shared.look(self.job.id).await {
            Ok(job) => self.job = job?,
            Err(error) => {
                tracing::error!(job = %self.job.id, %error, "a watched job could not be read");
                return None;
            }
        }
        Some(())
    }

    /// Waits for a change. `None` where there can be none any more.
    async fn pause(&mut self) -> Option<()> {
        match timeout(PLACE_INTERVAL, self.live.changed()).await {
            Ok(Ok(())) => Some(()),
            // Forgotten by the hub: it has ended, and the store has how.
            Ok(Err(_)) => {
                self.look().await?;
                self.job.state.is_terminal().then_some(())
            }
            Err(_) if self.job.state == JobState::Queued => {
                let places = self.shared.places().await.ok()?;
                let position = places.of.get(&self.job.id).map(|place| place.position);
                self.shared.hub.update(self.job.id, |live| live.position = position);
                Some(())
            }
            Err(_) => Some(()),
        }
    }
}
