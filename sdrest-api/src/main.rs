//! `sdrest-api`, the HTTP front end. Read as an argument: what it must have is opened first (its door, its
//! state folder), then the process is closed in, and only what comes after that meets a byte from a
//! client. It holds no signing key, reads no model, and starts no program.
#![forbid(unsafe_code)]

use anyhow::{Context, Result};
use clap::Parser;
use sdrest_api::{
    app::{About, App},
    auth::JobSecrets,
    authd::{Authd, AuthdAddress},
    cli::Cli,
    config::Settings,
    edge::{CrossSite, Hosts, KernelWord, SocketTables},
    exposure,
    images::BlobStore,
    jobs::{Queue, QueueLimits},
    listener::{Door, serve},
    router::{Surroundings, router},
    telemetry,
    workers::{WorkerSettings, Workers},
};
use sdrest_sandbox::{Reach, Sandboxed};
use std::{fs::DirBuilder, os::unix::fs::DirBuilderExt, path::Path, sync::Arc, time::Instant};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

fn main() -> Result<()> {
    // Nobody reads this process's memory, whatever happens next.
    sdrest_sandbox::forbid_dumps().context("dumps cannot be turned off")?;
    let settings = Settings::load(Cli::parse())?;
    telemetry::start(settings.log_level)?;

    // What it needs from outside: the door, on loopback the kernel's word for who is at the other end of it,
    // and the folder. Nothing is served yet.
    let door = Door::open(&settings.listen)?;
    let tables = socket_tables(&door);
    prepare_state(&settings.state_dir)?;

    // From here on it can open nothing else, start nothing, and gain nothing.
    let sandboxed = match &settings.no_sandbox {
        Some(reason) => sdrest_sandbox::leave_open(reason)?,
        None => sdrest_sandbox::close(&Reach {
            state: vec![settings.state_dir.clone()],
            // SQLite seeds its generator from it.
            read: vec!["/dev/urandom".into()],
        })?,
    };

    // The first thread that a client could reach is made inside.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 8))
        .enable_all()
        .build()
        .context("the runtime cannot be started")?;
    let outcome = runtime.block_on(run(settings, Opened { door, tables }, sandboxed));
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    outcome
}

/// What was opened before the sandbox closed.
struct Opened {
    door: Door,
    tables: Option<SocketTables>,
}

/// The kernel's tables of TCP sockets, for a door that they can say something about. Whether they are needed is
/// authd's to say, later.
fn socket_tables(door: &Door) -> Option<SocketTables> {
    door.ip().filter(|_| door.is_local())?;
    let tables = SocketTables::open();
    tables.inspect_err(|error| tracing::debug!(%error, "no tables of TCP sockets")).ok()
}

/// The folder of the store, for this user alone.
fn prepare_state(folder: &Path) -> Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o700);
    builder
        .create(folder)
        .with_context(|| format!("the state folder {} cannot be made", folder.display()))
}

async fn run(settings: Settings, opened: Opened, sandboxed: Sandboxed) -> Result<()> {
    let Opened { door, tables } = opened;
    let stop = stop_on_signals()?;

    // Nobody is let in before authd has said who may: keys, policy, and the whole list of revocations.
    let address = AuthdAddress { socket: settings.authd_socket, trusted: settings.authd_trusted };
    let Some(authd) = unless_stopped(Authd::connect(address, stop.clone()), &stop).await? else {
        return Ok(());
    };
    let policy = authd.policies().current();
    let warnings = exposure::check(policy.description(), &door, settings.allow_open)?;
    exposure::check_kernel_word(policy.description(), &door, tables.as_ref())?;

    // What was accepted earlier goes on; then the workers are asked for.
    let queue = Queue::open(&settings.state_dir.join("jobs.db"), QueueLimits::default())
        .await
        .context("the job store cannot be opened")?;
    let blobs =
        BlobStore::open(&settings.state_dir).context("the picture store cannot be opened")?;
    let job_secrets = JobSecrets::open(&settings.state_dir)
        .context("the key of guests' jobs cannot be opened")?;
    let workers = WorkerSettings::new(settings.worker_sockets, settings.worker_trusted);
    let workers = Workers::start(workers, queue.work(), blobs.clone(), stop.clone());

    let about = About { begun: Instant::now(), sandbox: sandboxed.report().clone(), warnings };
    let names = settings.allowed_hosts.into_iter().chain(settings.public.clone());
    let around = Surroundings {
        hosts: Hosts::new(door.ip(), names),
        site: CrossSite { public: settings.public },
    };
    let app = App {
        authd,
        kernel: KernelWord::new(tables, settings.proxies),
        queue,
        workers: workers.clone(),
        blobs,
        job_secrets,
        stop: stop.clone(),
        about: Arc::new(about),
    };
    tracing::info!(door = %door, "serving");
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    serve(&sandboxed, door, router(app, around), stop).await?;
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    workers.stopped().await;
    tracing::info!("stopped");
    Ok(())
}

async fn unless_stopped<T>(
    work: impl Future<Output = Result<T>>,
    stop: &CancellationToken,
) -> Result<Option<T>> {
    match work.await {
        Ok(done) => Ok(Some(done)),
        Err(_) if stop.is_cancelled() => Ok(None),
        Err(error) => Err(error),
    }
}

/// SIGTERM and SIGINT end it; streams and long polls end with it.
fn stop_on_signals() -> Result<CancellationToken> {
    let stop = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let seen = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping");
        seen.cancel();
    });
    Ok(stop)
}
