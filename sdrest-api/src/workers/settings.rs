//! Where the workers are and how they are used.

use sdrest_proto::transport::TrustedUids;
use std::{path::PathBuf, time::Duration};

/// As the configuration has it.
#[derive(Clone, Debug)]
pub struct WorkerSettings {
    /// One socket a worker.
    pub sockets: Vec<PathBuf>,
    /// Who may listen on them.
    pub trusted: TrustedUids,
    /// Jobs that one worker is given at a time, at most; its own capacity counts too.
    pub jobs_per_worker: usize,
    /// How long a worker may be away before its jobs are given to another one.
    pub grace: Duration,
}

impl WorkerSettings {
    /// Four jobs a worker, 30 s of grace.
    pub fn new(sockets: Vec<PathBuf>, trusted: TrustedUids) -> Self {
        Self { sockets, trusted, jobs_per_worker: 4, grace: Duration::from_secs(30) }
    }
}
