//! From one state to the next. Each statement names the state (and the attempt) that it leaves, as
//! `JobState::after` has it, so that a late or doubled call changes nothing.

use crate::jobs::{
    clock::UnixMillis,
    fairness,
    job::ImageRecord,
    state::{JobState, Transition},
    store::{
        record::{
            Blame, Claim, ClaimRequest, Company, Finished, MAX_DEATHS_AT_A_STEP, MAX_WORKER_DEATHS,
            Recorded, Requeued, StoreError,
        },
        rows,
        sqlite::look::{self, signed},
    },
};
use sdrest_proto::{
    error::{ErrorCode, Fault},
    id::{Attempt, ImageId, JobId},
};
use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};

pub(super) const RECOVER: &str = "UPDATE jobs INDEXED BY jobs_running SET state = 'queued', started = NULL WHERE state = 'running'";
/// The least served owner's oldest waiting job; among owners served alike, the oldest. Only the first job of
/// each owner is read whole.
pub(super) const NEXT: &str = "WITH heads AS (SELECT min(arrival) AS arrival FROM jobs INDEXED BY jobs_waiting \
    WHERE state = 'queued' AND model NOT IN (SELECT value FROM json_each(?)) GROUP BY owner) \
    SELECT jobs.*, owners.subject, owners.served FROM heads CROSS JOIN jobs ON jobs.arrival = heads.arrival \
    CROSS JOIN owners ON owners.id = jobs.owner ORDER BY owners.served, jobs.arrival LIMIT 1";

/// Moves virtual time to where the owner stands and charges the owner (by nothing, where an earlier attempt
/// was charged), and hands the job out.
const CLAIM: &str = "BEGIN IMMEDIATE; \
    UPDATE fairness SET virtual_time = max(virtual_time, (SELECT served FROM owners WHERE id = ?)) WHERE only = 1 AND ?; \
    UPDATE owners SET served = served + ? WHERE id = ?; \
    UPDATE jobs SET state = 'running', attempt = ?, started = ?, profile = ? WHERE id = ?; COMMIT";

/// The pictures come as one JSON array. Neither statement does anything for an attempt that is not the running
/// one; then the last gives no row.
const FINISH: &str = concat!(
    "BEGIN IMMEDIATE; \
    INSERT INTO images (id, job, owner, attempt, place, seed, width, height, sha256, blob_key, bytes, created) \
    SELECT value ->> 'id', jobs.id, jobs.owner, jobs.attempt, value ->> 'place', value ->> 'seed', value ->> 'width', \
    value ->> 'height', value ->> 'sha256', value ->> 'key', value ->> 'bytes', value ->> 'created' \
    FROM jobs CROSS JOIN json_each(?) WHERE jobs.id = ? AND jobs.state = 'running' AND jobs.attempt = ?; \
    UPDATE jobs SET state = 'done', ended = ? WHERE id = ? AND state = 'running' AND attempt = ?; ",
    look::one_job!(),
    " AND changes() = 1; COMMIT"
);

pub(super) async fn recover(writer: &mut SqliteConnection) -> Result<u64, StoreError> {
    Ok(sqlx::query(RECOVER).execute(writer).await?.rows_affected())
}

pub(super) async fn claim(
    writer: &mut SqliteConnection,
    request: ClaimRequest,
) -> Result<Claim, StoreError> {
    let excluded = serde_json::to_string(&request.excluded_models)
        .map_err(|error| StoreError::corrupt("a list of models", error))?;
    // Nobody else writes meanwhile, so that what was chosen here is still there below.
    let Some(row) = sqlx::query(NEXT).bind(excluded).fetch_optional(&mut *writer).await? else {
        return Ok(Claim::Nothing);
    };
    let mut job = match rows::job(&row) {
        Ok(job) => job,
        Err(error) => return fail_unreadable(writer, &row, &error).await,
    };
    if job.worker_deaths > 0 && request.company == Company::Beside {
        return Ok(Claim::Hold);
    }
    let owner: i64 = row.try_get("owner")?;
    let first = job.attempt.0 == 0;
    job.state = job.state.after(Transition::Claim).unwrap_or(JobState::Running);
    job.attempt = Attempt(job.attempt.0.saturating_add(1));
    job.started = Some(UnixMillis::now());
    job.profile = Some(request.profile);
    sqlx::query(CLAIM)
        .bind(owner)
        .bind(first)
        .bind(if first { signed(fairness::cost(&job.request)) } else { 0 })
        .bind(owner)
        .bind(job.attempt.0)
        .bind(job.started.map(|at| at.0))
        .bind(job.profile.as_deref())
        .bind(job.id.to_string())
        .execute(writer)
        .await?;
    Ok(Claim::Job { job: Box::new(job), share: owner.unsigned_abs() })
}

/// Ends a waiting job whose row this build cannot read: left where it is, it would stand before all others
/// for ever.
async fn fail_unreadable(
    writer: &mut SqliteConnection,
    row: &SqliteRow,
    cause: &StoreError,
) -> Result<Claim, StoreError> {
    let id: &str = row.try_get("id")?;
    tracing::error!(job = id, error = %cause, "a waiting job cannot be read and has failed");
    sqlx::query("UPDATE jobs SET state = 'failed', ended = ?, error_code = ?, error_message = ? WHERE arrival = ?")
        .bind(UnixMillis::now().0)
        .bind(ErrorCode::Internal.as_str())
        .bind("the stored job could not be read; the server's log says why")
        .bind(row.try_get::<i64, _>("arrival")?)
        .execute(writer)
        .await?;
    Ok(Claim::Unreadable(id.parse().ok()))
}

