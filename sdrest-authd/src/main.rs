//! sdrest-authd: signs people in. It follows PAM conversations that run in other processes, holds the signing key,
//! the sessions, the throttle and the audit log. It spawns nothing, loads no PAM module and asks no NSS.
//!
//! main reads as the security argument: no dumps → configuration → sockets and state, opened while that is still
//! possible → sandbox → runtime → nothing is served before the self-tests have passed.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]
#![forbid(unsafe_code)]

mod audit;
mod cli;
mod config;
mod conversation;
mod listener;
mod peer;
mod privileges;
mod random;
mod roles;
mod sandbox;
mod server;
mod state_dir;
mod subjects;
mod throttle;
mod tokens;

use anyhow::{Context, bail};
use clap::Parser;
use cli::Cli;
use config::Config;
use conversation::{ConversationSocket, Limits, Pacing, Table};
use listener::Passed;
use sandbox::Sandboxed;
use sdrest_proto::{authd::AuthMode, transport::TrustedUids};
use server::{Door, Service};
use state_dir::StateDir;
use std::{
    io::Write,
    os::unix::net::UnixListener,
    process::ExitCode,
    sync::{Arc, atomic::AtomicU64},
    time::{Duration, Instant},
};
use throttle::Throttle;
use tokens::{AccessTokens, SigningKey, TokenIssuer};
use tokio::signal::unix::{SignalKind, signal};

/// How often the throttle is written and finished conversations are swept.
const HOUSEKEEPING: Duration = Duration::from_millis(500);
/// How long the conversation socket may take to come up.
const PROBE_PATIENCE: Duration = Duration::from_secs(10);

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
    start_log(&cli)?;
    let no_sandbox = cli.no_sandbox.clone();
    let config = Config::load(cli)?;
    let mut passed = Passed::from_environment();
    let front = passed.take_or_bind("authd", &config.socket).context("the front end's socket")?;
    let admin = passed
        .take_or_bind("authd-admin", &config.admin_socket)
        .context("the administrators' socket")?;
    let state = StateDir::open(&config.state_dir)?;
    let sandboxed = match no_sandbox {
        Some(reason) => Sandboxed::left_open(&reason),
        None => sandbox::close(state.path())?,
    };
    let key = SigningKey::load_or_make(&state)?;
    let access = AccessTokens::new(key, config.issuer.clone(), config.token_lifetime.as_secs());
    let tokens = TokenIssuer::load(&state, access, config.roles.clone())?;
    let throttle = Arc::new(Throttle::load(&state, config.throttle)?);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let parts = Parts { state, sandboxed, tokens, throttle, front, admin };
    let result = runtime.block_on(serve(config, parts));
    runtime.shutdown_timeout(Duration::from_secs(2));
    result
}

fn start_log(cli: &Cli) -> anyhow::Result<()> {
    let level: tracing::Level =
        if cli.verbose { "debug" } else { &cli.log_level }.parse().with_context(|| {
            format!(
                "`--log-level` must be error, warn, info, debug or trace, got `{}`",
                cli.log_level
            )
        })?;
    tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    Ok(())
}

/// All that was opened before the sandbox closed.
struct Parts {
    state: StateDir,
    sandboxed: Sandboxed,
    tokens: TokenIssuer,
    throttle: Arc<Throttle>,
    front: UnixListener,
    admin: UnixListener,
}

async fn serve(config: Config, parts: Parts) -> anyhow::Result<()> {
    let Parts { state, sandboxed, tokens, throttle, front, admin } = parts;
    let table = match config.mode {
        AuthMode::None => None,
        AuthMode::Pam => Some(pam_table(&config, &throttle).await?),
    };
    let service = Arc::new(Service {
        mode: config.mode,
        realm: config.realm,
        public_paths: config.public_paths,
        guests: config.guests,
        tokens: Arc::new(tokens),
        table,
        sandbox: sandboxed,
        began: Instant::now(),
        refused_peers: AtomicU64::new(0),
    });
    let front = Door {
        listener: tokio::net::UnixListener::from_std(front)?,
        trusted: TrustedUids::new([config.api_uid, 0]),
    };
    // Whoever may only be the front end is not an administrator, whatever the list says.
    let own = nix::unistd::geteuid().as_raw();
    let admins = config.admin_uids.into_iter().filter(|uid| *uid != config.api_uid || *uid == own);
    let admin = Door {
        listener: tokio::net::UnixListener::from_std(admin)?,
        trusted: TrustedUids::new(admins.chain([0])),
    };
    let mut terminated = signal(SignalKind::terminate())?;
    let mut interrupted = signal(SignalKind::interrupt())?;
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    tracing::info!("serving; auth {}", service.mode.as_str());
    tokio::select! {
        () = server::serve(Arc::clone(&service), front) => {}
        () = server::serve_admin(Arc::clone(&service), admin) => {}
        () = keep_house(&service, &throttle, &state) => {}
        _ = terminated.recv() => {}
        _ = interrupted.recv() => {}
    }
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    tracing::info!("stopping");
    throttle.save(&state)?;
    Ok(())
}

/// The table of conversations, once the conversation program has said that logins can run.
async fn pam_table(config: &Config, throttle: &Arc<Throttle>) -> anyhow::Result<Table> {
    let socket = ConversationSocket {
        path: config.conversation_socket.clone(),
        trusted: TrustedUids::new([0, config.conversation_uid]),
    };
    let give_up = Instant::now() + PROBE_PATIENCE;
    loop {
        match socket.probe(&config.pam_service).await {
            Ok(()) => break,
            Err(error @ conversation::LinkError::Fault(_)) => {
                bail!("PAM logins cannot run: {error}")
            }
            Err(error) if Instant::now() >= give_up => bail!("PAM logins cannot run: {error}"),
            Err(error) => tracing::debug!("{error}"),
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let pacing = Pacing {
        failure_floor: config.failure_floor,
        step: config.step,
        total: config.total,
        password_prompt: config.password_prompt.clone(),
        expose_pam_errors: config.expose_pam_errors,
    };
    Ok(Table::new(
        socket,
        config.pam_service.clone(),
        pacing,
        Arc::clone(throttle),
        Limits::default(),
    ))
}

async fn keep_house(service: &Service, throttle: &Arc<Throttle>, state: &StateDir) {
    loop {
        tokio::time::sleep(HOUSEKEEPING).await;
        if let Some(table) = &service.table {
            table.sweep();
        }
        let (throttle, state, tokens) =
            (Arc::clone(throttle), state.clone(), Arc::clone(&service.tokens));
        match tokio::task::spawn_blocking(move || {
            throttle.save(&state).and_then(|()| tokens.sweep())
        })
        .await
        {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!("{error}"),
            Err(error) => tracing::error!("{error}"),
        }
    }
}
