//! The store in SQLite: WAL with synchronous=FULL (sqlite.org/pragma.html: durable over a loss of power), one
//! writer at a time and a few connections that read. The statements are written out in full; no value ever
//! becomes part of one.
//!
//! Each call to SQLite is a hop to another thread and back, which costs more than the statement itself. So a
//! change is one text of several statements between BEGIN IMMEDIATE and COMMIT. The texts are run to their
//! end or rolled back: whoever changes something here must not be dropped half-way.

mod accept;
mod advance;
mod look;
#[cfg(test)]
mod tests;

use crate::jobs::{
    fairness::Waiting,
    job::{IdempotencyKey, ImagePage, ImageRecord, Job, JobPage, NewJob, OwnedImage, Page},
    state::JobState,
    store::{
        Answer, Blame, Claim, ClaimRequest, Counts, Finished, Inserted, JobFilter, JobStore,
        Limits, Recorded, Refusal, Requeued, StoreError,
    },
};
use futures::FutureExt;
use sdrest_proto::{
    error::Fault,
    id::{Attempt, ImageId, JobId},
    identity::Subject,
};
use sqlx::{
    ConnectOptions, SqlSafeStr, SqliteConnection, SqlitePool,
    migrate::{Migration, MigrationType, Migrator},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use std::{path::Path, time::Duration};
use tokio::sync::Mutex;

/// Connections that read.
const READERS: u32 = 4;

/// Jobs in one SQLite file.
pub struct SqliteStore {
    write: Mutex<Writers>,
    read: SqlitePool,
}

/// One of them at a time writes.
struct Writers {
    /// What it commits is on disk when the commit returns.
    durable: SqliteConnection,
    /// What it commits outlives this process at once, and a loss of power after the next durable commit. Only
    /// for claims: one that is lost leaves the job waiting, and its attempt died with the worker.
    lazy: SqliteConnection,
}

impl SqliteStore {
    /// Opens the file, or makes it, and brings its schema up to date.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            // The sandbox leaves no other folder to write to.
            .pragma("temp_store", "MEMORY")
            .busy_timeout(Duration::from_secs(30));
        // The change of a file to WAL does not wait for anybody, so it is over before another connection opens.
        let first = options.clone().create_if_missing(true).journal_mode(SqliteJournalMode::Wal);
        let durable = first.connect().await?;
        let lazy = options.clone().synchronous(SqliteSynchronous::Normal).connect().await?;
        let read = SqlitePoolOptions::new()
            .max_connections(READERS)
            .min_connections(1)
            .idle_timeout(None)
            .max_lifetime(None)
            .test_before_acquire(false)
            .connect_with(options)
            .await?;
        migrations().run(&read).await?;
        Ok(Self { write: Mutex::new(Writers { durable, lazy }), read })
    }
}

/// Leaves no transaction open behind a change that failed.
async fn settle<T>(
    connection: &mut SqliteConnection,
    changed: Result<T, StoreError>,
) -> Result<T, StoreError> {
    if changed.is_err() {
        // It fails where SQLite has rolled back by itself already.
        let _ = sqlx::query("ROLLBACK").execute(connection).await;
    }
    changed
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
        async move {
            let writer = &mut self.write.lock().await.durable;
            let inserted = accept::insert(writer, new, limits).await;
            settle(writer, inserted).await
        }
        .boxed()
    }

    fn recover(&self) -> Answer<'_, u64> {
        async move { advance::recover(&mut self.write.lock().await.durable).await }.boxed()
    }

    fn claim(&self, request: ClaimRequest) -> Answer<'_, Claim> {
        async move {
            let writer = &mut self.write.lock().await.lazy;
            let claimed = advance::claim(writer, request).await;
            settle(writer, claimed).await
        }
        .boxed()
    }

    fn finish(
        &self,
        job: JobId,
        attempt: Attempt,
        images: Vec<ImageRecord>,
    ) -> Answer<'_, Finished> {
        async move {
            let writer = &mut self.write.lock().await.durable;
            let finished = advance::finish(writer, job, attempt, images).await;
            settle(writer, finished).await
        }
        .boxed()
    }

    fn fail(&self, job: JobId, attempt: Attempt, fault: Fault) -> Answer<'_, Recorded> {
        async move {
            advance::fail(&mut self.write.lock().await.durable, job, attempt, fault).await
        }
        .boxed()
    }

    fn requeue(&self, job: JobId, attempt: Attempt, blame: Blame) -> Answer<'_, Requeued> {
        async move {
            let writer = &mut self.write.lock().await.durable;
            let requeued = advance::requeue(writer, job, attempt, blame).await;
            settle(writer, requeued).await
        }
        .boxed()
    }

    fn cancel(&self, job: JobId) -> Answer<'_, Option<JobState>> {
        async move { advance::cancel(&mut self.write.lock().await.durable, job).await }.boxed()
    }

    fn job(&self, job: JobId) -> Answer<'_, Option<Job>> {
        async move { look::job(&mut *self.read.acquire().await?, job).await }.boxed()
    }

    fn replay(&self, owner: Subject, key: IdempotencyKey) -> Answer<'_, Option<Job>> {
        async move { accept::replay(&mut *self.read.acquire().await?, owner, key).await }.boxed()
    }

    fn jobs(&self, filter: JobFilter) -> Answer<'_, JobPage> {
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

    fn images(&self, owner: Option<Subject>, page: Page<ImageId>) -> Answer<'_, ImagePage> {
        look::images(&self.read, owner, page).boxed()
    }

    fn delete_image(&self, image: ImageId) -> Answer<'_, bool> {
        async move { advance::delete_image(&mut self.write.lock().await.durable, image).await }
            .boxed()
    }

    fn has_blob(&self, key: String) -> Answer<'_, bool> {
        look::has_blob(&self.read, key).boxed()
    }
}
