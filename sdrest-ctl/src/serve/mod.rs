//! `sdrestctl serve`: all of sdrest on one machine, in the foreground. Order: secret → plan → log → lock → sockets →
//! daemons → ready → supervise → stop. What cannot work ends it with the reason, and nothing stays behind.

mod access;
mod auth;
mod conversations;
mod daemon;
mod folders;
mod listen;
mod logs;
mod models;
mod plan;
mod privilege;
mod readiness;
mod roster;
mod secret;
mod sockets;
mod supervisor;

use crate::{cli::ServeArgs, paths, probe, record};
use anyhow::{Context, Result, bail};
use conversations::{Conversations, Purpose};
use logs::Log;
use nix::fcntl::{Flock, FlockArg};
use plan::Plan;
use readiness::Part;
use roster::Needs;
use secret::Secret;
use sockets::Sockets;
use std::{
    fs::{File, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::Path,
    time::{Duration, Instant},
};
use supervisor::{Event, Supervisor};

/// From the first fork to the last answer. Reading libtorch and a model from a cold disk takes most of it.
const START_PATIENCE: Duration = Duration::from_secs(180);
const WHILE_STARTING: Duration = Duration::from_millis(50);
const WHILE_SERVING: Duration = Duration::from_secs(60);

pub(crate) fn run(args: &ServeArgs) -> Result<()> {
    let secret = secret::take(args)?;
    let plan = plan::make(args)?;
    let signals = supervisor::signals()?;
    let log = logs::open(args.log_file.as_deref())?;
    for note in secret.as_ref().and_then(Secret::note).into_iter().chain(plan.notes()) {
        log.line("sdrestctl", note);
    }
    let _lock = lock(&plan)?;
    // Removed at the end, however that comes.
    let mut files = sockets::Files::default();
    let sockets = sockets::bind(&plan, &log, &mut files)?;
    let address = sockets.address.clone();
    let needs = Needs { plan: &plan, args, sockets: &sockets, log: &log };
    let daemons = roster::all(&needs, secret.map(|secret| secret.memory))?;
    let conversations = doors(&plan, sockets, &log)?;
    let mut supervisor = Supervisor::new(daemons, conversations, signals, log.clone());
    let about = About { plan: &plan, address: &address };
    let outcome = serve(&mut supervisor, &about, &log);
    supervisor.stop();
    let _ = std::fs::remove_file(record::path(&plan.run_dir));
    outcome
}

/// Where logins come in; and where those go on whose password has expired.
fn doors(plan: &Plan, sockets: Sockets, log: &Log) -> Result<Vec<Conversations>> {
    let mut doors = vec![Conversations::new(plan, sockets.conversation, Purpose::SignIn, log)?];
    if let Some(listener) = sockets.chauthtok {
        doors.push(Conversations::new(plan, listener, Purpose::ChangeExpired, log)?);
    }
    Ok(doors)
}

/// A line for the help of `serve`: whether PAM is in this build. The conversation program knows.
pub(crate) fn pam_line() -> &'static str {
    match paths::program("sdrest-conversation").and_then(|program| auth::build(&program)) {
        Ok(auth::Build::WithPam) => "pam: built in",
        Ok(auth::Build::WithoutPam) => "pam: not built in (PAM_AUTH_UNAVAILABLE)",
        Err(_) => "pam: unknown (sdrest-conversation is not beside this program)",
    }
}

/// What the parts of `serve` need to know of it.
struct About<'a> {
    plan: &'a Plan,
    address: &'a str,
}

impl About<'_> {
    fn url(&self) -> String {
        if self.address.starts_with("unix:") {
            self.address.to_owned()
        } else {
            format!("http://{}", self.address)
        }
    }

    fn record(&self, processes: Vec<record::Process>) -> record::Record {
        record::Record {
            url: self.url(),
            pid: std::process::id(),
            auth: self.plan.auth.mode.as_str().to_owned(),
            pam_service: self.plan.auth.pam.as_ref().map(|service| service.name.clone()),
            processes,
        }
    }
}

fn serve(supervisor: &mut Supervisor, about: &About<'_>, log: &Log) -> Result<()> {
    for (names, part) in [(["authd", "worker"].as_slice(), Part::Behind), (&["api"], Part::Front)] {
        supervisor.start(names)?;
        write_record(supervisor, about)?;
        if !wait_until_ready(supervisor, about, part)? {
            return Ok(());
        }
    }
    // Whoever started this may have closed it since.
    let mut output = std::io::stdout();
    let _ = writeln!(output, "sdrest: ready {}", about.url()).and_then(|()| output.flush());
    log.line("sdrestctl", &format!("ready {}", about.url()));
    loop {
        let event = supervisor.wait(WHILE_SERVING)?;
        if event == Event::Stop {
            log.line("sdrestctl", "stopping");
            return Ok(());
        }
        if supervisor.restart_ended() {
            // The record is a help to `status`; serving goes on without it.
            if let Err(error) = write_record(supervisor, about) {
                log.line("sdrestctl", &format!("{error:#}"));
            }
        }
    }
}

/// False where the caller asked for the end before that.
fn wait_until_ready(supervisor: &mut Supervisor, about: &About<'_>, part: Part) -> Result<bool> {
    let record = about.record(Vec::new());
    let targets = probe::targets(&about.plan.run_dir, &about.url(), record.logins());
    let readiness = readiness::watch(targets, part)?;
    let until = Instant::now() + START_PATIENCE;
    loop {
        if supervisor.wait(WHILE_STARTING)? == Event::Stop {
            return Ok(false);
        }
        supervisor.check_starting()?;
        let state = readiness.state();
        match state {
            readiness::State::Ready => return Ok(true),
            readiness::State::Impossible(reason) => bail!("{reason}"),
            readiness::State::NotYet(why) if Instant::now() > until => {
                bail!("not everything answered within {} s: {why}", START_PATIENCE.as_secs())
            }
            readiness::State::NotYet(_) => {}
        }
    }
}

fn write_record(supervisor: &Supervisor, about: &About<'_>) -> Result<()> {
    let processes = supervisor
        .processes()
        .map(|(name, pid, restarts)| record::Process { name: name.to_owned(), pid, restarts })
        .collect();
    record::write(&about.plan.run_dir, &about.record(processes))
}

/// One `serve` for a run folder and one for a state folder; the kernel lets go when this process ends,
/// however it does.
fn lock(plan: &Plan) -> Result<[Flock<File>; 2]> {
    Ok([
        lock_file(&plan.run_dir.join("serve.lock"))?,
        lock_file(&plan.state_dir.join("state.lock"))?,
    ])
}

fn lock_file(path: &Path) -> Result<Flock<File>> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .custom_flags(nix::fcntl::OFlag::O_NOFOLLOW.bits())
        .open(path)
        .with_context(|| format!("{} cannot be opened", path.display()))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock)
        .map_err(|_| anyhow::anyhow!("another `sdrestctl serve` holds {}", path.display()))
}
