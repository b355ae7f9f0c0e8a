//! What every handler can reach: authd, the queue, the workers, the pictures. It is put together once, in
//! `main`, and shared by reference counts.

use crate::{
    auth::JobSecrets, authd::Authd, edge::KernelWord, images::BlobStore, jobs::Queue,
    workers::Workers,
};
use sdrest_proto::health::SandboxReport;
use std::{sync::Arc, time::Instant};
use tokio_util::sync::CancellationToken;

/// The state of the router.
#[derive(Clone)]
pub struct App {
    pub authd: Authd,
    /// Who is at the other end of a connection, where that is enough to sign in.
    pub kernel: KernelWord,
    pub queue: Queue,
    pub workers: Workers,
    pub blobs: BlobStore,
    pub job_secrets: JobSecrets,
    /// Cancelled when the server stops: streams and long polls end then.
    pub stop: CancellationToken,
    pub about: Arc<About>,
}

/// What the process knows of itself.
#[derive(Debug)]
pub struct About {
    pub begun: Instant,
    pub sandbox: SandboxReport,
    /// Something that the administrator should change, in a sentence each.
    pub warnings: Vec<String>,
}
