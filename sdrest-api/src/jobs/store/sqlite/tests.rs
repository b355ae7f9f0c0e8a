//! What only this store can get wrong: statements that read more with every job that has ended, and rows that
//! another build or a damaged disk left unreadable.

use super::{SqliteStore, accept, advance, look};
use crate::jobs::{
    clock::UnixMillis,
    job::{IdempotencyKey, Job, NewJob, Page},
    state::JobState,
    store::{
        Claim, ClaimRequest, Company, Inserted, JobFilter, JobStore, Limits,
        conformance::{new_job, picture, request},
    },
};
use sdrest_proto::{error::ErrorCode, identity::Subject};
use sqlx::{AssertSqlSafe, Row};
use std::time::Duration;

const ROOMY: Limits = Limits { queued: 100, queued_per_owner: 100 };

async fn fresh() -> (tempfile::TempDir, SqliteStore) {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&folder.path().join("jobs.db")).await.unwrap();
    (folder, store)
}

async fn accepted(store: &SqliteStore, owner: u32) -> Job {
    match store.insert(new_job(owner, 20), ROOMY).await.unwrap().unwrap() {
        Inserted::Fresh(job) | Inserted::Replayed(job) => job,
    }
}

/// How SQLite goes about a statement, one line a step.
async fn plan(store: &SqliteStore, statement: &str) -> Vec<String> {
    let explained = AssertSqlSafe(format!("EXPLAIN QUERY PLAN {statement}"));
    let steps = sqlx::query(explained).fetch_all(&store.read).await.unwrap();
    steps.iter().map(|step| step.get("detail")).collect()
}

/// Two connections that both made a new file a WAL were "database is locked" for one of them, now and then: the
/// front end did not start.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_new_file_opens_every_time() {
    let folder = tempfile::tempdir().unwrap();
    for round in 0..40 {
        let opened = (0..8).map(|number| {
            let path = folder.path().join(format!("{round}-{number}.db"));
            async move { SqliteStore::open(&path).await.map(drop) }
        });
        for one in futures::future::join_all(opened).await {
            one.unwrap();
        }
    }
}

#[tokio::test]
async fn no_frequent_statement_reads_all_jobs_or_pictures() {
    let (_folder, store) = fresh().await;
    let list = |owner: bool, state: Option<JobState>| {
        let owner = owner.then(|| Subject::unix(1, 1));
        look::jobs_statement(&JobFilter { owner, state, before: None, limit: 1 })
    };
    let done = Some(JobState::Done);
    for statement in [
        accept::BEGIN.trim_start_matches("BEGIN IMMEDIATE; "),
        accept::EARLIER,
        accept::REPLAY,
        accept::FORGET_KEY,
        advance::NEXT,
        advance::RECOVER,
        look::JOB,
        look::COUNTS,
        look::COUNTS_OF_OWNER,
        look::WAITING,
        look::IMAGES,
        look::IMAGES_OF_OWNER,
        list(false, None),
        list(true, None),
        list(true, done),
    ] {
        for step in plan(&store, statement).await {
            // The indexes of waiting and running jobs hold no ended ones.
            let partial =
                step.contains("INDEX jobs_waiting") || step.contains("INDEX jobs_running");
            let whole = ["SCAN jobs", "SCAN images", "SCAN owners"]
                .iter()
                .any(|scan| step.starts_with(scan));
            assert!(partial || !whole, "{step}\nof {statement}");
            // A sort would read all of an owner's jobs for every page.
            let sorts = step.contains("TEMP B-TREE FOR ORDER BY");
            assert!(!sorts || statement == advance::NEXT, "{step}\nof {statement}");
        }
    }
}

#[tokio::test]
async fn a_job_that_cannot_be_read_fails_and_does_not_stop_the_others() {
    let (_folder, store) = fresh().await;
    let spoiled = accepted(&store, 1).await;
    let behind = accepted(&store, 1).await;
    let broken = serde_json::json!({ "model": request(1).model.as_str() }).to_string();
    sqlx::query("UPDATE jobs SET request = ? WHERE id = ?")
        .bind(broken)
        .bind(spoiled.id.to_string())
        .execute(&mut store.write.lock().await.durable)
        .await
        .unwrap();
    let wanted = ClaimRequest {
        excluded_models: Vec::new(),
        profile: "cpu".to_owned(),
        company: Company::Alone,
    };
    let unreadable = store.claim(wanted.clone()).await.unwrap();
    assert!(matches!(unreadable, Claim::Unreadable(Some(id)) if id == spoiled.id));
    let Claim::Job { job, .. } = store.claim(wanted.clone()).await.unwrap() else {
        panic!("nothing was claimed");
    };
    assert_eq!(job.id, behind.id);
    let row = sqlx::query("SELECT state, error_code, error_message FROM jobs WHERE id = ?")
        .bind(spoiled.id.to_string())
        .fetch_one(&store.read)
        .await
        .unwrap();
    assert_eq!(row.get::<&str, _>("state"), "failed");
    assert_eq!(row.get::<&str, _>("error_code"), "INTERNAL");
    assert!(!row.get::<&str, _>("error_message").contains("jobs.request"));
    assert!(matches!(store.claim(wanted).await.unwrap(), Claim::Nothing));
}

