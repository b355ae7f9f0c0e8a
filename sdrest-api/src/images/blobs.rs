//! Files of pictures, by key: a folder on disk through object_store, each file and its folder entries synced
//! before a put returns. Keys are made here from ids and numbers only, so none can leave the folder.

use futures::{StreamExt, TryStreamExt, stream::BoxStream};
use object_store::{ObjectStoreExt, local::LocalFileSystem, path::Path as BlobPath};
use sdrest_proto::id::{Attempt, ImageId, JobId};
use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};
use thiserror::Error;
use tokio_util::bytes::Bytes;

/// Where all pictures are, below the folder of the store.
const ROOT: &str = "images";

/// Bytes that hold everything before a picture's pixels: two prompts of 10,000 characters and the rest.
const HEAD: u64 = 256 * 1024;

/// Why a blob could not be written or read. Private: it names files.
#[derive(Debug, Error)]
pub enum BlobError {
    #[error("blob store: {0}")]
    Store(#[from] object_store::Error),
    #[error("blob store: `{0}` is no key of a picture")]
    Key(String),
    #[error("blob store: the folders cannot be made or read: {0}")]
    Shelves(#[from] io::Error),
}

/// The key of one picture. Its own id makes it unique: an attempt's number comes again where a loss of power undid
/// its claim, and what the sweep finds of the earlier one must not be the later one's file. The folders are few and stay, so that a put syncs the file and one folder only;
/// the last digits of a job's id are random (RFC 9562, version 7).
pub fn blob_key(job: JobId, attempt: Attempt, index: u32, image: ImageId) -> String {
    let job = job.to_string();
    let shelf = job.get(job.len() - 2..).unwrap_or("00");
    format!("{ROOT}/{shelf}/{job}.{attempt}.{index}.{image}.png")
}

/// The key that a put under way is for, which writes under that key with `#` and a number.
fn finished(unfinished: &str) -> Option<&str> {
    let (key, number) = unfinished.split_once('#')?;
    (!number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())).then_some(key)
}

/// The attempt that a key, or an unfinished one, was made for; `None` where it is none of ours.
pub fn attempt_of(key: &str) -> Option<(JobId, Attempt)> {
    let key = finished(key).unwrap_or(key);
    let mut parts = key.rsplit('/').next()?.split('.');
    let (job, attempt) = (parts.next()?.parse().ok()?, Attempt(parts.next()?.parse().ok()?));
    let (index, image) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    (blob_key(job, attempt, index, image) == key).then_some((job, attempt))
}

/// A blob that is being read.
pub struct BlobFile {
    pub length: u64,
    pub pieces: BoxStream<'static, Result<Bytes, BlobError>>,
}

/// One folder for each pair of digits that a job's id can end in.
fn make_shelves(root: &Path) -> io::Result<()> {
    let mut made = false;
    for shelf in 0..=u8::MAX {
        let shelf = root.join(format!("{shelf:02x}"));
        if !shelf.is_dir() {
            std::fs::create_dir_all(shelf)?;
            made = true;
        }
    }
    if made {
        File::open(root)?.sync_all()?;
        if let Some(above) = root.parent() {
            File::open(above)?.sync_all()?;
        }
    }
    Ok(())
}

/// Keys of what stands there under a name with a `#`: parts of puts.
fn unfinished(shelves: &Path) -> io::Result<Vec<String>> {
    let mut found = Vec::new();
    for shelf in 0..=u8::MAX {
        let shelf = format!("{shelf:02x}");
        for file in std::fs::read_dir(shelves.join(&shelf))? {
            let name = file?.file_name();
            if let Some(name) = name.to_str().filter(|name| name.contains('#')) {
                found.push(format!("{ROOT}/{shelf}/{name}"));
            }
        }
    }
    Ok(found)
}

/// The blob store. Clones share it.
#[derive(Clone)]
pub struct BlobStore {
    files: Arc<LocalFileSystem>,
    shelves: Arc<PathBuf>,
}

impl BlobStore {
    /// The store in `folder`, which must exist. All shelves are made here, once, so that no put has to make
    /// one and wait until its own entry is on disk as well.
    pub fn open(folder: &Path) -> Result<Self, BlobError> {
        let shelves = folder.join(ROOT);
        make_shelves(&shelves)?;
        let files = LocalFileSystem::new_with_prefix(folder)?.with_fsync(true);
        Ok(Self { files: Arc::new(files), shelves: Arc::new(shelves) })
    }

    fn path(key: &str) -> Result<BlobPath, BlobError> {
        let path = BlobPath::parse(key).map_err(|_| BlobError::Key(key.to_owned()))?;
        if path.prefix_matches(&BlobPath::from(ROOT)) {
            Ok(path)
        } else {
            Err(BlobError::Key(key.to_owned()))
        }
    }

    /// Stores a blob; it is durable when this returns. A second put under the same key replaces it whole.
    pub async fn put(&self, key: &str, bytes: Bytes) -> Result<(), BlobError> {
        self.files.put(&Self::path(key)?, bytes.into()).await?;
        Ok(())
    }

