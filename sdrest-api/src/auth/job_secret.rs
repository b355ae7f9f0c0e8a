//! The secrets of guests' jobs. Where `/` is public, anybody may generate, and all of them are `guest`: so
//! the answer to such a request carries a secret, and the job and its pictures are only there for whoever
//! shows it (`X-Sdrest-Job`). The secret is SHA-256 over a key of this server and the job's id, both of
//! fixed length, so nothing has to be stored and it outlives a restart.

use super::user::User;
use crate::error::ApiError;
use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, request::Parts},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sdrest_proto::id::JobId;
use sha2::{Digest, Sha256};
use std::{
    fmt,
    fs::OpenOptions,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    sync::Arc,
};
use subtle::ConstantTimeEq;

/// The header that a guest shows it in.
pub(super) const HEADER: &str = "x-sdrest-job";
const FILE: &str = "guest-jobs.key";
const KEY: usize = 32;

/// The key. Clones share it.
#[derive(Clone)]
pub struct JobSecrets(Arc<[u8; KEY]>);

impl JobSecrets {
    /// The key in the state folder, made on the first start.
    pub fn open(folder: &Path) -> io::Result<Self> {
        let path = folder.join(FILE);
        match std::fs::read(&path) {
            Ok(bytes) => {
                let key = bytes
                    .try_into()
                    .map_err(|_| io::Error::other(format!("{FILE} must have {KEY} bytes")))?;
                Ok(Self(Arc::new(key)))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::make(&path),
            Err(error) => Err(error),
        }
    }

    fn make(path: &Path) -> io::Result<Self> {
        let mut key = [0; KEY];
        getrandom::fill(&mut key).map_err(io::Error::other)?;
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(&key)?;
        file.sync_all()?;
        Ok(Self(Arc::new(key)))
    }

    /// The secret of a job, where its owner is a guest.
    pub fn of(&self, user: &User, job: JobId) -> Option<String> {
        user.is_guest().then(|| self.secret(job))
    }

    fn secret(&self, job: JobId) -> String {
        let mut digest = Sha256::new();
        digest.update(self.0.as_slice());
        digest.update(job.to_string());
        URL_SAFE_NO_PAD.encode(digest.finalize())
    }
}

impl fmt::Debug for JobSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JobSecrets(…)")
    }
}

/// Somebody who looks at a job: the caller, and the secret that came along.
#[derive(Debug)]
pub struct Viewer {
    user: User,
    shown: Option<String>,
}

impl Viewer {
    pub fn user(&self) -> &User {
        &self.user
    }

    /// Whether the viewer may ask the queue for this job. To a guest without its secret it is not there, and
    /// the answer must be that of a missing one; for everybody else the queue asks whose the job is.
    pub fn shows(&self, secrets: &JobSecrets, job: JobId) -> bool {
        let Some(secret) = secrets.of(&self.user, job) else { return true };
        let shown = self.shown.as_deref().unwrap_or("");
        shown.as_bytes().ct_eq(secret.as_bytes()).into()
    }
}

/// What a request shows, if anything.
pub(super) fn shown(headers: &HeaderMap) -> Option<&str> {
    headers.get(HEADER)?.to_str().ok()
}

impl<S: Send + Sync> FromRequestParts<S> for Viewer {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let user = super::extract::caller(parts)?.clone();
        Ok(Self { user, shown: shown(&parts.headers).map(str::to_owned) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn viewer(shown: Option<&str>) -> Viewer {
        Viewer { user: User::generating_guest(), shown: shown.map(str::to_owned) }
    }

    #[test]
    fn a_guest_needs_the_secret_of_that_very_job() {
        let folder = tempfile::tempdir().unwrap();
        let secrets = JobSecrets::open(folder.path()).unwrap();
        let (job, other) = (JobId::random(), JobId::random());
        let secret = secrets.of(&User::generating_guest(), job).unwrap();
        assert!(viewer(Some(&secret)).shows(&secrets, job));
        for wrong in [None, Some(""), Some("x"), Some(&secret[1..])] {
            assert!(!viewer(wrong).shows(&secrets, job));
        }
        assert!(!viewer(Some(&secret)).shows(&secrets, other));
        let again = JobSecrets::open(folder.path()).unwrap();
        assert!(viewer(Some(&secret)).shows(&again, job), "it outlives a restart");
    }

    #[test]
    fn nobody_else_has_such_a_secret() {
        let folder = tempfile::tempdir().unwrap();
        let secrets = JobSecrets::open(folder.path()).unwrap();
        assert!(secrets.of(&User::anonymous(), JobId::random()).is_none());
        let viewer = Viewer { user: User::anonymous(), shown: None };
        assert!(viewer.shows(&secrets, JobId::random()), "the queue asks whose it is");
    }
}
