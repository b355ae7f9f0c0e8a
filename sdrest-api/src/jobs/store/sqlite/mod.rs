//! The store in SQLite: WAL with synchronous=FULL (sqlite.org/pragma.html: durable over a loss of power), one
//! connection that writes, under BEGIN IMMEDIATE, and a few that read. The statements are written out in
//! full; no value ever becomes part of one.

mod accept;
mod advance;
mod look;
#[cfg(test)]
mod tests;

use crate::jobs::{
    fairness::Waiting,
    job::{ImageRecord, Job, NewJob, OwnedImage, Page},
    state::JobState,
    store::{
        Answer, Blame, Claim, ClaimRequest, Counts, Inserted, JobFilter, JobStore, Limits,
        Recorded, Refusal, Requeued, StoreError,
    },
};
use futures::FutureExt;
use sdrest_proto::{
    error::Fault,
    id::{Attempt, ImageId, JobId},
    identity::Subject,
};
use sqlx::{
    SqlSafeStr, Sqlite, SqlitePool, Transaction,
    migrate::{Migration, MigrationType, Migrator},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use std::{path::Path, time::Duration};

/// Connections that read.
const READERS: u32 = 4;

/// Jobs in one SQLite file.
pub struct SqliteStore {
    write: SqlitePool,
    read: SqlitePool,
}

impl SqliteStore {
    /// Opens the file, or makes it, and brings its schema up to date.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            // The sandbox leaves no other folder to write to.
            .pragma("temp_store", "MEMORY")
            .busy_timeout(Duration::from_secs(30));
        let pool = |most| {
            SqlitePoolOptions::new()
                .max_connections(most)
                .min_connections(1)
                .idle_timeout(None)
                .max_lifetime(None)
                .test_before_acquire(false)
        };
        let write = pool(1).connect_with(options.clone()).await?;
        migrations().run(&write).await?;
        let read = pool(READERS).connect_with(options).await?;
        Ok(Self { write, read })
    }

    async fn begin(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        Ok(self.write.begin_with("BEGIN IMMEDIATE").await?)
    }
}

fn migrations() -> Migrator {
    let step = |version, name: &'static str, text: &'static str| {
        Migration::new(version, name.into(), MigrationType::Simple, text.into_sql_str(), false)
    };
    Migrator::with_migrations(vec![
        step(1, "jobs", include_str!("../../../../migrations/0001_jobs.sql")),
        step(2, "lists", include_str!("../../../../migrations/0002_lists.sql")),
    ])
}

impl JobStore for SqliteStore {
    fn insert(&self, new: NewJob, limits: Limits) -> Answer<'_, Result<Inserted, Refusal>> {
        async move { accept::insert(self.begin().await?, new, limits).await }.boxed()
    }

    fn recover(&self) -> Answer<'_, u64> {
        advance::recover(&self.write).boxed()
    }

    fn claim(&self, request: ClaimRequest) -> Answer<'_, Claim> {
        async move { advance::claim(self.begin().await?, request).await }.boxed()
    }

    fn finish(
        &self,
        job: JobId,
        attempt: Attempt,
        images: Vec<ImageRecord>,
    ) -> Answer<'_, Recorded> {
        async move { advance::finish(self.begin().await?, job, attempt, images).await }.boxed()
    }

    fn fail(&self, job: JobId, attempt: Attempt, fault: Fault) -> Answer<'_, Recorded> {
        advance::fail(&self.write, job, attempt, fault).boxed()
    }

    fn requeue(&self, job: JobId, attempt: Attempt, blame: Blame) -> Answer<'_, Requeued> {
        async move { advance::requeue(self.begin().await?, job, attempt, blame).await }.boxed()
    }

    fn cancel(&self, job: JobId) -> Answer<'_, Option<JobState>> {
        async move { advance::cancel(self.begin().await?, job).await }.boxed()
    }

    fn job(&self, job: JobId) -> Answer<'_, Option<Job>> {
        async move { look::job(&mut *self.read.acquire().await?, job).await }.boxed()
    }

    fn jobs(&self, filter: JobFilter) -> Answer<'_, Vec<Job>> {
        async move { look::jobs(&mut *self.read.acquire().await?, filter).await }.boxed()
    }

    fn counts(&self, owner: Option<Subject>) -> Answer<'_, Counts> {
        look::counts(&self.read, owner).boxed()
    }

    fn waiting(&self) -> Answer<'_, Vec<Waiting>> {
        look::waiting(&self.read).boxed()
    }

    fn image(&self, image: ImageId) -> Answer<'_, Option<OwnedImage>> {
        look::image(&self.read, image).boxed()
    }

    fn images(&self, owner: Option<Subject>, page: Page<ImageId>) -> Answer<'_, Vec<OwnedImage>> {
        look::images(&self.read, owner, page).boxed()
    }

    fn delete_image(&self, image: ImageId) -> Answer<'_, bool> {
        advance::delete_image(&self.write, image).boxed()
    }

    fn has_blob(&self, key: String) -> Answer<'_, bool> {
        look::has_blob(&self.read, key).boxed()
    }
}
