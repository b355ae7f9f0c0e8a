//! Asks each of sdrest's sockets how it is: the daemons' `health` verbs, the conversation program's probe,
//! the front end's /api/health. Only looks; never changes anything.

mod conversation;
pub(crate) mod http;
mod rpc;

use anyhow::{Context, Result};
use sdrest_proto::{
    authd::AuthdDescription,
    health::{Health, SandboxReport, Serving},
    model::ModelInfo,
    worker::WorkerDescription,
};
use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// How long one socket may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `http://HOST:PORT` or `unix:PATH`.
    Http(String),
    Authd(PathBuf),
    AuthdAdmin(PathBuf),
    Conversation(PathBuf, Logins),
    /// Where expired passwords are changed, if the service file knows of passwords.
    Chauthtok(PathBuf, Logins),
    Worker(PathBuf),
}

/// What a conversation program is for on this server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Logins {
    /// Nothing here says; authd knows.
    Unknown,
    /// Nobody signs in.
    Off,
    /// Passwords of the internal database, and accounts of the system.
    WithoutPam,
    /// That, and logins through this PAM service.
    Pam(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) name: String,
    pub(crate) kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Up,
    Degraded,
    Down,
    /// It answers that it cannot do its work, and why.
    Impossible,
}

/// What one socket said.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    pub(crate) name: String,
    pub(crate) address: String,
    pub(crate) state: State,
    /// One line for a person.
    pub(crate) detail: String,
    pub(crate) round_trip: Option<Duration>,
    pub(crate) health: Option<Health>,
    /// What the process found of its own sandbox.
    pub(crate) sandbox: Option<SandboxReport>,
    pub(crate) uptime_seconds: Option<u64>,
    pub(crate) authd: Option<AuthdDescription>,
    pub(crate) worker: Option<(WorkerDescription, Vec<ModelInfo>)>,
    /// The front end's answer, as it came.
    pub(crate) http: Option<serde_json::Value>,
}

/// All sockets of one machine, those first that the others lean on.
pub(crate) fn targets(run_dir: &Path, url: &str, logins: Logins) -> Vec<Target> {
    let mut targets = vec![
        Target { name: "authd".to_owned(), kind: Kind::Authd(run_dir.join("authd.sock")) },
        Target {
            name: "authd-admin".to_owned(),
            kind: Kind::AuthdAdmin(run_dir.join("authd-admin.sock")),
        },
        Target {
            name: "conversation".to_owned(),
            kind: Kind::Conversation(run_dir.join("conversation.sock"), logins.clone()),
        },
    ];
    // Only there where expired passwords can be changed.
    let change = run_dir.join("chauthtok.sock");
    if change.exists() {
        targets
            .push(Target { name: "chauthtok".to_owned(), kind: Kind::Chauthtok(change, logins) });
    }
    for (number, path) in worker_sockets(run_dir) {
        targets.push(Target { name: format!("worker/{number}"), kind: Kind::Worker(path) });
    }
    targets.push(Target { name: "http".to_owned(), kind: Kind::Http(url.to_owned()) });
    targets
}

/// RUN/worker/N.sock in the order of N; 0 is always expected.
fn worker_sockets(run_dir: &Path) -> Vec<(u32, PathBuf)> {
    let folder = run_dir.join("worker");
    let mut found: Vec<(u32, PathBuf)> = std::fs::read_dir(&folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let number = path.file_name()?.to_str()?.strip_suffix(".sock")?.parse().ok()?;
            Some((number, path))
        })
        .collect();
    if found.is_empty() {
        found.push((0, folder.join("0.sock")));
    }
    found.sort();
    found
}

/// Asks; holds the runtime that the tarpc clients need.
pub(crate) struct Prober {
    runtime: tokio::runtime::Runtime,
}

impl Prober {
    pub(crate) fn new() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        Ok(Self { runtime: runtime.context("no runtime can be made")? })
    }

    pub(crate) fn ask(&self, target: &Target) -> Report {
        let begun = Instant::now();
        let mut report = Report {
            name: target.name.clone(),
            address: address(&target.kind),
            state: State::Down,
            detail: String::new(),
            round_trip: None,
            health: None,
            sandbox: None,
            uptime_seconds: None,
            authd: None,
            worker: None,
            http: None,
        };
        match self.fill(target, &mut report) {
            Ok(()) => report.round_trip = report.round_trip.or(Some(begun.elapsed())),
            Err(error) => {
                report.state = State::Down;
                report.detail = format!("{error:#}");
            }
        }
        report
    }

    fn fill(&self, target: &Target, report: &mut Report) -> Result<()> {
        match &target.kind {
            Kind::Http(url) => http::health(url, report),
            Kind::Conversation(path, logins) => conversation::health(path, logins, report),
            Kind::Chauthtok(path, logins) => conversation::change(path, logins, report),
            Kind::Authd(path) => self.runtime.block_on(rpc::authd(path, report)),
            Kind::AuthdAdmin(path) => self.runtime.block_on(rpc::authd_admin(path, report)),
            Kind::Worker(path) => self.runtime.block_on(rpc::worker(path, report)),
        }
    }
}

impl Report {
    /// Takes over what a daemon says of itself.
    fn take(&mut self, health: Health, round_trip: Duration) {
        self.state = if health.serving == Serving::Serving { State::Up } else { State::Degraded };
        self.detail.clone_from(&health.detail);
        self.round_trip = Some(round_trip);
        self.sandbox = Some(health.sandbox.clone());
        self.uptime_seconds = Some(health.uptime_seconds);
        self.health = Some(health);
    }
}

fn address(kind: &Kind) -> String {
    match kind {
        Kind::Http(url) => url.clone(),
        Kind::Authd(path)
        | Kind::AuthdAdmin(path)
        | Kind::Conversation(path, _)
        | Kind::Chauthtok(path, _)
        | Kind::Worker(path) => path.display().to_string(),
    }
}
