//! What can go wrong while the sandbox is closed. Each of these ends the worker: it does not serve in half a
//! sandbox.

use thiserror::Error;

/// Why the sandbox could not be closed; the worker does not serve then.
#[derive(Debug, Error)]
pub enum SandboxError {
    #[error("cannot set no_new_privs: {0}")]
    NoNewPrivs(nix::Error),
    #[error("cannot drop capabilities: {0}")]
    Capabilities(#[from] sdrest_sandbox::CapabilitiesError),
    #[error("Landlock: {0}")]
    Landlock(#[from] landlock::RulesetError),
    #[error("seccomp: {0}")]
    Seccomp(String),
    #[error("cannot read what the kernel says of this process: {0}")]
    Report(std::io::Error),
    #[error("the sandbox was closed, but {0}")]
    Leaky(&'static str),
}