    /// The blob, or `None` where there is none.
    pub async fn get(&self, key: &str) -> Result<Option<Bytes>, BlobError> {
        match self.files.get(&Self::path(key)?).await {
            Ok(found) => Ok(Some(found.bytes().await?)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The blob as a file that is read while it is sent, or `None` where there is none.
    pub async fn open_file(&self, key: &str) -> Result<Option<BlobFile>, BlobError> {
        match self.files.get(&Self::path(key)?).await {
            Ok(found) => {
                let length = found.meta.size;
                Ok(Some(BlobFile { length, pieces: found.into_stream().err_into().boxed() }))
            }
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The first bytes of a blob: all that stands before its pixels.
    pub async fn head(&self, key: &str) -> Result<Option<Bytes>, BlobError> {
        match self.files.get_range(&Self::path(key)?, 0..HEAD).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes the blob, if it is there.
    pub async fn delete(&self, key: &str) -> Result<(), BlobError> {
        match self.files.delete(&Self::path(key)?).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// What puts have written that did not come to their end, or not yet. A put writes beside its blob, under its
    /// key with `#` and a number, and renames; `list` does not show such files.
    pub async fn unfinished(&self) -> Result<Vec<String>, BlobError> {
        let shelves = Arc::clone(&self.shelves);
        let found = tokio::task::spawn_blocking(move || unfinished(&shelves)).await;
        Ok(found.map_err(io::Error::other)??)
    }

    /// Removes one of those; a put that has come to its end since has none.
    pub async fn remove_unfinished(&self, key: &str) -> Result<(), BlobError> {
        let wrong = || BlobError::Key(key.to_owned());
        Self::path(finished(key).ok_or_else(wrong)?)?;
        let name = key.strip_prefix(ROOT).and_then(|name| name.strip_prefix('/'));
        match tokio::fs::remove_file(self.shelves.join(name.ok_or_else(wrong)?)).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// The keys of all blobs.
    pub fn list(&self) -> BoxStream<'static, Result<String, BlobError>> {
        use object_store::ObjectStore;
        let listed = self.files.list(Some(&BlobPath::from(ROOT)));
        listed.map(|found| Ok(found?.location.to_string())).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_blob_comes_back_until_it_is_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = BlobStore::open(folder.path()).unwrap();
        let key = blob_key(JobId::random(), Attempt(1), 0, ImageId::random());
        assert!(blobs.get(&key).await.unwrap().is_none());
        blobs.put(&key, Bytes::from_static(b"picture")).await.unwrap();
        assert_eq!(blobs.get(&key).await.unwrap().unwrap(), "picture");
        assert_eq!(blobs.head(&key).await.unwrap().unwrap(), "picture");
        let file = blobs.open_file(&key).await.unwrap().unwrap();
        let pieces: Vec<Bytes> = file.pieces.try_collect().await.unwrap();
        assert_eq!((file.length, pieces.concat()), (7, b"picture".to_vec()));
        blobs.delete(&key).await.unwrap();
        blobs.delete(&key).await.unwrap();
        assert!(blobs.get(&key).await.unwrap().is_none());
        assert!(blobs.head(&key).await.unwrap().is_none());
        assert!(blobs.open_file(&key).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_put_makes_no_folder() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = BlobStore::open(folder.path()).unwrap();
        for _ in 0..32 {
            let key = blob_key(JobId::random(), Attempt(1), 0, ImageId::random());
            assert!(folder.path().join(&key).parent().unwrap().is_dir(), "{key}");
            blobs.put(&key, Bytes::from_static(b"x")).await.unwrap();
        }
        BlobStore::open(folder.path()).unwrap();
    }

    #[test]
    fn a_key_says_whose_it_is() {
        let job = JobId::random();
        let key = blob_key(job, Attempt(7), 3, ImageId::random());
        assert_eq!(attempt_of(&key), Some((job, Attempt(7))));
        assert_eq!(attempt_of(&format!("{key}#1")), Some((job, Attempt(7))));
        let name = key.rsplit('/').next().unwrap();
        let shelf = &key[..key.len() - name.len()];
        let others = [
            "images/00/cat.png".to_owned(),
            "jobs.db".to_owned(),
            "images/00".to_owned(),
            key[1..].to_owned(),
            format!("{key}.bak"),
            format!("{key}#1.bak"),
            format!("{key}#"),
            format!("{shelf}{job}.7.notes"),
            format!("{shelf}{job}.7.3.notes.png"),
            format!("images/backup/{name}"),
            format!("{shelf}{}", name.to_uppercase()),
        ];
        for other in &others {
            assert_eq!(attempt_of(other), None, "{other}");
        }
    }

    #[tokio::test]
    async fn no_key_leads_out_of_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = BlobStore::open(folder.path()).unwrap();
        for key in ["jobs.db", "images/../jobs.db", "/etc/passwd", "imagesx/a.png", "images//etc/x"]
        {
            assert!(blobs.get(key).await.is_err(), "{key}");
            let unfinished = blobs.remove_unfinished(&format!("{key}#1")).await;
            assert!(unfinished.is_err(), "{key}#1");
        }
    }
}
