//! What is known in memory of live jobs: nothing stays of those that have ended, nothing old overrules what is
//! newer, and all that waits is counted.

use super::{Allowed, WriteOnly};
use crate::jobs::{
    Job, JobError, Queue, QueueLimits, Scope,
    clock::UnixMillis,
    fairness,
    job::Progress,
    state::JobState,
    store::{
        Blame, Claim, ClaimRequest, Company, Recorded, Requeued,
        conformance::{new_job, picture},
        sqlite::SqliteStore,
    },
    streams::MAX_WAITS,
};
use sdrest_proto::{
    error::{ErrorCode, Fault},
    id::{Attempt, JobId},
};
use std::{
    sync::{Arc, atomic::AtomicU32},
    time::{Duration, Instant},
};

async fn fresh() -> (tempfile::TempDir, Queue) {
    let folder = tempfile::tempdir().unwrap();
    let queue = Queue::open(&folder.path().join("jobs.db"), QueueLimits::default()).await.unwrap();
    (folder, queue)
}

fn wanted() -> ClaimRequest {
    ClaimRequest { excluded_models: Vec::new(), profile: "cpu".to_owned(), company: Company::Alone }
}

/// A job that was cancelled when the store had handed it out and the hub had not heard of it.
async fn cancelled_while_claimed(queue: &Queue) -> Job {
    let job = queue.submit(Allowed, new_job(1, 20)).await.unwrap();
    let Claim::Job { job: claimed, .. } = queue.shared.store.claim(wanted()).await.unwrap() else {
        panic!("nothing was claimed");
    };
    queue.cancel(Scope::Any, job.id).await.unwrap();
    queue.shared.hub.begin(claimed.id, claimed.attempt, fairness::cost(&claimed.request));
    *claimed
}

#[tokio::test]
async fn a_job_that_was_cancelled_while_it_was_claimed_does_not_run_for_ever() {
    let (_folder, queue) = fresh().await;
    let work = queue.work();
    // What every estimate is made from.
    let left = || queue.shared.hub.running_cost();

    let job = cancelled_while_claimed(&queue).await;
    let fault = Fault::new(ErrorCode::GenerationFailed, "late");
    assert_eq!(work.fail(job.id, job.attempt, fault).await.unwrap(), Recorded::Stale);
    assert_eq!(left(), 0.0, "after fail");

    let job = cancelled_while_claimed(&queue).await;
    let recorded = work.finish(job.id, job.attempt, vec![picture(&job)]).await.unwrap();
    assert_eq!((recorded, left()), (Recorded::Stale, 0.0), "after finish");

    let job = cancelled_while_claimed(&queue).await;
    let requeued = work.requeue(job.id, job.attempt, Blame::Innocent).await.unwrap();
    assert_eq!((requeued, left()), (Requeued::Stale, 0.0), "after requeue");
}

/// The running attempt's entry is not an older one's to remove.
#[tokio::test]
async fn an_old_attempt_takes_nothing_from_a_newer_one() {
    let (_folder, queue) = fresh().await;
    let work = queue.work();
    queue.submit(Allowed, new_job(1, 20)).await.unwrap();
    let Claim::Job { job, .. } = work.claim(wanted()).await.unwrap() else { panic!("no job") };
    let newer = Attempt(job.attempt.0 + 1);
    // As where another dispatcher claims it between the store's word and the hub's.
    queue.shared.hub.begin(job.id, newer, 1);
    let requeued = work.requeue(job.id, job.attempt, Blame::Innocent).await.unwrap();
    assert_eq!(requeued, Requeued::Waiting);
    work.progress(job.id, newer, Progress { step: 3, ..Progress::default() });
    let live = queue.shared.hub.peek(job.id).unwrap();
    assert_eq!((live.state, live.attempt, live.progress.step), (JobState::Running, newer, 3));
    let stale = work.requeue(job.id, job.attempt, Blame::Innocent).await.unwrap();
    assert_eq!(stale, Requeued::Stale);
    assert!(queue.shared.hub.peek(job.id).is_some());
}

