//! Blobs that no row names: what was written by an attempt that never recorded a result, what was written by half,
//! and what was deleted by half. They are removed at start, and only those that are older than this start: a dispatcher writes
//! blobs first and the row after.

use crate::images::blobs::{BlobError, BlobStore, Listed};
use futures::StreamExt;
use std::{future::Future, time::SystemTime};

/// Removes orphans written before `start`; `named` tells whether a row names the key, `None` where that cannot
/// be told now. Returns how many went.
pub async fn sweep_orphans<F>(
    blobs: &BlobStore,
    start: SystemTime,
    named: impl Fn(String) -> F,
) -> Result<u64, BlobError>
where
    F: Future<Output = Option<bool>>,
{
    let mut removed = blobs.remove_unfinished(start).await?;
    let mut listed = blobs.list();
    while let Some(found) = listed.next().await {
        let Listed { key, modified } = found?;
        if modified < start && named(key.clone()).await == Some(false) {
            blobs.delete(&key).await?;
            removed += 1;
        }
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::images::blobs::blob_key;
    use sdrest_proto::id::{Attempt, ImageId, JobId};
    use std::time::Duration;
    use tokio_util::bytes::Bytes;

    #[tokio::test]
    async fn only_old_blobs_without_a_row_go() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = BlobStore::open(folder.path()).unwrap();
        let (kept, lost) = (
            blob_key(JobId::random(), Attempt(1), 0, ImageId::random()),
            blob_key(JobId::random(), Attempt(2), 0, ImageId::random()),
        );
        for key in [&kept, &lost] {
            blobs.put(key, Bytes::from_static(b"x")).await.unwrap();
        }
        let named = |key: String| {
            let known = key == kept;
            async move { Some(known) }
        };
        let now = SystemTime::now();
        assert_eq!(sweep_orphans(&blobs, now - Duration::from_secs(60), named).await.unwrap(), 0);
        assert_eq!(sweep_orphans(&blobs, now + Duration::from_secs(60), named).await.unwrap(), 1);
        assert!(blobs.get(&kept).await.unwrap().is_some());
        assert!(blobs.get(&lost).await.unwrap().is_none());
    }

    /// What `kill -9` in the middle of a put leaves: object_store's own name for it.
    #[tokio::test]
    async fn what_a_killed_put_left_goes() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = BlobStore::open(folder.path()).unwrap();
        let key = blob_key(JobId::random(), Attempt(1), 0, ImageId::random());
        blobs.put(&key, Bytes::from_static(b"x")).await.unwrap();
        let half = folder.path().join(format!("{key}#1"));
        std::fs::write(&half, b"half of a picture").unwrap();
        let named = async |_| Some(true);
        let now = SystemTime::now();
        assert_eq!(sweep_orphans(&blobs, now - Duration::from_secs(60), named).await.unwrap(), 0);
        assert!(half.exists(), "a put that is under way lost its file");
        assert_eq!(sweep_orphans(&blobs, now + Duration::from_secs(60), named).await.unwrap(), 1);
        assert!(!half.exists());
        assert!(blobs.get(&key).await.unwrap().is_some());
    }
}
