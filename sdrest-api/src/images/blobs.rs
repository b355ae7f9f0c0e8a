//! Files of pictures, by key: a folder on disk through object_store, each file and its folder entries synced
//! before a put returns. Keys are made here from ids and numbers only, so none can leave the folder.

use futures::{StreamExt, TryStreamExt, stream::BoxStream};
use object_store::{ObjectStoreExt, local::LocalFileSystem, path::Path as BlobPath};
use sdrest_proto::id::{Attempt, ImageId, JobId};
use std::{
    fs::{DirEntry, File},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
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

/// A blob that is being read.
pub struct BlobFile {
    pub length: u64,
    pub pieces: BoxStream<'static, Result<Bytes, BlobError>>,
}

/// One blob as a listing shows it.
#[derive(Clone, Debug)]
pub struct Listed {
    pub key: String,
    pub modified: SystemTime,
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

fn remove_unfinished(shelves: &Path, start: SystemTime) -> io::Result<u64> {
    let mut removed = 0;
    for shelf in 0..=u8::MAX {
        for file in std::fs::read_dir(shelves.join(format!("{shelf:02x}")))? {
            match remove_if_unfinished(&file?, start) {
                Ok(true) => removed += 1,
                Ok(false) => {}
                // A put that is under way has come to its end.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(removed)
}

fn remove_if_unfinished(file: &DirEntry, start: SystemTime) -> io::Result<bool> {
    let staged = file.file_name().to_string_lossy().contains('#');
    if !staged || !file.file_type()?.is_file() || file.metadata()?.modified()? >= start {
        return Ok(false);
    }
    std::fs::remove_file(file.path())?;
    Ok(true)
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

    /// Removes what puts that never came to their end wrote before `start`. A put writes beside its blob, under a name
    /// with a `#` that no key has, and renames; `list` does not show such files. Returns how many went.
    pub async fn remove_unfinished(&self, start: SystemTime) -> Result<u64, BlobError> {
        let shelves = Arc::clone(&self.shelves);
        let swept = tokio::task::spawn_blocking(move || remove_unfinished(&shelves, start)).await;
        Ok(swept.map_err(io::Error::other)??)
    }

    /// All blobs.
    pub fn list(&self) -> BoxStream<'static, Result<Listed, BlobError>> {
        use object_store::ObjectStore;
        let listed = self.files.list(Some(&BlobPath::from(ROOT)));
        let shown = listed.map(|found| {
            let found = found?;
            Ok(Listed { key: found.location.to_string(), modified: found.last_modified.into() })
        });
        shown.boxed()
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

    #[tokio::test]
    async fn no_key_leads_out_of_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let blobs = BlobStore::open(folder.path()).unwrap();
        for key in ["jobs.db", "images/../jobs.db", "/etc/passwd", "imagesx/a.png"] {
            assert!(blobs.get(key).await.is_err(), "{key}");
        }
    }
}
