//! What every process says of itself when it is asked. It tells nothing of users or prompts.

use serde::{Deserialize, Serialize};

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
