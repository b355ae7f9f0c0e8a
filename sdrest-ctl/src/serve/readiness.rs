//! Whether everything answers yet. A thread of its own asks, so that the supervisor never waits for a socket;
//! it starts no process, and ends once all is well.

use crate::probe::{self, Kind, Logins, State as Probed, Target};
use anyhow::{Context, Result};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

const PAUSE: Duration = Duration::from_millis(50);
/// A worker that names no model after this time has none.
const MODELS_PATIENCE: Duration = Duration::from_secs(20);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// And what the first silent socket said.
    NotYet(String),
    Ready,
    /// Waiting longer would not help.
    Impossible(String),
}

pub(crate) struct Readiness(Arc<Mutex<State>>);

impl Readiness {
    pub(crate) fn state(&self) -> State {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Which sockets: those that the front end leans on, or the front end itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Behind,
    Front,
}

/// Asks the sockets of one part until all of them serve.
pub(crate) fn watch(mut targets: Vec<Target>, part: Part) -> Result<Readiness> {
    targets.retain(|target| match &target.kind {
        Kind::Http(_) => part == Part::Front,
        // Where nobody signs in there is nothing to ask for, and `serve` itself listens there.
        Kind::Conversation(_, Logins::Off | Logins::Unknown) => false,
        // Without it an expired password is told and not changed: no reason to keep everybody waiting.
        Kind::Chauthtok(..) => false,
        _ => part == Part::Behind,
    });
    let shared = Arc::new(Mutex::new(State::NotYet("nothing was asked yet".to_owned())));
    let state = Arc::clone(&shared);
    let prober = probe::Prober::new()?;
    std::thread::Builder::new()
        .name("readiness".to_owned())
        .spawn(move || {
            let begun = Instant::now();
            loop {
                let now = look(&prober, &targets, begun.elapsed());
                let last = !matches!(now, State::NotYet(_));
                *state.lock().unwrap_or_else(PoisonError::into_inner) = now;
                if last {
                    return;
                }
                std::thread::sleep(PAUSE);
            }
        })
        .context("no thread can be made")?;
    Ok(Readiness(shared))
}

/// Asks one after the other and stops at the first that does not serve.
fn look(prober: &probe::Prober, targets: &[Target], waited: Duration) -> State {
    for target in targets {
        let report = prober.ask(target);
        let why = format!("{}: {}", report.name, report.detail);
        // The front end asks for the models when it connects and then rarely: they are to be known by then.
        let no_models = report.worker.as_ref().is_some_and(|(_, models)| models.is_empty());
        match report.state {
            Probed::Up if no_models && waited < MODELS_PATIENCE => {
                return State::NotYet(format!("{}: no models yet", report.name));
            }
            Probed::Up => {}
            Probed::Impossible => return State::Impossible(why),
            Probed::Degraded | Probed::Down => return State::NotYet(why),
        }
    }
    State::Ready
}
