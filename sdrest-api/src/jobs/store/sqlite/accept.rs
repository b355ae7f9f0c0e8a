//! Accepting a job, in one transaction: the key that it may have come with, the limits, the owner's place in
//! virtual time, the row.

use crate::jobs::{
    clock::UnixMillis,
    fairness,
    job::{IdempotencyKey, Job, NewJob, Progress},
    state::JobState,
    store::{
        record::{Inserted, Limits, Refusal, StoreError},
        request, rows,
        sqlite::look,
    },
};
use sdrest_proto::{
    id::{Attempt, JobId},
    identity::Subject,
};
use sqlx::{Row, SqliteConnection};
use std::time::Duration;

/// How long an Idempotency-Key is remembered.
const KEY_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// Gives the owner's number, how many jobs wait, and how many of them are the owner's. Ended jobs are not in
/// that index. Whoever has rested is brought up to the present virtual time; for an owner with waiting jobs
/// that changes nothing, because the least served one is always served next.
pub(super) const BEGIN: &str = "BEGIN IMMEDIATE; \
    INSERT INTO owners (subject, served) SELECT ?, virtual_time FROM fairness WHERE only = 1 \
    ON CONFLICT (subject) DO UPDATE SET served = max(served, excluded.served) RETURNING id, \
    (SELECT count(*) FROM jobs INDEXED BY jobs_waiting WHERE state = 'queued') AS everybody, \
    (SELECT count(*) FROM jobs INDEXED BY jobs_waiting WHERE state = 'queued' AND owner = owners.id) AS own";
pub(super) const EARLIER: &str =
    "SELECT id, body_sha256 FROM jobs INDEXED BY jobs_keys WHERE owner = ? AND idempotency_key = ?";
pub(super) const FORGET_KEY: &str = "UPDATE jobs INDEXED BY jobs_keys SET idempotency_key = NULL \
    WHERE owner = ? AND idempotency_key = ? AND created < ?";
/// What the same key and body made, asked without changing anything.
pub(super) const REPLAY: &str = "SELECT id FROM jobs INDEXED BY jobs_keys \
    WHERE owner = (SELECT id FROM owners WHERE subject = ?) AND idempotency_key = ? AND created >= ? AND body_sha256 = ?";
const WRITE: &str = "INSERT INTO jobs (id, owner, owner_name, kind, state, request, request_id, model, seed, cost, \
    created, idempotency_key, body_sha256) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?); COMMIT";

pub(super) async fn insert(
    writer: &mut SqliteConnection,
    new: NewJob,
    limits: Limits,
) -> Result<Result<Inserted, Refusal>, StoreError> {
    let created = UnixMillis::now();
    let found = sqlx::query(BEGIN).bind(new.owner.as_str()).fetch_all(&mut *writer).await?;
    let row = found.first().ok_or_else(|| StoreError::corrupt("owners", "a new row is missing"))?;
    let owner: i64 = row.try_get("id")?;
    let answer = match earlier(writer, owner, &new, created).await? {
        Earlier::Same(job) => Ok(Inserted::Replayed(*job)),
        Earlier::Other => Err(Refusal::KeyReused),
        Earlier::None => {
            match over_limit(rows::number(row, "everybody")?, rows::number(row, "own")?, limits) {
                Some(refusal) => Err(refusal),
                None => return Ok(Ok(Inserted::Fresh(write(writer, owner, new, created).await?))),
            }
        }
    };
    // Nothing is kept of a request that made no job.
    sqlx::query("ROLLBACK").execute(writer).await?;
    Ok(answer)
}

/// The job that this owner's key made from the same body. Everything else is for `insert` to say.
pub(super) async fn replay(
    reader: &mut SqliteConnection,
    owner: Subject,
    key: IdempotencyKey,
) -> Result<Option<Job>, StoreError> {
    let found = sqlx::query(REPLAY)
        .bind(owner.as_str())
        .bind(&key.key)
        .bind(UnixMillis::now().before(KEY_LIFETIME).0)
        .bind(key.body_sha256.as_slice())
        .fetch_optional(&mut *reader)
        .await?;
    match found {
        Some(row) => look::job(reader, rows::parsed(&row, "id")?).await,
        None => Ok(None),
    }
}

enum Earlier {
    None,
    Same(Box<Job>),
    Other,
}

/// What the same key made before, if it is remembered.
async fn earlier(
    tx: &mut SqliteConnection,
    owner: i64,
    new: &NewJob,
    now: UnixMillis,
) -> Result<Earlier, StoreError> {
    let Some(key) = &new.idempotency_key else { return Ok(Earlier::None) };
    sqlx::query(FORGET_KEY)
        .bind(owner)
        .bind(&key.key)
        .bind(now.before(KEY_LIFETIME).0)
        .execute(&mut *tx)
        .await?;
    let Some(row) =
        sqlx::query(EARLIER).bind(owner).bind(&key.key).fetch_optional(&mut *tx).await?
    else {
        return Ok(Earlier::None);
    };
    if row.try_get::<Option<&[u8]>, _>("body_sha256")? != Some(key.body_sha256.as_slice()) {
        return Ok(Earlier::Other);
    }
    let id: JobId = rows::parsed(&row, "id")?;
    let job = look::job(tx, id)
        .await?
        .ok_or_else(|| StoreError::corrupt("jobs.id", "a row went away"))?;
    Ok(Earlier::Same(Box::new(job)))
}

/// The limit that one more job would pass.
fn over_limit(everybody: u32, own: u32, limits: Limits) -> Option<Refusal> {
    if own >= limits.queued_per_owner {
        return Some(Refusal::QuotaExceeded { queued: own });
    }
    (everybody >= limits.queued).then_some(Refusal::QueueFull { queued: everybody })
}

/// Writes the row and commits. Gives the job as the row has it.
async fn write(
    tx: &mut SqliteConnection,
    owner: i64,
    new: NewJob,
    created: UnixMillis,
) -> Result<Job, StoreError> {
    let key = new.idempotency_key.as_ref();
    sqlx::query(WRITE)
        .bind(new.id.to_string())
        .bind(owner)
        .bind(&new.owner_name)
        .bind(new.kind.as_str())
        .bind(JobState::Queued.as_str())
        .bind(request::to_json(&new.request)?)
        .bind(new.request_id.to_string())
        .bind(new.request.model.as_str())
        .bind(look::signed(u64::from(new.request.seed)))
        .bind(look::signed(fairness::cost(&new.request)))
        .bind(created.0)
        .bind(key.map(|key| key.key.as_str()))
        .bind(key.map(|key| key.body_sha256.as_slice()))
        .execute(tx)
        .await?;
    Ok(Job {
        id: new.id,
        owner: new.owner,
        owner_name: new.owner_name,
        kind: new.kind,
        state: JobState::Queued,
        request: new.request,
        request_id: new.request_id,
        attempt: Attempt(0),
        worker_deaths: 0,
        profile: None,
        created,
        started: None,
        ended: None,
        fault: None,
        images: Vec::new(),
        progress: Progress::default(),
        position: None,
        eta_seconds: None,
    })
}
