//! `sdrestctl serve`: all of sdrest on one machine, in the foreground. Order: plan → log → lock → sockets →
//! daemons → ready → supervise → stop. What cannot work ends it with the reason, and nothing stays behind.

mod access;
mod conversations;
mod daemon;
mod logs;
mod plan;
mod readiness;
mod roster;
mod sockets;
mod supervisor;

use crate::{cli::ServeArgs, probe, record};
use anyhow::{Context, Result, bail};
use logs::Log;
use nix::fcntl::{Flock, FlockArg};
use plan::Plan;
use readiness::Part;
use sdrest_proto::authd::AuthMode;
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
    let plan = plan::make(args)?;
    let signals = supervisor::signals()?;
    let log = logs::open(args.log_file.as_deref())?;
    for note in &plan.notes {
        log.line("sdrestctl", note);
    }
    let _lock = lock(&plan)?;
    let sockets = sockets::bind(&plan)?;
    let address = sockets.address.clone();
    let daemons = roster::all(&plan, args, &sockets, &log)?;
    let conversations = conversations::Conversations::new(&plan, sockets.conversation, &log)?;
    let mut supervisor = Supervisor::new(daemons, conversations, signals, log.clone());
    let about = About { plan: &plan, args, address: &address };
    let outcome = serve(&mut supervisor, &about, &log);
    supervisor.stop();
    let _ = std::fs::remove_file(record::path(&plan.run_dir));
    sockets::remove(&plan);
    outcome
}

/// What the parts of `serve` need to know of it.
struct About<'a> {
    plan: &'a Plan,
    args: &'a ServeArgs,
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
    let service = (about.plan.auth == AuthMode::Pam).then(|| about.args.pam_service_name.clone());
    let targets = probe::targets(&about.plan.run_dir, &about.url(), service);
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
    let record = record::Record {
        url: about.url(),
        pid: std::process::id(),
        auth: about.plan.auth.as_str().to_owned(),
        pam_service: about.args.pam_service_name.clone(),
        processes,
    };
    record::write(&about.plan.run_dir, &record)
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
