//! sdrest-authd: signs people in. It follows PAM conversations that run in other processes, holds the signing key,
//! the sessions, users, API keys, the throttle and the audit log. It spawns nothing, loads no PAM module and asks no NSS.
//!
//! main reads as the security argument: no dumps → configuration → sockets and state, opened while that is still
//! possible → sandbox → runtime → nothing is served before the self-tests have passed.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]
#![forbid(unsafe_code)]

mod admin;
mod admission;
mod api_keys;
mod audit;
mod cli;
mod config;
mod conversation;
mod digest;
mod doors;
mod durable;
mod fault;
mod listener;
mod peer;
mod privileges;
mod random;
mod roles;
mod server;
mod service;
mod standing;
mod start;
mod state_dir;
mod subjects;
mod throttle;
mod tokens;
mod users;

use anyhow::Context;
use clap::Parser;
use cli::Cli;
use config::Config;
use doors::{AdminDoor, Door};
use listener::Passed;
use sdrest_proto::transport::TrustedUids;
use sdrest_sandbox::Reach;
use service::Service;
use start::Stores;
use state_dir::StateDir;
use std::{io::Write, os::unix::net::UnixListener, process::ExitCode, sync::Arc, time::Duration};
use tokio::signal::unix::{SignalKind, signal};

/// How often the throttle is written and finished conversations are swept.
const HOUSEKEEPING: Duration = Duration::from_millis(500);

/// Threads that may wait for the disk at once. What they write waits for each other anyway, and each has its memory.
const WRITERS: usize = 8;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The log may not have started yet. Without the backtrace that `{:?}` would print.
            let _ = writeln!(std::io::stderr(), "sdrest-authd: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    privileges::first().context("resource limits")?;
    let cli = Cli::parse();
    let no_sandbox = cli.no_sandbox.clone();
    let config = Config::load(cli)?;
    start_log(config.log_level);
    audit::open();
    let mut passed = Passed::from_environment();
    let front = passed.take_or_bind("authd", &config.socket).context("the front end's socket")?;
    let admin = passed
        .take_or_bind("authd-admin", &config.admin_socket)
        .context("the administrators' socket")?;
    let secret = config.secret.as_ref().map(start::read_secret).transpose()?;
    let state = StateDir::open(&config.state_dir)?;
    let data = StateDir::open(&config.data_dir)?;
    let sandboxed = match no_sandbox {
        Some(reason) => sdrest_sandbox::leave_open(&reason)?,
        // Members of the administrators' group are looked up at every connection, and /etc/group is a new file after
        // each change.
        None => sdrest_sandbox::close(&Reach {
            state: vec![state.path().to_owned(), data.path().to_owned()],
            read: vec!["/etc".into()],
        })?,
    };
    let stores = Stores::load(&config, &state, data, secret)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(WRITERS)
        .enable_all()
        .build()?;
    let sockets = Sockets { front, admin };
    let result = runtime.block_on(async {
        let doors = sockets.open(&config)?;
        let service = Arc::new(start::service(config, stores, sandboxed).await?);
        serve(service, doors).await
    });
    runtime.shutdown_timeout(Duration::from_secs(2));
    result
}

fn start_log(level: tracing::Level) {
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
}

/// The sockets that were opened before the sandbox closed.
struct Sockets {
    front: UnixListener,
    admin: UnixListener,
}

impl Sockets {
    fn open(self, config: &Config) -> anyhow::Result<(Door, AdminDoor)> {
        let front = Door {
            listener: tokio::net::UnixListener::from_std(self.front)?,
            trusted: TrustedUids::new([config.api_uid, 0]),
        };
        // Whoever may only be the front end is not an administrator, whatever the lists say.
        let own = nix::unistd::geteuid().as_raw();
        let never = (config.api_uid != own && config.api_uid != 0).then_some(config.api_uid);
        let admin = AdminDoor {
            listener: tokio::net::UnixListener::from_std(self.admin)?,
            listed: config.admin_uids.iter().copied().chain([0]).collect(),
            never,
        };
        Ok((front, admin))
    }
}

async fn serve(service: Arc<Service>, (front, admin): (Door, AdminDoor)) -> anyhow::Result<()> {
    let mut terminated = signal(SignalKind::terminate())?;
    let mut interrupted = signal(SignalKind::interrupt())?;
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    tracing::info!("serving; auth {}", service.ways.mode.as_str());
    audit::started(service.ways.mode);
    tokio::select! {
        () = doors::serve(Arc::clone(&service), front) => {}
        () = doors::serve_admin(Arc::clone(&service), admin) => {}
        () = keep_house(&service) => {}
        _ = terminated.recv() => {}
        _ = interrupted.recv() => {}
    }
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    tracing::info!("stopping");
    service.keys.save(false)?;
    service.throttle.save()?;
    Ok(())
}

/// Writes what is written now and then.
async fn keep_house(service: &Arc<Service>) {
    loop {
        tokio::time::sleep(HOUSEKEEPING).await;
        service.table.sweep();
        let service = Arc::clone(service);
        let written = tokio::task::spawn_blocking(move || {
            let sure = service.tokens.clock_is_sure();
            // Each for itself: what cannot be written must not keep the others from the disk.
            for written in
                [service.throttle.save(), service.tokens.sweep(sure), service.keys.save(sure)]
            {
                if let Err(error) = written {
                    tracing::error!("{error}");
                }
            }
        });
        if let Err(error) = written.await {
            tracing::error!("{error}");
        }
    }
}
