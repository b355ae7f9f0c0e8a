//! How the front end and authd close themselves in before they serve: no new privileges, no capabilities, Landlock
//! (landlock(7)): a few paths and no others, seccomp (seccomp(2)): no program is started, no other process touched, no
//! socket but a Unix one made. What the process then finds when it looks at itself decides, not what was meant. The
//! worker has a narrower sandbox of its own and takes from here how capabilities are dropped.
//!
//! [`close`] must run while the process has one thread: what it closes is inherited by those that come later.
#![forbid(unsafe_code)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod capabilities;
mod files;
mod report;
mod system_calls;
#[cfg(target_arch = "x86_64")]
mod x32;

pub use capabilities::{CapabilitiesError, drop_capabilities};
pub use files::Reach;

use sdrest_proto::health::SandboxReport;
use std::fmt::Display;
use thiserror::Error;

/// Why the sandbox could not be closed; the process does not serve then.
#[derive(Debug, Error)]
#[error("the sandbox cannot be closed: {what}: {cause}")]
pub struct SandboxError {
    what: &'static str,
    cause: String,
}

fn failed<E: Display>(what: &'static str) -> impl Fn(E) -> SandboxError {
    move |cause| SandboxError { what, cause: cause.to_string() }
}

/// Proof that the sandbox is closed, or was left open by name.
#[derive(Clone, Debug)]
pub struct Sandboxed {
    report: SandboxReport,
}

impl Sandboxed {
    /// What the process found when it looked at itself from inside.
    pub fn report(&self) -> &SandboxReport {
        &self.report
    }
}

/// What is done first of all, whatever the flags say: no core file and no debugger sees a secret (prctl(2),
/// setrlimit(2)).
pub fn forbid_dumps() -> nix::Result<()> {
    use nix::sys::resource::{Resource, setrlimit};
    nix::sys::prctl::set_dumpable(false)?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0)
}

/// Closes the sandbox around this process for good, but for `reach`, and looks at it from inside.
pub fn close(reach: &Reach) -> Result<Sandboxed, SandboxError> {
    let status = report::Status::open().map_err(failed("the process's status"))?;
    nix::sys::prctl::set_no_new_privs().map_err(failed("no_new_privs"))?;
    drop_capabilities().map_err(failed("capabilities"))?;
    let landlock_abi = files::restrict(reach).map_err(failed("Landlock"))?;
    if landlock_abi == 0 {
        tracing::warn!("this kernel has no Landlock: files are kept apart by their owners only");
    }
    system_calls::restrict().map_err(failed("seccomp"))?;
    let report = status.report(Some(landlock_abi)).map_err(failed("the process's status"))?;
    if report.no_new_privs
        && report.effective_capabilities == 0
        && report.seccomp == 2
        && report.network_denied
    {
        return Ok(Sandboxed { report });
    }
    Err(failed("it is not closed")(format!("{report:?}")))
}

/// Leaves it open; `reason` is the one that the administrator gave, and is logged.
pub fn leave_open(reason: &str) -> Result<Sandboxed, SandboxError> {
    tracing::warn!(reason, "the sandbox is off (--no-sandbox)");
    let status = report::Status::open().map_err(failed("the process's status"))?;
    Ok(Sandboxed { report: status.report(None).map_err(failed("the process's status"))? })
}
