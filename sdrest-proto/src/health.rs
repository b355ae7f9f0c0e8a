//! What every process says of itself when it is asked. It tells nothing of users or prompts.

use crate::bounds::{BoundsError, quote};
use serde::{Deserialize, Serialize};

/// The longest `detail` and `build` in characters, the most figures, and the longest name of one. Health is shown
/// to whoever asks, so one process must not make another's answer long.
const DETAIL: usize = 1000;
const FIGURES: usize = 64;
const NAME: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Serving {
    /// All is well.
    Serving,
    /// It answers, but something that it leans on does not; `detail` says what.
    Degraded,
    /// It takes nothing new and is about to stop.
    Draining,
}

/// One process's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "UncheckedHealth")]
pub struct Health {
    pub serving: Serving,
    /// One line for a person.
    pub detail: String,
    pub build: String,
    pub pid: u32,
    pub uid: u32,
    /// Seconds since it began to serve.
    pub uptime_seconds: u64,
    pub sandbox: SandboxReport,
    /// Figures worth showing, by name: queue depth, live conversations, refused peers.
    pub figures: Vec<(String, u64)>,
}

/// As it was decoded.
#[derive(Deserialize)]
struct UncheckedHealth {
    serving: Serving,
    detail: String,
    build: String,
    pid: u32,
    uid: u32,
    uptime_seconds: u64,
    sandbox: SandboxReport,
    figures: Vec<(String, u64)>,
}

impl TryFrom<UncheckedHealth> for Health {
    type Error = BoundsError;

    fn try_from(it: UncheckedHealth) -> Result<Self, BoundsError> {
        no_longer("detail", &it.detail, DETAIL)?;
        no_longer("build", &it.build, DETAIL)?;
        if it.figures.len() > FIGURES {
            let (bounds, value) = (format!("at most {FIGURES} entries"), it.figures.len());
            return Err(BoundsError { parameter: "figures", bounds, value: value.to_string() });
        }
        for (name, _) in &it.figures {
            no_longer("figures", name, NAME)?;
        }
        let UncheckedHealth { serving, detail, build, pid, uid, uptime_seconds, sandbox, figures } =
            it;
        Ok(Self { serving, detail, build, pid, uid, uptime_seconds, sandbox, figures })
    }
}

fn no_longer(parameter: &'static str, text: &str, most: usize) -> Result<(), BoundsError> {
    if text.chars().count() <= most {
        return Ok(());
    }
    let bounds = format!("no text over {most} characters");
    Err(BoundsError { parameter, bounds, value: quote(text) })
}

/// What the process found when it looked at itself from inside, after it closed its sandbox.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxReport {
    /// Whether the sandbox was closed; `false` only where somebody turned it off by name.
    pub closed: bool,
    pub no_new_privs: bool,
    /// CapEff of /proc/self/status.
    pub effective_capabilities: u64,
    /// Seccomp of /proc/self/status: 0 off, 2 filter.
    pub seccomp: u8,
    /// The Landlock ABI that the rules were enforced with; 0 where the kernel has none.
    pub landlock_abi: u32,
    /// Whether opening an AF_INET socket failed when it was tried.
    pub network_denied: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn health() -> Health {
        Health {
            serving: Serving::Serving,
            detail: "ä".repeat(DETAIL),
            build: String::new(),
            pid: 1,
            uid: 2,
            uptime_seconds: 3,
            sandbox: SandboxReport::default(),
            figures: vec![("n".repeat(NAME), u64::MAX); FIGURES],
        }
    }

    #[test]
    fn an_answer_cannot_be_longer_than_anybody_wants_to_read() {
        let decoded = |health: &Health| {
            bincode::deserialize::<Health>(&bincode::serialize(health).unwrap())
                .map_err(|error| error.to_string())
        };
        assert_eq!(decoded(&health()), Ok(health()));
        let one_more = ("x".to_owned(), 0);
        for (wrong, named) in [
            (Health { detail: "x".repeat(DETAIL + 1), ..health() }, "`detail`"),
            (Health { build: "x".repeat(DETAIL + 1), ..health() }, "`build`"),
            (Health { figures: vec![one_more; FIGURES + 1], ..health() }, "65"),
            (Health { figures: vec![("x".repeat(NAME + 1), 0)], ..health() }, "`figures`"),
        ] {
            let error = decoded(&wrong).unwrap_err();
            assert!(error.contains(named), "{error}");
        }
    }
}
