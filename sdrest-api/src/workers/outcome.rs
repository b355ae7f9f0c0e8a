//! How a job ends: its pictures become files, then blobs, and only when all of them are durable does one
//! transaction record the result. Nothing here gives up on the store while the server runs.

use crate::{
    images::{BlobError, BlobStore, EncodeError, blob_key, encode_png, infotext},
    jobs::{
        ImageRecord, Job, WorkQueue,
        clock::UnixMillis,
        store::{Blame, Recorded, Requeued, StoreError},
    },
    workers::board::Board,
};
use futures::future::BoxFuture;
use sdrest_proto::{
    bounds::{ModelName, Seed},
    error::{ErrorCode, Fault},
    generation::GenerationRequest,
    id::{Attempt, ImageId, JobId},
    image::Rgb8Image,
};
use sha2::{Digest, Sha256};
use std::{
    collections::{BTreeMap, HashSet},
    fmt::Write,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use thiserror::Error;
use tokio::{
    sync::Semaphore,
    task::{JoinHandle, spawn_blocking},
    time::{sleep, timeout},
};
use tokio_util::{bytes::Bytes, sync::CancellationToken};

/// How long a picture waits for the hash of its model, which is computed once in the background.
const HASH: Duration = Duration::from_secs(30);
/// Bytes of pixels up to which a picture is encoded where it is: that takes a fraction of a millisecond, and the
/// way to another thread and back would take longer.
const SMALL: usize = 128 * 128 * 3;
/// How often a blob is tried.
const BLOB_TRIES: u32 = 3;
/// The pause before a job waits again that the worker gave back.
const PAUSE: Duration = Duration::from_millis(500);
/// The same for a job whose model a worker that was not reached yet may have.
const MODEL_PAUSE: Duration = Duration::from_secs(2);
/// The longest pause between tries to reach the store.
const MOST_PAUSE: Duration = Duration::from_secs(30);

/// What became of one picture.
pub(crate) type StoredPicture = Result<ImageRecord, PictureError>;

/// The pictures of one attempt, by their place in the job.
pub(crate) type Pictures = BTreeMap<u32, JoinHandle<StoredPicture>>;

/// Why a picture could not be kept. Private: it goes to the log.
#[derive(Debug, Error)]
pub(crate) enum PictureError {
    #[error(transparent)]
    Encode(#[from] EncodeError),
    #[error(transparent)]
    Blob(#[from] BlobError),
    #[error("a task that stores a picture ended early: {0}")]
    Task(#[from] tokio::task::JoinError),
    /// The server stops: the job waits again after the next start.
    #[error("the server stops")]
    Stopping,
    #[error("the worker says it is done and sent {got} of {wanted} pictures")]
    Missing { got: usize, wanted: u32 },
}

/// A picture as the worker sent it.
pub(crate) struct RawPicture {
    pub(crate) index: u32,
    pub(crate) seed: Seed,
    pub(crate) image: Rgb8Image,
}

/// Brings home what one worker drew.
pub(crate) struct Recorder {
    pub(crate) worker: usize,
    pub(crate) queue: WorkQueue,
    pub(crate) blobs: BlobStore,
    pub(crate) board: Arc<Board>,
    pub(crate) stop: CancellationToken,
    /// Pictures that may be encoded at a time.
    pub(crate) encoders: Semaphore,
    /// Models whose hash did not come in time: their pictures do without.
    pub(crate) hashless: Mutex<HashSet<ModelName>>,
}

impl Recorder {
    /// Makes a file of a picture and stores it.
    pub(crate) async fn keep(
        &self,
        job: JobId,
        attempt: Attempt,
        request: GenerationRequest,
        raw: RawPicture,
    ) -> StoredPicture {
        let hash = tokio::select! {
            hash = self.hash(&request.model) => hash,
            () = self.stop.cancelled() => return Err(PictureError::Stopping),
        };
        let (width, height) = (raw.image.width(), raw.image.height());
        let (index, seed) = (raw.index, raw.seed.get());
        let text = infotext(&request, index, hash.as_deref());
        let (file, sha256) = self.encode(raw.image, text).await?;
        let id = ImageId::random();
        let (key, bytes) = (blob_key(job, attempt, index, id), file.len() as u64);
        self.store(&key, file.into()).await?;
        let created = UnixMillis::now();
        Ok(ImageRecord {
            id,
            job,
            attempt,
            index,
            seed,
            width,
            height,
            sha256,
            key,
            bytes,
            created,
        })
    }

    /// The file of a picture and its SHA-256.
    async fn encode(
        &self,
        image: Rgb8Image,
        text: String,
    ) -> Result<(Vec<u8>, String), PictureError> {
        let small = image.data().len() <= SMALL;
        let encode = move || {
            encode_png(&image, &text).map(|file| {
                let sha256 = hex(&Sha256::digest(&file));
                (file, sha256)
            })
        };
        let permit = self.encoders.acquire().await;
        let encoded = if small { encode() } else { spawn_blocking(encode).await? };
        drop(permit);
        Ok(encoded?)
    }

    async fn store(&self, key: &str, file: Bytes) -> Result<(), BlobError> {
        for left in (0..BLOB_TRIES).rev() {
            match self.blobs.put(key, file.clone()).await {
                Ok(()) => break,
                Err(error) if left == 0 => return Err(error),
                Err(error) => {
                    tracing::warn!(%error, key, "a picture could not be stored and is tried again");
                    sleep(Duration::from_secs(1)).await;
                }
            }
        }
        Ok(())
    }

    /// The hash of a model as this worker knows it. It is part of a picture's bytes, so it is waited for.
    async fn hash(&self, name: &ModelName) -> Option<String> {
        if self.hashless.lock().unwrap_or_else(PoisonError::into_inner).contains(name) {
            return None;
        }
        let mut changes = self.board.changes();
        let known = async {
            loop {
                match self.board.model_of(self.worker, name) {
                    Some(model) if model.hash.is_some() => return model.hash,
                    None => return None,
                    Some(_) => changes.changed().await.ok()?,
                }
            }
        };
        if let Ok(hash) = timeout(HASH, known).await {
            return hash;
        }
        tracing::warn!(
            model = name.as_str(),
            "the model's hash is not known; pictures go without it"
        );
        self.hashless.lock().unwrap_or_else(PoisonError::into_inner).insert(name.clone());
        None
    }

    /// Records that a job is done, once all its pictures are durable.
    pub(crate) async fn finish(&self, job: &Job, pictures: Pictures) {
        let (images, lost) = gather(pictures).await;
        let wanted = job.request.num_images.get();
        let error = match lost {
            None if images.iter().map(|image| image.index).eq(0..wanted) => {
                let recorded = self
                    .persist(|| Box::pin(self.queue.finish(job.id, job.attempt, images.clone())))
                    .await;
                tracing::info!(job = %job.id, request_id = %job.request_id, ?recorded, "job done");
                if recorded == Some(Recorded::Stale) {
                    self.discard(&images).await;
                }
                return;
            }
            None => PictureError::Missing { got: images.len(), wanted },
            // The job waits again after the next start, whose sweep finds what is left.
            Some(PictureError::Stopping) => return,
            Some(error) => error,
        };
        tracing::error!(job = %job.id, request_id = %job.request_id, %error, "pictures could not be kept");
        let fault = Fault::new(
            ErrorCode::Internal,
            "the picture could not be stored; the server's log says why",
        );
        self.fail(job, fault).await;
        self.discard(&images).await;
    }

    /// Removes the blobs of a result that did not count, unless a row names them after all.
    async fn discard(&self, images: &[ImageRecord]) {
        for image in images {
            if let Ok(false) = self.queue.has_blob(image.key.clone()).await
                && let Err(error) = self.blobs.delete(&image.key).await
            {
                tracing::warn!(%error, "a picture that nobody wants is left to the next start");
            }
        }
    }

    /// Removes the pictures of an attempt that ended without a result, once they are written.
    pub(crate) async fn dispose(&self, pictures: Pictures) {
        let (images, _) = gather(pictures).await;
        self.discard(&images).await;
    }

    /// Records that a job ended without pictures, or lets it wait again where the fault will pass or another
    /// worker may do better.
    pub(crate) async fn failed(&self, job: &Job, fault: Fault) {
        let elsewhere = fault.code == ErrorCode::ModelNotFound
            && self.board.may_be_elsewhere(self.worker, &job.request.model);
        let pause = match (will_pass(&fault), elsewhere) {
            (true, _) => PAUSE,
            (false, true) => MODEL_PAUSE,
            (false, false) => {
                self.fail(job, fault).await;
                return;
            }
        };
        tracing::warn!(job = %job.id, request_id = %job.request_id, %fault, "the worker does not take the job now");
        self.requeue_after(pause, job.id, job.attempt).await;
    }

    /// Lets a job wait again that the worker gave back, and not at once: it would only be given back again.
    pub(crate) async fn given_back(&self, job: JobId, attempt: Attempt) {
        self.requeue_after(PAUSE, job, attempt).await;
    }

    /// Where the server stops meanwhile, the job waits again after the next start.
    async fn requeue_after(&self, pause: Duration, job: JobId, attempt: Attempt) {
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = sleep(pause) => {
                self.requeue(job, attempt, Blame::Innocent).await;
            }
        }
    }

    /// Records that a job ended without pictures.
    async fn fail(&self, job: &Job, fault: Fault) -> Option<Recorded> {
        tracing::info!(job = %job.id, request_id = %job.request_id, code = fault.code.as_str(), "job failed");
        self.persist(|| Box::pin(self.queue.fail(job.id, job.attempt, fault.clone()))).await
    }

    /// Lets a job wait again.
    pub(crate) async fn requeue(
        &self,
        job: JobId,
        attempt: Attempt,
        blame: Blame,
    ) -> Option<Requeued> {
        self.persist(|| Box::pin(self.queue.requeue(job, attempt, blame))).await
    }

    /// Tries until the store has it, or the server stops.
    async fn persist<'a, T>(
        &'a self,
        change: impl Fn() -> BoxFuture<'a, Result<T, StoreError>>,
    ) -> Option<T> {
        let mut pause = Duration::from_millis(200);
        loop {
            match change().await {
                Ok(done) => return Some(done),
                Err(error) => tracing::error!(%error, "the job store failed; trying again"),
            }
            tokio::select! {
                () = self.stop.cancelled() => return None,
                () = sleep(pause) => pause = (pause * 2).min(MOST_PAUSE),
            }
        }
    }
}

/// Whether another try may go better as things stand.
pub(crate) fn will_pass(fault: &Fault) -> bool {
    matches!(fault.code, ErrorCode::QueueFull | ErrorCode::WorkerUnavailable | ErrorCode::Conflict)
}

/// What was kept, in order, and the first reason why something was not.
async fn gather(pictures: Pictures) -> (Vec<ImageRecord>, Option<PictureError>) {
    let (mut images, mut lost) = (Vec::with_capacity(pictures.len()), None);
    for picture in pictures.into_values() {
        match picture.await {
            Ok(Ok(image)) => images.push(image),
            Ok(Err(error)) => lost = lost.or(Some(error)),
            Err(error) => lost = lost.or(Some(error.into())),
        }
    }
    (images, lost)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
