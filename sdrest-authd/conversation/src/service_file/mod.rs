//! Whether logins can run at all, asked before authd says that it is ready, and in short before each login: the service file and all that it
//! includes (pam.d(5)), the modules that it names, and pam_faillock's folder, which must be writable or the
//! lock-out is silently off. It reads, and in that folder tries; it changes nothing.

mod error;
mod faillock;
mod lines;

use error::ServiceError;
use lines::{Line, Target};
use nix::unistd::{AccessFlags, access, geteuid};
use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// Includes of includes of includes; libpam's own limit is 32.
const MAX_DEPTH: u32 = 16;
const MAX_FILE: u64 = 64 * 1024;
const SYSTEM_DIRS: [&str; 2] = ["/etc/pam.d", "/usr/lib/pam.d"];

fn directories(confdir: Option<&Path>) -> Vec<PathBuf> {
    confdir.map_or_else(
        || SYSTEM_DIRS.iter().map(PathBuf::from).collect(),
        |dir| vec![dir.to_path_buf()],
    )
}

/// The lines that libpam calls for one phase. Where a service has none, libpam takes those of the service `other`,
/// and says nothing: so what is about to be called must be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Auth,
    Account,
    Password,
}

impl Phase {
    fn word(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::Account => "account",
            Self::Password => "password",
        }
    }
}

/// Whether the service has lines of its own for the phases that a request will run.
pub(crate) fn check(
    service: &str,
    confdir: Option<&Path>,
    phases: &[Phase],
) -> Result<(), ServiceError> {
    walk(service, confdir, phases, Effort::Read)
}

/// The service's own file, which must be in the first folder.
fn check_present(service: &str, confdir: Option<&Path>) -> Result<PathBuf, ServiceError> {
    let allowed =
        |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_' | '.');
    if service.is_empty() || service.starts_with('.') || !service.chars().all(allowed) {
        return Err(ServiceError::Name(service.escape_debug().take(64).collect()));
    }
    let path = confdir.unwrap_or(Path::new("/etc/pam.d")).join(service);
    if path.is_file() { Ok(path) } else { Err(ServiceError::Missing(path.display().to_string())) }
}

/// The whole check, before authd says that it is ready.
pub(crate) fn probe(service: &str, confdir: Option<&Path>) -> Result<(), ServiceError> {
    walk(service, confdir, &[Phase::Auth, Phase::Account], Effort::Try)
}

/// The whole check for a program that may change expired passwords: pam_unix replaces files in /etc.
pub(crate) fn probe_for_change(service: &str, confdir: Option<&Path>) -> Result<(), ServiceError> {
    walk(service, confdir, &[Phase::Auth, Phase::Account, Phase::Password], Effort::Try)?;
    access("/etc", AccessFlags::W_OK).map_err(|cause| ServiceError::NotWritable(cause.to_string()))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effort {
    /// Files and the modules that they name.
    Read,
    /// The folder of pam_faillock too.
    Try,
}

fn walk(
    service: &str,
    confdir: Option<&Path>,
    phases: &[Phase],
    effort: Effort,
) -> Result<(), ServiceError> {
    let path = check_present(service, confdir)?;
    let mut seen = Seen {
        directories: directories(confdir),
        confdir: confdir.is_some(),
        effort,
        phases: BTreeSet::new(),
    };
    seen.file(&path, 0)?;
    match phases.iter().find(|phase| !seen.phases.contains(phase.word())) {
        Some(phase) => {
            Err(ServiceError::NoPhase { path: path.display().to_string(), phase: phase.word() })
        }
        None => Ok(()),
    }
}

/// What the walk over the files has met.
struct Seen {
    directories: Vec<PathBuf>,
    confdir: bool,
    effort: Effort,
    phases: BTreeSet<String>,
}

impl Seen {
    fn file(&mut self, path: &Path, depth: u32) -> Result<(), ServiceError> {
        let shown = path.display().to_string();
        if depth > MAX_DEPTH {
            return Err(ServiceError::Untrusted {
                path: shown,
                problem: "includes itself, or too deep".to_owned(),
            });
        }
        trusted(path, self.confdir)?;
        let text = fs::read_to_string(path).map_err(|cause| ServiceError::Unreadable {
            path: shown.clone(),
            cause: cause.to_string(),
        })?;
        for line in lines::read(&text, &shown)? {
            self.line(&line, path, depth)?;
        }
        Ok(())
    }

    fn line(&mut self, line: &Line, path: &Path, depth: u32) -> Result<(), ServiceError> {
        match &line.target {
            Target::File(name) => {
                let found =
                    self.include(name).ok_or_else(|| ServiceError::Missing(name.clone()))?;
                self.file(&found, depth + 1)
            }
            Target::Module { name, arguments } => {
                self.phases.insert(line.phase.clone());
                let shown = path.display().to_string();
                if !line.optional && !module_installed(name) {
                    return Err(ServiceError::NoModule { path: shown, module: name.clone() });
                }
                if self.effort == Effort::Try && name.ends_with("pam_faillock.so") {
                    faillock::probe(arguments).map_err(|(dir, cause)| ServiceError::Faillock {
                        path: shown,
                        dir,
                        cause,
                    })?;
                }
                Ok(())
            }
        }
    }

    fn include(&self, name: &str) -> Option<PathBuf> {
        if name.starts_with('/') {
            return Some(PathBuf::from(name)).filter(|path| path.is_file());
        }
        self.directories.iter().map(|dir| dir.join(name)).find(|path| path.is_file())
    }
}

/// Root's, or in a folder of the caller's own the caller's; nobody else may write it.
fn trusted(path: &Path, confdir: bool) -> Result<(), ServiceError> {
    let shown = path.display().to_string();
    let meta = fs::metadata(path).map_err(|cause| ServiceError::Unreadable {
        path: shown.clone(),
        cause: cause.to_string(),
    })?;
    let owned = meta.uid() == 0 || (confdir && meta.uid() == geteuid().as_raw());
    let problem = if !meta.is_file() {
        "is not a regular file".to_owned()
    } else if !owned {
        format!("belongs to uid {}, not to root", meta.uid())
    } else if meta.mode() & 0o022 != 0 {
        format!("is writable by others (mode {:04o})", meta.mode() & 0o7777)
    } else if meta.len() > MAX_FILE {
        format!("is larger than {MAX_FILE} bytes")
    } else {
        return Ok(());
    };
    Err(ServiceError::Untrusted { path: shown, problem })
}

/// libpam looks for a bare name in its build's folder, which differs by distribution.
fn module_installed(name: &str) -> bool {
    if name.starts_with('/') {
        return Path::new(name).is_file();
    }
    let plain =
        ["/lib", "/lib64", "/usr/lib", "/usr/lib64"].map(|dir| Path::new(dir).join("security"));
    let by_architecture = ["/lib", "/usr/lib"]
        .into_iter()
        .filter_map(|dir| fs::read_dir(dir).ok())
        .flat_map(|entries| entries.flatten().map(|entry| entry.path().join("security")));
    plain.into_iter().chain(by_architecture).any(|dir| dir.join(name).is_file())
}

#[cfg(test)]
mod tests;