#[tokio::test]
async fn a_look_that_breaks_off_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&folder.path().join("jobs.db")).await.unwrap();
    let store = WriteOnly(store, AtomicU32::new(1));
    let queue = Queue::over(Arc::new(store), QueueLimits::default()).await.unwrap();
    let job = queue.submit(Allowed, new_job(1, 5)).await.unwrap();
    // The first look is whether the asker may see it, the second comes after it is watched.
    let waited = queue.wait(Scope::Any, job.id, std::future::pending()).await;
    assert!(matches!(waited, Err(JobError::Store(_))), "{waited:?}");
    assert!(queue.shared.hub.peek(job.id).is_none());
    // Somebody who watches already keeps what is known.
    let watched = queue.shared.hub.watch(job.id);
    drop(queue.shared.hub.unsettled(job.id));
    assert!(queue.shared.hub.peek(job.id).is_some());
    drop(watched);
    queue.shared.hub.begin(job.id, Attempt(1), 1);
    drop(queue.shared.hub.unsettled(job.id));
    assert!(queue.shared.hub.peek(job.id).is_some(), "a running job is not forgotten");
}

#[tokio::test]
async fn the_last_waiting_job_counts_too() {
    let (_folder, queue) = fresh().await;
    queue.work().observe_pace(1.0, Duration::from_secs(1));
    let cost = |job: &Job| fairness::cost(&job.request) as f64;
    let first = queue.submit(Allowed, new_job(1, 150)).await.unwrap();
    let status = queue.status(Scope::Any).await.unwrap();
    assert_eq!((status.all.queued, status.eta_seconds), (1, Some(cost(&first))));

    // An order that was made before a job came: it stands behind all of it.
    let order = crate::jobs::position::rank(queue.shared.store.waiting().await.unwrap());
    queue.shared.keep_places(order, Instant::now() - Duration::from_secs(60));
    let second = Job { id: JobId::random(), created: UnixMillis::now(), ..first.clone() };
    let dressed = queue.shared.dress(second).await.unwrap();
    assert_eq!(dressed.position, Some(2));
    assert_eq!(dressed.eta_seconds, Some(2.0 * cost(&first)));
}

#[tokio::test]
async fn one_user_waits_for_so_many_accepted_jobs_and_no_more() {
    let (_folder, queue) = fresh().await;
    let mut held = tokio::task::JoinSet::new();
    for _ in 0..MAX_WAITS {
        let queue = queue.clone();
        held.spawn(async move {
            queue.submit_and_wait(Allowed, new_job(1, 5), std::future::pending()).await.unwrap()
        });
    }
    // The limits are only there so that a failure ends.
    let patience = Duration::from_secs(60);
    let all_wait = async {
        while queue.status(Scope::Any).await.unwrap().all.queued < u64::from(MAX_WAITS)
            || queue.shared.waits.enter(&new_job(1, 5).owner, JobId::random()).is_some()
        {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(patience, all_wait).await.unwrap();
    let one_more = queue.submit_and_wait(Allowed, new_job(1, 5), std::future::pending());
    let one_more = tokio::time::timeout(patience, one_more).await.unwrap().unwrap();
    assert_eq!((one_more.held, one_more.job.state), (false, JobState::Queued));
    let another = queue.submit_and_wait(Allowed, new_job(2, 5), async {}).await.unwrap();
    assert!(another.held, "another user waits as before");

    assert!(held.try_join_next().is_none());
    let waiting = queue.list(Scope::Any, crate::jobs::Page::first(200)).await.unwrap();
    for job in waiting.jobs {
        queue.cancel(Scope::Any, job.id).await.unwrap();
    }
    for waited in tokio::time::timeout(patience, held.join_all()).await.unwrap() {
        assert_eq!((waited.held, waited.job.state), (true, JobState::Cancelled));
    }
}
