//! Accepting a job, in one transaction: the key that it may have come with, the limits, the owner's place in
//! virtual time, the row.

use crate::jobs::{
    clock::UnixMillis,
    fairness,
    job::{Job, NewJob},
    state::JobState,
    store::{
        record::{Inserted, Limits, Refusal, StoreError},
        request, rows,
        sqlite::look,
    },
};
use sdrest_proto::id::JobId;
use sqlx::{Row, Sqlite, SqliteConnection, Transaction};
use std::time::Duration;

/// How long an Idempotency-Key is remembered.
const KEY_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// How many wait, and how many of them are the owner's. Ended jobs are not in that index.
pub(super) const OVER: &str = "SELECT count(*) AS everybody, coalesce(sum(owner = ?), 0) AS own \
    FROM jobs INDEXED BY jobs_waiting WHERE state = 'queued'";
pub(super) const EARLIER: &str =
    "SELECT id, body_sha256 FROM jobs INDEXED BY jobs_keys WHERE owner = ? AND idempotency_key = ?";
pub(super) const FORGET_KEY: &str = "UPDATE jobs INDEXED BY jobs_keys SET idempotency_key = NULL \
    WHERE owner = ? AND idempotency_key = ? AND created < ?";

pub(super) async fn insert(
    mut tx: Transaction<'static, Sqlite>,
    new: NewJob,
    limits: Limits,
) -> Result<Result<Inserted, Refusal>, StoreError> {
    let now = UnixMillis::now();
    let owner = owner(&mut tx, &new).await?;
    match earlier(&mut tx, owner, &new, now).await? {
        Earlier::None => {}
        Earlier::Same(job) => return Ok(Ok(Inserted::Replayed(*job))),
        Earlier::Other => return Ok(Err(Refusal::KeyReused)),
    }
    if let Some(refusal) = over(&mut tx, owner, limits).await? {
        return Ok(Err(refusal));
    }
    let id = JobId::random();
    write(&mut tx, owner, id, &new, now).await?;
    let job = look::job(&mut tx, id)
        .await?
        .ok_or_else(|| StoreError::corrupt("jobs", "a new row is missing"))?;
    tx.commit().await?;
    Ok(Ok(Inserted::Fresh(job)))
}

/// The owner's number. Whoever has rested is brought up to the present virtual time; for an owner with
/// waiting jobs that changes nothing, because the least served one is always served next.
async fn owner(tx: &mut SqliteConnection, new: &NewJob) -> Result<i64, StoreError> {
    let statement = "INSERT INTO owners (subject, served) SELECT ?, virtual_time FROM fairness WHERE only = 1 \
                     ON CONFLICT (subject) DO UPDATE SET served = max(served, excluded.served) RETURNING id";
    let row = sqlx::query(statement).bind(new.owner.as_str()).fetch_one(tx).await?;
    Ok(row.try_get("id")?)
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
async fn over(
    tx: &mut SqliteConnection,
    owner: i64,
    limits: Limits,
) -> Result<Option<Refusal>, StoreError> {
    let row = sqlx::query(OVER).bind(owner).fetch_one(tx).await?;
    let everybody: u32 = rows::number(&row, "everybody")?;
    let own: u32 = rows::number(&row, "own")?;
    if own >= limits.queued_per_owner {
        return Ok(Some(Refusal::QuotaExceeded { queued: own }));
    }
    Ok((everybody >= limits.queued).then_some(Refusal::QueueFull { queued: everybody }))
}

async fn write(
    tx: &mut SqliteConnection,
    owner: i64,
    id: JobId,
    new: &NewJob,
    now: UnixMillis,
) -> Result<(), StoreError> {
    let statement = "INSERT INTO jobs (id, owner, owner_name, kind, state, request, request_id, model, seed, cost, \
                     created, idempotency_key, body_sha256) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
    let key = new.idempotency_key.as_ref();
    sqlx::query(statement)
        .bind(id.to_string())
        .bind(owner)
        .bind(&new.owner_name)
        .bind(new.kind.as_str())
        .bind(JobState::Queued.as_str())
        .bind(request::to_json(&new.request)?)
        .bind(new.request_id.to_string())
        .bind(new.request.model.as_str())
        .bind(look::signed(u64::from(new.request.seed)))
        .bind(look::signed(fairness::cost(&new.request)))
        .bind(now.0)
        .bind(key.map(|key| key.key.as_str()))
        .bind(key.map(|key| key.body_sha256.as_slice()))
        .execute(tx)
        .await?;
    Ok(())
}
