//! From rows to jobs and pictures. A row that cannot be read is an error that names the column, never a
//! guess.

use crate::jobs::{
    clock::UnixMillis,
    job::{ImageRecord, Job, JobKind, OwnedImage, Progress},
    state::JobState,
    store::{record::StoreError, request},
};
use sdrest_proto::{
    error::{ErrorCode, Fault},
    id::{Attempt, ImageId, JobId},
    identity::Subject,
};
use serde::Deserialize;
use sqlx::{Row, sqlite::SqliteRow};
use std::{fmt::Display, str::FromStr};

pub(super) fn parsed<T: FromStr<Err: Display>>(
    row: &SqliteRow,
    column: &'static str,
) -> Result<T, StoreError> {
    let text: &str = row.try_get(column)?;
    text.parse().map_err(|error| StoreError::corrupt(column, error))
}

pub(super) fn number<T: TryFrom<i64, Error: Display>>(
    row: &SqliteRow,
    column: &'static str,
) -> Result<T, StoreError> {
    let value: i64 = row.try_get(column)?;
    T::try_from(value).map_err(|error| StoreError::corrupt(column, error))
}

pub(super) fn subject(row: &SqliteRow) -> Result<Subject, StoreError> {
    let text: String = row.try_get("subject")?;
    Subject::try_from(text).map_err(|error| StoreError::corrupt("owners.subject", error))
}

fn kind(row: &SqliteRow) -> Result<JobKind, StoreError> {
    let text: &str = row.try_get("kind")?;
    JobKind::ALL
        .into_iter()
        .find(|kind| kind.as_str() == text)
        .ok_or_else(|| StoreError::corrupt("jobs.kind", format!("unknown kind {text:?}")))
}

fn fault(row: &SqliteRow) -> Result<Option<Fault>, StoreError> {
    let code: Option<&str> = row.try_get("error_code")?;
    let message: Option<String> = row.try_get("error_message")?;
    let Some(code) = code else { return Ok(None) };
    // A code of another build is no reason to hide the job: its message says what happened.
    let known = ErrorCode::ALL.iter().find(|known| known.as_str() == code);
    let code = known.copied().unwrap_or(ErrorCode::Internal);
    Ok(Some(Fault::new(code, message.unwrap_or_default())))
}

/// A row of `jobs` joined with its owner's `subject`, without pictures.
pub(super) fn job(row: &SqliteRow) -> Result<Job, StoreError> {
    Ok(Job {
        id: parsed(row, "id")?,
        owner: subject(row)?,
        owner_name: row.try_get("owner_name")?,
        kind: kind(row)?,
        state: parsed::<JobState>(row, "state")?,
        request: request::from_json(row.try_get("request")?)?,
        request_id: parsed(row, "request_id")?,
        attempt: Attempt(number(row, "attempt")?),
        worker_deaths: number(row, "worker_deaths")?,
        profile: row.try_get("profile")?,
        created: UnixMillis(row.try_get("created")?),
        started: row.try_get::<Option<i64>, _>("started")?.map(UnixMillis),
        ended: row.try_get::<Option<i64>, _>("ended")?.map(UnixMillis),
        fault: fault(row)?,
        images: Vec::new(),
        progress: Progress::default(),
        position: None,
        eta_seconds: None,
    })
}

/// The same with its `pictures`.
pub(super) fn job_with_images(row: &SqliteRow) -> Result<Job, StoreError> {
    let mut job = job(row)?;
    let pictures: Vec<Picture> = serde_json::from_str(row.try_get("pictures")?)
        .map_err(|error| StoreError::corrupt("images", error))?;
    job.images = pictures.into_iter().map(|picture| picture.of(job.id)).collect();
    Ok(job)
}

/// A row of `images` as JSON.
#[derive(Deserialize)]
struct Picture {
    id: ImageId,
    attempt: u32,
    place: u32,
    seed: u64,
    width: u32,
    height: u32,
    sha256: String,
    blob_key: String,
    bytes: u64,
    created: i64,
}

impl Picture {
    fn of(self, job: JobId) -> ImageRecord {
        ImageRecord {
            id: self.id,
            job,
            attempt: Attempt(self.attempt),
            index: self.place,
            seed: self.seed,
            width: self.width,
            height: self.height,
            sha256: self.sha256,
            key: self.blob_key,
            bytes: self.bytes,
            created: UnixMillis(self.created),
        }
    }
}

/// A row of `images`.
pub(super) fn image(row: &SqliteRow) -> Result<ImageRecord, StoreError> {
    Ok(ImageRecord {
        id: parsed(row, "id")?,
        job: parsed(row, "job")?,
        attempt: Attempt(number(row, "attempt")?),
        index: number(row, "place")?,
        seed: number(row, "seed")?,
        width: number(row, "width")?,
        height: number(row, "height")?,
        sha256: row.try_get("sha256")?,
        key: row.try_get("blob_key")?,
        bytes: number(row, "bytes")?,
        created: UnixMillis(row.try_get("created")?),
    })
}

/// A row of `images` joined with its owner's `subject`.
pub(super) fn owned_image(row: &SqliteRow) -> Result<OwnedImage, StoreError> {
    Ok(OwnedImage { owner: subject(row)?, image: image(row)? })
}
