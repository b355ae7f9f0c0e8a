//! Blobs that no row names and none will: what an attempt wrote that never recorded a result, what was written by
//! half, and what was deleted by half. They are removed at start, beside the first jobs: whoever asks decides by what
//! the store says of the attempt that wrote a blob, never by the clock. A file that no attempt wrote stays.

use crate::images::blobs::{BlobError, BlobStore};
use futures::StreamExt;
use std::future::Future;

/// Removes the blobs of which `orphan` says that they are; it says `None` where that cannot be told now. Returns
/// how many went.
pub async fn sweep_orphans<F>(
    blobs: &BlobStore,
    orphan: impl Fn(String) -> F,
) -> Result<u64, BlobError>
where
    F: Future<Output = Option<bool>>,
{
    let mut removed = 0;
    for key in blobs.unfinished().await? {
        if orphan(key.clone()).await == Some(true) {
            blobs.remove_unfinished(&key).await?;
            removed += 1;
        }
    }
    let mut listed = blobs.list();
    while let Some(key) = listed.next().await.transpose()? {
        if orphan(key.clone()).await == Some(true) {
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
    use tokio_util::bytes::Bytes;

    #[tokio::test]
    async fn only_what_is_told_to_be_an_orphan_goes() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = BlobStore::open(folder.path()).unwrap();
        let keys: Vec<String> = (1..=3)
            .map(|attempt| blob_key(JobId::random(), Attempt(attempt), 0, ImageId::random()))
            .collect();
        for key in &keys {
            blobs.put(key, Bytes::from_static(b"x")).await.unwrap();
        }
        let told = [Some(false), None, Some(true)];
        let orphan = |key: String| {
            let place = keys.iter().position(|other| *other == key).unwrap();
            async move { told[place] }
        };
        assert_eq!(sweep_orphans(&blobs, orphan).await.unwrap(), 1);
        for (key, told) in keys.iter().zip(told) {
            assert_eq!(blobs.get(key).await.unwrap().is_none(), told == Some(true), "{told:?}");
        }
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
        assert_eq!(sweep_orphans(&blobs, async |_| Some(false)).await.unwrap(), 0);
        assert!(half.exists(), "a put that is under way lost its file");
        let staged = |key: String| async move { Some(key.contains('#')) };
        assert_eq!(sweep_orphans(&blobs, staged).await.unwrap(), 1);
        assert!(!half.exists());
        assert!(blobs.get(&key).await.unwrap().is_some());
    }
}
