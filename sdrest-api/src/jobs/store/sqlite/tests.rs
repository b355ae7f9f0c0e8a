//! What only this store can get wrong: statements that read more with every job that has ended, and rows that
//! another build or a damaged disk left unreadable.

use super::{SqliteStore, accept, advance, look};
use crate::jobs::{
    job::{Job, Page},
    state::JobState,
    store::{
        Claim, ClaimRequest, Company, Inserted, JobFilter, JobStore, Limits,
        conformance::{new_job, request},
    },
};
use sdrest_proto::identity::Subject;
use sqlx::{AssertSqlSafe, Row};

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
        found.iter().map(|job| job.id).collect::<Vec<_>>()
    };
    assert_eq!(ids(None, None, None).await, [jobs[3].id, jobs[2].id]);
    assert_eq!(ids(None, None, Some(&jobs[2])).await, [jobs[1].id, jobs[0].id]);
    let queued = Some(JobState::Queued);
    assert_eq!(ids(None, queued, None).await, [jobs[3].id, jobs[1].id]);
    assert_eq!(ids(Some(1), queued, None).await, [jobs[3].id, jobs[0].id]);
    assert_eq!(ids(Some(1), queued, Some(&jobs[3])).await, [jobs[0].id]);
    assert!(store.images(None, Page::first(5)).await.unwrap().is_empty());
    let own = store.counts(Some(Subject::unix(1, 1))).await.unwrap();
    assert_eq!((own.queued, own.running), (2, 0));
}
