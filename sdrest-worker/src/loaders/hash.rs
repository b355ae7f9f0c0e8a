//! The short hash that names a model in a picture's metadata: the first ten hex digits of the SHA-256
//! (FIPS 180-4) of its UNet's file. It is computed once per content and remembered by device, inode, size
//! and time of change.

use super::folder::ModelFolder;
use crate::models::ModelError;
use sha2::{Digest, Sha256};
use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read},
    os::unix::fs::MetadataExt,
};

/// What tells one state of a file from another without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileIdentity {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl FileIdentity {
    pub fn of(file: &File) -> io::Result<Self> {
        let m = file.metadata()?;
        Ok(Self {
            device: m.dev(),
            inode: m.ino(),
            size: m.size(),
            modified: (m.mtime(), m.mtime_nsec()),
        })
    }

    /// Of `file`, which was opened by `name`.
    pub fn named(name: &str, file: &File) -> Result<Self, ModelError> {
        Self::of(file).map_err(|error| ModelError::Corrupt {
            file: name.to_owned(),
            reason: format!("it cannot be looked at: {}", error.kind()),
        })
    }

    /// Of the file `name` as it lies there now.
    pub fn in_folder(folder: &ModelFolder, name: &str) -> Result<Self, ModelError> {
        Self::named(name, &folder.file(name)?)
    }
}

/// Hashes that have been computed.
#[derive(Clone, Debug, Default)]
pub struct HashCache {
    known: HashMap<FileIdentity, String>,
}

impl HashCache {
    pub fn get(&self, identity: &FileIdentity) -> Option<String> {
        self.known.get(identity).cloned()
    }

    pub fn put(&mut self, identity: FileIdentity, hash: String) {
        self.known.insert(identity, hash);
    }
}

/// Reads the whole file; for several gigabytes that takes seconds, so call it away from the engine.
pub fn short_hash(name: &str, file: &mut File) -> Result<String, ModelError> {
    let unreadable = |error: io::Error| ModelError::Corrupt {
        file: name.to_owned(),
        reason: format!("it cannot be read: {}", error.kind()),
    };
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer).map_err(unreadable)? {
            0 => break,
            n => hasher.update(buffer.get(..n).unwrap_or_default()),
        }
    }
    Ok(hasher.finalize().iter().take(5).map(|byte| format!("{byte:02x}")).collect())
}
