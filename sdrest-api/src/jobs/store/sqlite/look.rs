//! Looking without changing anything.

use crate::jobs::{
    fairness::Waiting,
    job::{Job, OwnedImage, Page},
    state::JobState,
    store::{
        record::{Counts, JobFilter, StoreError},
        rows,
    },
};
use sdrest_proto::{
    id::{ImageId, JobId},
    identity::Subject,
};
use sqlx::{Row, SqliteConnection, SqlitePool};

/// SQLite's integers are signed; everything kept in one is far below 2⁶³.
pub(super) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub(super) async fn job(
    connection: &mut SqliteConnection,
    id: JobId,
) -> Result<Option<Job>, StoreError> {
    let statement = "SELECT jobs.*, owners.subject FROM jobs JOIN owners ON owners.id = jobs.owner WHERE jobs.id = ?";
    let Some(row) =
        sqlx::query(statement).bind(id.to_string()).fetch_optional(&mut *connection).await?
    else {
        return Ok(None);
    };
    Ok(Some(with_images(connection, rows::job(&row)?).await?))
}

async fn with_images(connection: &mut SqliteConnection, mut job: Job) -> Result<Job, StoreError> {
    if job.state == JobState::Done {
        let statement = "SELECT * FROM images WHERE job = ? ORDER BY place";
        let found = sqlx::query(statement).bind(job.id.to_string()).fetch_all(connection).await?;
        job.images = found.iter().map(rows::image).collect::<Result<_, _>>()?;
    }
    Ok(job)
}

pub(super) async fn jobs(
    connection: &mut SqliteConnection,
    filter: JobFilter,
) -> Result<Vec<Job>, StoreError> {
    let statement = "SELECT jobs.*, owners.subject FROM jobs JOIN owners ON owners.id = jobs.owner \
                     WHERE (?1 IS NULL OR owners.subject = ?1) AND (?2 IS NULL OR jobs.state = ?2) \
                     AND (?3 IS NULL OR jobs.arrival < (SELECT arrival FROM jobs WHERE id = ?3)) \
                     ORDER BY jobs.arrival DESC LIMIT ?4";
    let found = sqlx::query(statement)
        .bind(filter.owner.as_ref().map(Subject::as_str))
        .bind(filter.state.map(JobState::as_str))
        .bind(filter.before.map(|job| job.to_string()))
        .bind(filter.limit)
        .fetch_all(&mut *connection)
        .await?;
    let mut jobs = Vec::with_capacity(found.len());
    for row in &found {
        jobs.push(with_images(connection, rows::job(row)?).await?);
    }
    Ok(jobs)
}

pub(super) async fn counts(
    pool: &SqlitePool,
    owner: Option<Subject>,
) -> Result<Counts, StoreError> {
    let found = match owner {
        None => {
            sqlx::query("SELECT state, count(*) AS jobs FROM jobs GROUP BY state")
                .fetch_all(pool)
                .await?
        }
        Some(owner) => {
            let statement = "SELECT state, count(*) AS jobs FROM jobs \
                             WHERE owner = (SELECT id FROM owners WHERE subject = ?) GROUP BY state";
            sqlx::query(statement).bind(owner.as_str()).fetch_all(pool).await?
        }
    };
    let mut counts = Counts::default();
    for row in &found {
        let jobs: u64 = rows::number(row, "jobs")?;
        match rows::parsed::<JobState>(row, "state")? {
            JobState::Queued => counts.queued = jobs,
            JobState::Running => counts.running = jobs,
            JobState::Done => counts.done = jobs,
            JobState::Failed => counts.failed = jobs,
            JobState::Cancelled => counts.cancelled = jobs,
        }
    }
    Ok(counts)
}

pub(super) async fn waiting(pool: &SqlitePool) -> Result<Vec<Waiting>, StoreError> {
    let statement = "SELECT jobs.id, jobs.cost, jobs.arrival, jobs.attempt, owners.subject, owners.served \
                     FROM jobs JOIN owners ON owners.id = jobs.owner WHERE jobs.state = 'queued'";
    let found = sqlx::query(statement).fetch_all(pool).await?;
    let waiting = found.iter().map(|row| {
        Ok(Waiting {
            job: rows::parsed(row, "id")?,
            owner: rows::subject(row)?,
            served: rows::number(row, "served")?,
            cost: rows::number(row, "cost")?,
            arrival: row.try_get("arrival")?,
            charged: rows::number::<u32>(row, "attempt")? > 0,
        })
    });
    waiting.collect()
}

pub(super) async fn image(
    pool: &SqlitePool,
    image: ImageId,
) -> Result<Option<OwnedImage>, StoreError> {
    let statement = "SELECT images.*, owners.subject FROM images JOIN owners ON owners.id = images.owner WHERE images.id = ?";
    let found = sqlx::query(statement).bind(image.to_string()).fetch_optional(pool).await?;
    found.as_ref().map(rows::owned_image).transpose()
}

pub(super) async fn images(
    pool: &SqlitePool,
    owner: Option<Subject>,
    page: Page<ImageId>,
) -> Result<Vec<OwnedImage>, StoreError> {
    let statement = "SELECT images.*, owners.subject FROM images JOIN owners ON owners.id = images.owner \
                     WHERE (?1 IS NULL OR owners.subject = ?1) AND (?2 IS NULL OR images.id < ?2) \
                     ORDER BY images.id DESC LIMIT ?3";
    let found = sqlx::query(statement)
        .bind(owner.as_ref().map(Subject::as_str))
        .bind(page.before.map(|image| image.to_string()))
        .bind(page.limit)
        .fetch_all(pool)
        .await?;
    found.iter().map(rows::owned_image).collect()
}

pub(super) async fn has_blob(pool: &SqlitePool, key: String) -> Result<bool, StoreError> {
    let found = sqlx::query("SELECT 1 FROM images WHERE blob_key = ?")
        .bind(key)
        .fetch_optional(pool)
        .await?;
    Ok(found.is_some())
}
