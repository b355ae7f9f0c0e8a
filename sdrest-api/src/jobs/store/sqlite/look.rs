//! Looking without changing anything.

use crate::jobs::{
    fairness::Waiting,
    job::{ImagePage, Job, JobPage, OwnedImage, Page},
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
use sqlx::{Row, SqliteConnection, SqlitePool, sqlite::SqliteRow};
use std::{fmt::Display, str::FromStr};

/// Everybody's waiting and running jobs. Ended ones are in neither index, however many there are.
pub(super) const COUNTS: &str = "SELECT 'queued' AS state, count(*) AS jobs FROM jobs INDEXED BY jobs_waiting \
    WHERE state = 'queued' UNION ALL \
    SELECT 'running' AS state, count(*) AS jobs FROM jobs INDEXED BY jobs_running WHERE state = 'running'";
pub(super) const COUNTS_OF_OWNER: &str = "SELECT state, count(*) AS jobs FROM jobs INDEXED BY jobs_of_owner \
    WHERE owner = (SELECT id FROM owners WHERE subject = ?) AND state IN ('queued', 'running') GROUP BY state";
pub(super) const WAITING: &str = "SELECT jobs.id, jobs.cost, jobs.arrival, jobs.attempt, owners.subject, owners.served \
    FROM jobs INDEXED BY jobs_waiting CROSS JOIN owners ON owners.id = jobs.owner WHERE jobs.state = 'queued'";

/// A job's pictures by their place, as one JSON array: what they would cost as rows of their own is another hop each.
macro_rules! pictures {
    () => {
        ", (SELECT json_group_array(json_object('id', id, 'attempt', attempt, 'place', place, 'seed', seed, \
        'width', width, 'height', height, 'sha256', sha256, 'blob_key', blob_key, 'bytes', bytes, 'created', created) \
        ORDER BY place) FROM images WHERE images.job = jobs.id) AS pictures "
    };
}

/// One job, as `rows::job_with_images` reads it.
macro_rules! one_job {
    () => {
        concat!(
            "SELECT jobs.*, owners.subject",
            $crate::jobs::store::sqlite::look::pictures!(),
            "FROM jobs JOIN owners ON owners.id = jobs.owner WHERE jobs.id = ?"
        )
    };
}
pub(super) use {one_job, pictures};

pub(super) const JOB: &str = one_job!();

// Lists, one statement for each kind of filter, so that each finds its index. The parameters are the same
// everywhere: owner, state, before, limit. The cursor of a job that is not there ends the list; an owner's list knows
// no cursor of another owner's, or it would tell that there is such a job.
const JOBS: &str = concat!(
    "SELECT jobs.*, owners.subject",
    pictures!(),
    "FROM jobs CROSS JOIN owners ON owners.id = jobs.owner \
    WHERE (?1 IS NULL) AND (?2 IS NULL OR jobs.state = ?2) AND jobs.arrival < \
    CASE WHEN ?3 IS NULL THEN 9223372036854775807 ELSE (SELECT arrival FROM jobs WHERE id = ?3) END \
    ORDER BY jobs.arrival DESC LIMIT ?4"
);
const JOBS_OF_OWNER: &str = concat!(
    "SELECT jobs.*, owners.subject",
    pictures!(),
    "FROM jobs INDEXED BY jobs_by_arrival CROSS JOIN owners ON owners.id = jobs.owner \
    WHERE jobs.owner = (SELECT id FROM owners WHERE subject = ?1) AND (?2 IS NULL) AND jobs.arrival < \
    CASE WHEN ?3 IS NULL THEN 9223372036854775807 \
    ELSE (SELECT arrival FROM jobs WHERE id = ?3 AND owner = (SELECT id FROM owners WHERE subject = ?1)) END \
    ORDER BY jobs.arrival DESC LIMIT ?4"
);
const JOBS_OF_OWNER_IN_STATE: &str = concat!(
    "SELECT jobs.*, owners.subject",
    pictures!(),
    "FROM jobs INDEXED BY jobs_of_owner CROSS JOIN owners ON owners.id = jobs.owner \
    WHERE jobs.owner = (SELECT id FROM owners WHERE subject = ?1) AND jobs.state = ?2 AND jobs.arrival < \
    CASE WHEN ?3 IS NULL THEN 9223372036854775807 \
    ELSE (SELECT arrival FROM jobs WHERE id = ?3 AND owner = (SELECT id FROM owners WHERE subject = ?1)) END \
    ORDER BY jobs.arrival DESC LIMIT ?4"
);

/// The statement for lists that are narrowed to an owner, to a state, to both or to neither.
pub(super) fn jobs_statement(filter: &JobFilter) -> &'static str {
    match (&filter.owner, filter.state) {
        (None, _) => JOBS,
        (Some(_), None) => JOBS_OF_OWNER,
        (Some(_), Some(_)) => JOBS_OF_OWNER_IN_STATE,
    }
}

