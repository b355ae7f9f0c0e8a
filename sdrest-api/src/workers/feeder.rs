//! Jobs to one worker over one link: send what it does not have yet, claim more while there is room. A job
//! that was in a slot when a worker died runs alone from then on, so that three deaths are its own and nobody
//! else's.

use crate::{
    jobs::{
        WorkQueue,
        store::{Claim, ClaimRequest, Company},
    },
    workers::{
        board::Board,
        connection::{Link, LinkError},
        desk::Desk,
        outcome::{Recorder, will_pass},
    },
};
use sdrest_proto::{
    error::Fault,
    id::{Attempt, JobId},
    transport::deadline,
    worker::SubmitJob,
};
use std::{sync::Arc, time::Duration};
use tokio::time::sleep;

/// How long a worker may take to accept a job or an interrupt.
const VERB: Duration = Duration::from_secs(30);
/// The pause after a refusal that will pass, or a failure of the store.
const PAUSE: Duration = Duration::from_millis(500);
/// How often it looks for work unasked, should a wake-up get lost.
const LOOK: Duration = Duration::from_secs(5);

/// Feeds one worker.
pub(crate) struct Feeder {
    pub(crate) worker: usize,
    /// Jobs that the worker may have at a time.
    pub(crate) most: usize,
    pub(crate) board: Arc<Board>,
    pub(crate) queue: WorkQueue,
    pub(crate) desk: Arc<Desk>,
    pub(crate) recorder: Arc<Recorder>,
    /// The number of this connection.
    pub(crate) connection: u64,
}

impl Feeder {
    /// Feeds until the connection ends.
    pub(crate) async fn feed(&self, link: &Link) -> Result<(), LinkError> {
        let (mut arrivals, mut changes) = (self.queue.arrivals(), self.desk.changes());
        loop {
            arrivals.mark_unchanged();
            changes.mark_unchanged();
            for job in self.desk.unsent(self.connection) {
                self.send(link, job).await?;
            }
            if self.claim_one(link).await {
                continue;
            }
            tokio::select! {
                _ = arrivals.changed() => {}
                _ = changes.changed() => {}
                () = sleep(LOOK) => {}
            }
        }
    }

    /// Claims one more job, if there is room and one waits.
    async fn claim_one(&self, link: &Link) -> bool {
        let (held, suspect) = self.desk.load();
        if held >= self.most || suspect {
            return false;
        }
        let request = ClaimRequest {
            excluded_models: self.board.lacking(self.worker),
            profile: link.description.profile.line(),
            company: if held == 0 { Company::Alone } else { Company::Beside },
        };
        let (queue, desk) = (self.queue.clone(), Arc::clone(&self.desk));
        // A task of its own: what is claimed is put on the desk even if the connection ends in between.
        let claimed = tokio::spawn(async move {
            match queue.claim(request).await {
                Ok(Claim::Job { job, share }) => {
                    desk.put(job, share);
                    true
                }
                // There may be another behind it.
                Ok(Claim::Unreadable(_)) => true,
                Ok(Claim::Hold | Claim::Nothing) => false,
                Err(error) => {
                    tracing::error!(%error, "no job could be claimed");
                    sleep(PAUSE).await;
                    false
                }
            }
        });
        claimed.await.unwrap_or(false)
    }

    /// Sends a job, and stops it again where it was cancelled on the way. Whether it was is asked after the job
    /// is on its way: hardly any is, and all others would wait for the answer.
    async fn send(&self, link: &Link, submit: SubmitJob) -> Result<(), LinkError> {
        let (job, attempt) = (submit.job, submit.attempt);
        let request_id = submit.request_id;
        tracing::info!(%job, %attempt, %request_id, worker = self.worker, "job sent");
        self.desk.mark_sending(job, attempt);
        if let Err(fault) = link.client.submit(deadline(VERB), submit).await? {
            self.refused(job, attempt, fault).await;
            return Ok(());
        }
        let ended = matches!(self.queue.has_ended(job).await, Ok(true));
        if ended {
            self.queue.forget(job);
        }
        if self.desk.mark_sent(job, attempt, self.connection) || ended {
            link.client.interrupt(deadline(VERB), job).await?;
        }
        Ok(())
    }

    /// A worker that is full for the moment is not asked again at once.
    async fn refused(&self, job: JobId, attempt: Attempt, fault: Fault) {
        let for_now = will_pass(&fault);
        if let Some(flight) = self.desk.take(job, attempt) {
            let recorder = Arc::clone(&self.recorder);
            // A task of its own: it is recorded even if the connection ends in between.
            tokio::spawn(async move {
                recorder.failed(&flight.job, fault).await;
                recorder.dispose(flight.pictures).await;
            });
        }
        if for_now {
            sleep(PAUSE).await;
        }
    }
}