pub(super) async fn finish(
    writer: &mut SqliteConnection,
    job: JobId,
    attempt: Attempt,
    images: Vec<ImageRecord>,
) -> Result<Finished, StoreError> {
    let images: Vec<_> = images.iter().map(picture).collect();
    let images = serde_json::to_string(&images)
        .map_err(|error| StoreError::corrupt("a list of pictures", error))?;
    let ended = sqlx::query(FINISH)
        .bind(images)
        .bind(job.to_string())
        .bind(attempt.0)
        .bind(UnixMillis::now().0)
        .bind(job.to_string())
        .bind(attempt.0)
        .bind(job.to_string())
        .fetch_all(writer)
        .await?;
    Ok(ended.first().map_or(Finished::Stale, |row| {
        Finished::Yes(rows::job_with_images(row).ok().map(Box::new))
    }))
}

fn picture(image: &ImageRecord) -> serde_json::Value {
    serde_json::json!({
        "id": image.id.to_string(),
        "place": image.index,
        "seed": signed(image.seed),
        "width": image.width,
        "height": image.height,
        "sha256": image.sha256,
        "key": image.key,
        "bytes": signed(image.bytes),
        "created": image.created.0,
    })
}

pub(super) async fn fail(
    writer: &mut SqliteConnection,
    job: JobId,
    attempt: Attempt,
    fault: Fault,
) -> Result<Recorded, StoreError> {
    let statement = "UPDATE jobs SET state = 'failed', ended = ?, error_code = ?, error_message = ? \
                     WHERE id = ? AND state = 'running' AND attempt = ?";
    let done = sqlx::query(statement)
        .bind(UnixMillis::now().0)
        .bind(fault.code.as_str())
        .bind(&fault.message)
        .bind(job.to_string())
        .bind(attempt.0)
        .execute(writer)
        .await?;
    Ok(if done.rows_affected() == 1 { Recorded::Yes } else { Recorded::Stale })
}

const REQUEUE: &str = "BEGIN IMMEDIATE; \
    UPDATE jobs SET state = 'queued', started = NULL, worker_deaths = worker_deaths + ?4, \
    deaths_there = CASE WHEN ?1 IS NULL THEN deaths_there WHEN death_step = ?1 THEN deaths_there + 1 ELSE 1 END, \
    death_step = coalesce(?1, death_step) \
    WHERE id = ?2 AND state = 'running' AND attempt = ?3 RETURNING worker_deaths, deaths_there";

pub(super) async fn requeue(
    writer: &mut SqliteConnection,
    job: JobId,
    attempt: Attempt,
    blame: Blame,
) -> Result<Requeued, StoreError> {
    let (step, counts) = match blame {
        Blame::Suspect { step } => (Some(step), true),
        Blame::Possible => (None, true),
        Blame::Innocent => (None, false),
    };
    let found = sqlx::query(REQUEUE)
        .bind(step)
        .bind(job.to_string())
        .bind(attempt.0)
        .bind(counts)
        .fetch_all(&mut *writer)
        .await?;
    let outcome = match found.first() {
        None => Requeued::Stale,
        Some(row) => {
            let deaths: u32 = rows::number(row, "worker_deaths")?;
            let there: u32 = rows::number(row, "deaths_there")?;
            if there >= MAX_DEATHS_AT_A_STEP || deaths >= MAX_WORKER_DEATHS {
                let place = step
                    .map(|step| format!(", the last time after step {step}"))
                    .unwrap_or_default();
                let message = format!(
                    "the worker died {deaths} times, or sent what it was not asked for, while it worked on this \
                     job{place}; it will not be tried again"
                );
                give_up(writer, job, message).await?;
                Requeued::Quarantined
            } else {
                Requeued::Waiting
            }
        }
    };
    sqlx::query("COMMIT").execute(writer).await?;
    Ok(outcome)
}

async fn give_up(tx: &mut SqliteConnection, job: JobId, message: String) -> Result<(), StoreError> {
    sqlx::query("UPDATE jobs SET state = 'failed', ended = ?, error_code = ?, error_message = ? WHERE id = ?")
        .bind(UnixMillis::now().0)
        .bind(ErrorCode::GenerationFailed.as_str())
        .bind(message)
        .bind(job.to_string())
        .execute(tx)
        .await?;
    Ok(())
}

/// The state that the job left or, where it had ended, the one that it is in.
pub(super) async fn cancel(
    writer: &mut SqliteConnection,
    job: JobId,
) -> Result<Option<JobState>, StoreError> {
    let Some(found) = look::job(writer, job).await? else { return Ok(None) };
    if found.state.after(Transition::Cancel).is_some() {
        sqlx::query("UPDATE jobs SET state = 'cancelled', ended = ? WHERE id = ?")
            .bind(UnixMillis::now().0)
            .bind(job.to_string())
            .execute(writer)
            .await?;
    }
    Ok(Some(found.state))
}

pub(super) async fn delete_image(
    writer: &mut SqliteConnection,
    image: ImageId,
) -> Result<bool, StoreError> {
    let done = sqlx::query("DELETE FROM images WHERE id = ?")
        .bind(image.to_string())
        .execute(writer)
        .await?;
    Ok(done.rows_affected() == 1)
}