// Ids are lower-case hex, which "~" follows.
pub(super) const IMAGES: &str = "SELECT images.*, owners.subject FROM images CROSS JOIN owners ON owners.id = images.owner \
    WHERE (?1 IS NULL) AND images.id < coalesce(?2, '~') ORDER BY images.id DESC LIMIT ?3";
pub(super) const IMAGES_OF_OWNER: &str = "SELECT images.*, owners.subject \
    FROM images INDEXED BY images_of_owner CROSS JOIN owners ON owners.id = images.owner \
    WHERE images.owner = (SELECT id FROM owners WHERE subject = ?1) AND images.id < coalesce(?2, '~') \
    ORDER BY images.id DESC LIMIT ?3";

/// SQLite's integers are signed; everything kept in one is far below 2⁶³.
pub(super) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub(super) async fn job(
    connection: &mut SqliteConnection,
    id: JobId,
) -> Result<Option<Job>, StoreError> {
    let found = sqlx::query(JOB).bind(id.to_string()).fetch_optional(connection).await?;
    found.as_ref().map(rows::job_with_images).transpose()
}

pub(super) async fn jobs(
    connection: &mut SqliteConnection,
    filter: JobFilter,
) -> Result<JobPage, StoreError> {
    let found = sqlx::query(jobs_statement(&filter))
        .bind(filter.owner.as_ref().map(Subject::as_str))
        .bind(filter.state.map(JobState::as_str))
        .bind(filter.before.map(|job| job.to_string()))
        .bind(filter.limit.saturating_add(1))
        .fetch_all(connection)
        .await?;
    let (jobs, next) = listed(&found, filter.limit, rows::job_with_images);
    Ok(JobPage { jobs, next })
}

/// A page out of rows, of which one more than `limit` was asked for. A row that cannot be read is left out: it
/// must not hide all others. Where the list goes on is told by the rows as they are.
fn listed<T, Id: FromStr<Err: Display>>(
    found: &[SqliteRow],
    limit: u32,
    read: impl Fn(&SqliteRow) -> Result<T, StoreError>,
) -> (Vec<T>, Option<Id>) {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let page = found.get(..limit).unwrap_or(found);
    let shown = page.iter().filter_map(|row| {
        let id = row.try_get::<&str, _>("id").unwrap_or("?");
        read(row)
            .inspect_err(|error| tracing::error!(id, %error, "a row is left out of a list"))
            .ok()
    });
    let cursor = || page.iter().rev().find_map(|row| rows::parsed(row, "id").ok());
    let next = if found.len() > limit { cursor() } else { None };
    (shown.collect(), next)
}

pub(super) async fn counts(
    pool: &SqlitePool,
    owner: Option<Subject>,
) -> Result<Counts, StoreError> {
    let found = match owner {
        None => sqlx::query(COUNTS).fetch_all(pool).await?,
        Some(owner) => sqlx::query(COUNTS_OF_OWNER).bind(owner.as_str()).fetch_all(pool).await?,
    };
    let mut counts = Counts::default();
    for row in &found {
        let jobs: u64 = rows::number(row, "jobs")?;
        match rows::parsed::<JobState>(row, "state")? {
            JobState::Queued => counts.queued = jobs,
            JobState::Running => counts.running = jobs,
            JobState::Done | JobState::Failed | JobState::Cancelled => {}
        }
    }
    Ok(counts)
}

/// The waiting jobs. One that cannot be read is left out: it fails when its turn comes, and until then it must
/// not hide where all others stand.
pub(super) async fn waiting(pool: &SqlitePool) -> Result<Vec<Waiting>, StoreError> {
    let found = sqlx::query(WAITING).fetch_all(pool).await?;
    let waiting = found.iter().map(|row| {
        Ok::<_, StoreError>(Waiting {
            job: rows::parsed(row, "id")?,
            owner: rows::subject(row)?,
            served: rows::number(row, "served")?,
            cost: rows::number(row, "cost")?,
            arrival: row.try_get("arrival")?,
            charged: rows::number::<u32>(row, "attempt")? > 0,
        })
    });
    Ok(waiting.filter_map(Result::ok).collect())
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
) -> Result<ImagePage, StoreError> {
    let found = sqlx::query(if owner.is_some() { IMAGES_OF_OWNER } else { IMAGES })
        .bind(owner.as_ref().map(Subject::as_str))
        .bind(page.before.map(|image| image.to_string()))
        .bind(page.limit.saturating_add(1))
        .fetch_all(pool)
        .await?;
    let (images, next) = listed(&found, page.limit, rows::owned_image);
    Ok(ImagePage { images, next })
}

pub(super) async fn has_blob(pool: &SqlitePool, key: String) -> Result<bool, StoreError> {
    let found = sqlx::query("SELECT 1 FROM images WHERE blob_key = ?")
        .bind(key)
        .fetch_optional(pool)
        .await?;
    Ok(found.is_some())
}
