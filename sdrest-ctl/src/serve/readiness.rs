//! Whether everything answers yet. A thread of its own asks, so that the supervisor never waits for a socket;
//! it starts no process, and ends once all is well.

use crate::probe::{self, Kind, State as Probed, Target};
use anyhow::{Context, Result};
use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

const PAUSE: Duration = Duration::from_millis(100);

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

/// `service` is the PAM service that logins must be able to use, in modes that use PAM.
pub(crate) fn watch(run_dir: &Path, url: &str, service: Option<String>) -> Result<Readiness> {
    let mut targets = probe::targets(run_dir, url, service);
    // Without PAM there is no login to ask for, and `serve` itself listens there.
    targets.retain(|target| !matches!(target.kind, Kind::Conversation(_, None)));
    let shared = Arc::new(Mutex::new(State::NotYet("nothing was asked yet".to_owned())));
    let state = Arc::clone(&shared);
    let prober = probe::Prober::new()?;
    std::thread::Builder::new()
        .name("readiness".to_owned())
        .spawn(move || {
            loop {
                let now = look(&prober, &targets);
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
fn look(prober: &probe::Prober, targets: &[Target]) -> State {
    for target in targets {
        let report = prober.ask(target);
        let why = format!("{}: {}", report.name, report.detail);
        match report.state {
            Probed::Up => {}
            Probed::Impossible => return State::Impossible(why),
            Probed::Degraded | Probed::Down => return State::NotYet(why),
        }
    }
    State::Ready
}
