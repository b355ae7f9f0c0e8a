//! From one state to the next. Each statement names the state (and the attempt) that it leaves, as
//! `JobState::after` has it, so that a late or doubled call changes nothing.

use crate::jobs::{
    clock::UnixMillis,
    fairness,
    job::{ImageRecord, Job},
    state::{JobState, Transition},
    store::{
        record::{
            Blame, Claim, ClaimRequest, Company, MAX_DEATHS_AT_A_STEP, MAX_WORKER_DEATHS, Recorded,
            Requeued, StoreError,
        },
        rows,
        sqlite::look::{self, signed},
    },
};
use sdrest_proto::{
    error::{ErrorCode, Fault},
    id::{Attempt, ImageId, JobId},
};
use sqlx::{Row, Sqlite, SqliteConnection, SqlitePool, Transaction};

pub(super) const RECOVER: &str = "UPDATE jobs INDEXED BY jobs_running SET state = 'queued', started = NULL WHERE state = 'running'";
/// The least served owner's oldest waiting job; among owners served alike, the oldest. Only the first job of
/// each owner is read whole.
pub(super) const NEXT: &str = "WITH heads AS (SELECT min(arrival) AS arrival FROM jobs INDEXED BY jobs_waiting \
    WHERE state = 'queued' AND model NOT IN (SELECT value FROM json_each(?)) GROUP BY owner) \
    SELECT jobs.*, owners.subject, owners.served FROM heads CROSS JOIN jobs ON jobs.arrival = heads.arrival \
    CROSS JOIN owners ON owners.id = jobs.owner ORDER BY owners.served, jobs.arrival LIMIT 1";

pub(super) async fn recover(pool: &SqlitePool) -> Result<u64, StoreError> {
    Ok(sqlx::query(RECOVER).execute(pool).await?.rows_affected())
}

pub(super) async fn claim(
    mut tx: Transaction<'static, Sqlite>,
    request: ClaimRequest,
) -> Result<Claim, StoreError> {
    let excluded = serde_json::to_string(&request.excluded_models)
        .map_err(|error| StoreError::corrupt("a list of models", error))?;
    let mut spoiled = false;
    let (mut job, owner) = loop {
        let Some(row) = sqlx::query(NEXT).bind(&excluded).fetch_optional(&mut *tx).await? else {
            if spoiled {
                tx.commit().await?;
            }
            return Ok(Claim::Nothing);
        };
        match rows::job(&row) {
            Ok(job) => break (job, row.try_get::<i64, _>("owner")?),
            Err(error) => fail_unreadable(&mut tx, row.try_get("arrival")?, &error).await?,
        }
        spoiled = true;
    };
    if job.worker_deaths > 0 && request.company == Company::Beside {
        if spoiled {
            tx.commit().await?;
        }
        return Ok(Claim::Hold);
    }
    charge(&mut tx, owner, &job).await?;
    job.state = job.state.after(Transition::Claim).unwrap_or(JobState::Running);
    job.attempt = Attempt(job.attempt.0.saturating_add(1));
    job.started = Some(UnixMillis::now());
    job.profile = Some(request.profile);
    sqlx::query(
        "UPDATE jobs SET state = 'running', attempt = ?, started = ?, profile = ? WHERE id = ?",
    )
    .bind(job.attempt.0)
    .bind(job.started.map(|at| at.0))
    .bind(job.profile.as_deref())
    .bind(job.id.to_string())
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(Claim::Job { job: Box::new(job), share: owner.unsigned_abs() })
}

/// Ends a waiting job whose row this build cannot read: left where it is, it would stand before all others
/// for ever.
async fn fail_unreadable(
    tx: &mut SqliteConnection,
    arrival: i64,
    cause: &StoreError,
) -> Result<(), StoreError> {
    tracing::error!(arrival, error = %cause, "a waiting job cannot be read and has failed");
    sqlx::query("UPDATE jobs SET state = 'failed', ended = ?, error_code = ?, error_message = ? WHERE arrival = ?")
        .bind(UnixMillis::now().0)
        .bind(ErrorCode::Internal.as_str())
        .bind("the stored job could not be read; the server's log says why")
        .bind(arrival)
        .execute(tx)
        .await?;
    Ok(())
}

/// Moves virtual time to where the owner stands, and charges the owner, once a job.
async fn charge(tx: &mut SqliteConnection, owner: i64, job: &Job) -> Result<(), StoreError> {
    if job.attempt.0 > 0 {
        return Ok(());
    }
    let statement = "UPDATE fairness SET virtual_time = max(virtual_time, (SELECT served FROM owners WHERE id = ?)) \
                     WHERE only = 1";
    sqlx::query(statement).bind(owner).execute(&mut *tx).await?;
    sqlx::query("UPDATE owners SET served = served + ? WHERE id = ?")
        .bind(signed(fairness::cost(&job.request)))
        .bind(owner)
        .execute(tx)
        .await?;
    Ok(())
}

