//! Files in the state folder. A file is replaced whole: written beside, flushed to the disk, renamed, and the folder
//! flushed too, so that after a crash there is the old one or the new one (rename(2), fsync(2)).

use serde::{Serialize, de::DeserializeOwned};
use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, BufReader, BufWriter, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};
use thiserror::Error;

#[derive(Debug, Error)]
#[error("the state file {path}: {cause}")]
pub(crate) struct StateError {
    path: String,
    cause: io::Error,
}

/// A folder that only this account can enter.
#[derive(Clone, Debug)]
pub(crate) struct StateDir(PathBuf);

impl StateDir {
    /// Makes the folder if need be; refuses one that others own or may enter.
    pub(crate) fn open(path: &Path) -> Result<Self, StateError> {
        let failed = |cause| StateError { path: path.display().to_string(), cause };
        if !path.is_dir() {
            DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
        }
        let meta = fs::metadata(path).map_err(failed)?;
        let own = nix::unistd::geteuid().as_raw();
        if meta.uid() != own {
            return Err(failed(io::Error::other(format!(
                "belongs to uid {}, this is uid {own}",
                meta.uid()
            ))));
        }
        if meta.mode() & 0o077 != 0 {
            fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(failed)?;
        }
        Ok(Self(path.to_path_buf()))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    fn failed(&self, name: &str) -> impl Fn(io::Error) -> StateError {
        let path = self.0.join(name).display().to_string();
        move |cause| StateError { path: path.clone(), cause }
    }

    /// The file's bytes, or nothing where there is no such file.
    pub(crate) fn read(&self, name: &str) -> Result<Option<Vec<u8>>, StateError> {
        match fs::read(self.0.join(name)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.failed(name)(error)),
        }
    }

    /// Replaces the file, mode 0600.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> Result<(), StateError> {
        self.replace(name, |file| file.write_all(bytes))
    }

    fn replace(
        &self,
        name: &str,
        fill: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> Result<(), StateError> {
        let beside = self.0.join(format!("{name}.new"));
        let write = || {
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&beside)?;
            fill(&mut file)?;
            file.sync_all()?;
            fs::rename(&beside, self.0.join(name))?;
            File::open(&self.0)?.sync_all()
        };
        write().map_err(self.failed(name))
    }

    /// A JSON file; a damaged one is an error, not an empty beginning. Neither way is the text in memory whole.
    pub(crate) fn read_json<T: DeserializeOwned + Default>(
        &self,
        name: &str,
    ) -> Result<T, StateError> {
        match File::open(self.0.join(name)) {
            Ok(file) => serde_json::from_reader(BufReader::new(file))
                .map_err(|error| self.failed(name)(error.into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(T::default()),
            Err(error) => Err(self.failed(name)(error)),
        }
    }

    pub(crate) fn write_json<T: Serialize>(&self, name: &str, value: &T) -> Result<(), StateError> {
        self.replace(name, |file| {
            let mut buffer = BufWriter::new(file);
            serde_json::to_writer(&mut buffer, value)?;
            buffer.flush()
        })
    }
}