#[tokio::test]
async fn lists_of_everybody_and_of_a_state_go_on_where_they_stopped() {
    let (_folder, store) = fresh().await;
    let mut jobs = Vec::new();
    for owner in [1, 2, 1, 1] {
        jobs.push(accepted(&store, owner).await);
    }
    store.cancel(jobs[2].id).await.unwrap();
    let ids = async |owner: Option<u32>, state, before: Option<&Job>| {
        let owner = owner.map(|owner| Subject::unix(owner, 1));
        let before = before.map(|job| job.id);
        let found = store.jobs(JobFilter { owner, state, before, limit: 2 }).await.unwrap();
        found.jobs.iter().map(|job| job.id).collect::<Vec<_>>()
    };
    assert_eq!(ids(None, None, None).await, [jobs[3].id, jobs[2].id]);
    assert_eq!(ids(None, None, Some(&jobs[2])).await, [jobs[1].id, jobs[0].id]);
    let queued = Some(JobState::Queued);
    assert_eq!(ids(None, queued, None).await, [jobs[3].id, jobs[1].id]);
    assert_eq!(ids(Some(1), queued, None).await, [jobs[3].id, jobs[0].id]);
    assert_eq!(ids(Some(1), queued, Some(&jobs[3])).await, [jobs[0].id]);
    assert!(store.images(None, Page::first(5)).await.unwrap().images.is_empty());
    let own = store.counts(Some(Subject::unix(1, 1))).await.unwrap();
    assert_eq!((own.queued, own.running), (2, 0));
}

/// Writes past the store, as another build or a damaged disk would.
async fn spoil(store: &SqliteStore, statement: &'static str, job: &Job) {
    let id = job.id.to_string();
    let spoiled =
        sqlx::query(statement).bind(id).execute(&mut store.write.lock().await.durable).await;
    assert_eq!(spoiled.unwrap().rows_affected(), 1);
}

#[tokio::test]
async fn lists_leave_out_what_cannot_be_read_and_go_on_behind_it() {
    let (_folder, store) = fresh().await;
    let mut jobs = Vec::new();
    for _ in 0..4 {
        jobs.insert(0, accepted(&store, 1).await);
    }
    // One inside a page and one that a page ends with.
    for place in [1, 2] {
        spoil(&store, "UPDATE jobs SET request = '{}' WHERE id = ?", &jobs[place]).await;
    }
    let (mut seen, mut pages, mut before) = (Vec::new(), 0, None);
    loop {
        let owner = Some(jobs[0].owner.clone());
        let page = store.jobs(JobFilter { owner, state: None, before, limit: 3 }).await.unwrap();
        seen.extend(page.jobs.iter().map(|job| job.id));
        (pages, before) = (pages + 1, page.next);
        if before.is_none() {
            break;
        }
    }
    assert_eq!((seen, pages), (vec![jobs[0].id, jobs[3].id], 2));
}

#[tokio::test]
async fn a_list_of_pictures_leaves_out_what_cannot_be_read() {
    let (_folder, store) = fresh().await;
    let wanted = ClaimRequest {
        excluded_models: Vec::new(),
        profile: "cpu".to_owned(),
        company: Company::Alone,
    };
    let mut made = Vec::new();
    for _ in 0..2 {
        accepted(&store, 1).await;
        let Claim::Job { job, .. } = store.claim(wanted.clone()).await.unwrap() else {
            panic!("nothing was claimed");
        };
        store.finish(job.id, job.attempt, vec![picture(&job)]).await.unwrap();
        made.push(*job);
    }
    spoil(&store, "UPDATE images SET width = -1 WHERE job = ?", &made[1]).await;
    for owner in [None, Some(made[0].owner.clone())] {
        let shown = store.images(owner, Page::first(5)).await.unwrap().images;
        assert_eq!(shown.iter().map(|found| found.image.job).collect::<Vec<_>>(), [made[0].id]);
    }
}

#[tokio::test]
async fn a_fault_of_another_build_is_shown_as_its_message() {
    let (_folder, store) = fresh().await;
    let job = accepted(&store, 1).await;
    let statement = "UPDATE jobs SET state = 'failed', error_code = 'LATER_CODE', error_message = 'why' WHERE id = ?";
    spoil(&store, statement, &job).await;
    let fault = store.job(job.id).await.unwrap().unwrap().fault.unwrap();
    assert_eq!((fault.code, fault.message.as_str()), (ErrorCode::Internal, "why"));
}

#[tokio::test]
async fn a_key_is_looked_up_for_a_day() {
    let (_folder, store) = fresh().await;
    let key = IdempotencyKey { key: "k".to_owned(), body_sha256: [1; 32] };
    let new = NewJob { idempotency_key: Some(key.clone()), ..new_job(1, 20) };
    let Ok(Inserted::Fresh(job)) = store.insert(new, ROOMY).await.unwrap() else {
        panic!("it was not accepted");
    };
    for (hours, found) in [(23, true), (25, false)] {
        let created = UnixMillis::now().before(Duration::from_secs(hours * 60 * 60)).0;
        sqlx::query("UPDATE jobs SET created = ?")
            .bind(created)
            .execute(&mut store.write.lock().await.durable)
            .await
            .unwrap();
        let replayed = store.replay(job.owner.clone(), key.clone()).await.unwrap();
        assert_eq!(replayed.is_some(), found, "after {hours} h");
    }
}