pub(super) async fn finish(
    mut tx: Transaction<'static, Sqlite>,
    job: JobId,
    attempt: Attempt,
    images: Vec<ImageRecord>,
) -> Result<Recorded, StoreError> {
    let statement = "UPDATE jobs SET state = 'done', ended = ? WHERE id = ? AND state = 'running' AND attempt = ? \
                     RETURNING owner";
    let row = sqlx::query(statement)
        .bind(UnixMillis::now().0)
        .bind(job.to_string())
        .bind(attempt.0)
        .fetch_optional(&mut *tx)
        .await?;
    let Some(row) = row else { return Ok(Recorded::Stale) };
    let owner: i64 = row.try_get("owner")?;
    for image in &images {
        record(&mut tx, owner, image).await?;
    }
    tx.commit().await?;
    Ok(Recorded::Yes)
}

async fn record(
    tx: &mut SqliteConnection,
    owner: i64,
    image: &ImageRecord,
) -> Result<(), StoreError> {
    let statement = "INSERT INTO images (id, job, owner, attempt, place, seed, width, height, sha256, blob_key, bytes, \
                     created) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
    sqlx::query(statement)
        .bind(image.id.to_string())
        .bind(image.job.to_string())
        .bind(owner)
        .bind(image.attempt.0)
        .bind(image.index)
        .bind(signed(image.seed))
        .bind(image.width)
        .bind(image.height)
        .bind(&image.sha256)
        .bind(&image.key)
        .bind(signed(image.bytes))
        .bind(image.created.0)
        .execute(tx)
        .await?;
    Ok(())
}

pub(super) async fn fail(
    pool: &SqlitePool,
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
        .execute(pool)
        .await?;
    Ok(if done.rows_affected() == 1 { Recorded::Yes } else { Recorded::Stale })
}

pub(super) async fn requeue(
    mut tx: Transaction<'static, Sqlite>,
    job: JobId,
    attempt: Attempt,
    blame: Blame,
) -> Result<Requeued, StoreError> {
    let step = match blame {
        Blame::Suspect { step } => Some(step),
        Blame::Innocent => None,
    };
    let statement = "UPDATE jobs SET state = 'queued', started = NULL, worker_deaths = worker_deaths + (?1 IS NOT NULL), \
                     deaths_there = CASE WHEN ?1 IS NULL THEN deaths_there WHEN death_step = ?1 THEN deaths_there + 1 \
                     ELSE 1 END, death_step = coalesce(?1, death_step) \
                     WHERE id = ?2 AND state = 'running' AND attempt = ?3 RETURNING worker_deaths, deaths_there";
    let row = sqlx::query(statement)
        .bind(step)
        .bind(job.to_string())
        .bind(attempt.0)
        .fetch_optional(&mut *tx)
        .await?;
    let Some(row) = row else { return Ok(Requeued::Stale) };
    let deaths: u32 = rows::number(&row, "worker_deaths")?;
    let there: u32 = rows::number(&row, "deaths_there")?;
    let outcome = if there >= MAX_DEATHS_AT_A_STEP || deaths >= MAX_WORKER_DEATHS {
        let place =
            step.map(|step| format!(", the last time after step {step}")).unwrap_or_default();
        let message = format!(
            "the worker died {deaths} times while it worked on this job{place}; it will not be tried again"
        );
        give_up(&mut tx, job, message).await?;
        Requeued::Quarantined
    } else {
        Requeued::Waiting
    };
    tx.commit().await?;
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

pub(super) async fn cancel(
    mut tx: Transaction<'static, Sqlite>,
    job: JobId,
) -> Result<Option<JobState>, StoreError> {
    let Some(found) = look::job(&mut tx, job).await? else { return Ok(None) };
    if found.state.after(Transition::Cancel).is_some() {
        sqlx::query("UPDATE jobs SET state = 'cancelled', ended = ? WHERE id = ?")
            .bind(UnixMillis::now().0)
            .bind(job.to_string())
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
    }
    Ok(Some(found.state))
}

pub(super) async fn delete_image(pool: &SqlitePool, image: ImageId) -> Result<bool, StoreError> {
    let done = sqlx::query("DELETE FROM images WHERE id = ?")
        .bind(image.to_string())
        .execute(pool)
        .await?;
    Ok(done.rows_affected() == 1)
}
