//! What can be wrong with a service file. The texts are for whoever looks after the host; they never reach a person
//! who signs in.

use thiserror::Error;

#[derive(Debug, Error)]
pub(crate) enum ServiceError {
    #[error("the PAM service name `{0}` must be lower-case letters, digits, `-`, `_` and `.`")]
    Name(String),
    #[error("the PAM service file {0} is missing; libpam would use the service `other` instead")]
    Missing(String),
    #[error("the PAM service file {path} {problem}")]
    Untrusted { path: String, problem: String },
    #[error("the PAM service file {path} cannot be read: {cause}")]
    Unreadable { path: String, cause: String },
    #[error("the PAM service file {path} names no `{phase}` line")]
    NoPhase { path: String, phase: &'static str },
    #[error("{path}, line {number}: {problem}")]
    BadLine { path: String, number: usize, problem: String },
    #[error("{path} names the module {module}, which is not installed")]
    NoModule { path: String, module: String },
    #[error(
        "{path} uses pam_faillock, whose folder {dir} cannot be used, so nobody would ever be locked out: {cause}"
    )]
    Faillock { path: String, dir: String, cause: String },
    #[error("/etc cannot be written, so that no expired password could be changed: {0}")]
    NotWritable(String),
}
