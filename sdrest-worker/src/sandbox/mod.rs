//! The worker's own sandbox, in the order that design demands: no new privileges, no capabilities, Landlock
//! (landlock(7)), seccomp (seccomp(2)). It is closed once, after everything that needs more has been opened,
//! and never opened again. `serve` takes a [`Sandboxed`], so a worker cannot serve by forgetting it.
//!
//! Landlock and capabilities belong to threads, so the sandbox wants to be closed while the process has only
//! one. Where a driver has started threads already, they get the system-call filter and the report says how
//! many there are.

mod error;
mod files;
mod report;
mod system_calls;

pub use error::SandboxError;
pub use files::{Devices, Openings};

use sdrest_proto::health::SandboxReport;

/// Proof that the sandbox was closed, or that somebody turned it off by name.
#[derive(Debug)]
pub struct Sandboxed {
    report: SandboxReport,
}

impl Sandboxed {
    /// What the kernel said of this process afterwards.
    pub fn report(&self) -> &SandboxReport {
        &self.report
    }

    /// The opt-out: `--no-sandbox REASON`.
    pub fn turned_off(reason: &str) -> Result<Self, SandboxError> {
        tracing::warn!(reason, "serving WITHOUT a sandbox, as the command line says");
        Ok(Self { report: report::read(None).map_err(SandboxError::Report)? })
    }
}

/// Closes the sandbox around this process for good, but for `openings`.
pub fn close(openings: &Openings) -> Result<Sandboxed, SandboxError> {
    let elder_threads = threads_that_stay()?;
    if elder_threads > 0 {
        tracing::warn!(
            elder_threads,
            "threads were started before the sandbox; Landlock may not hold them"
        );
    }
    nix::sys::prctl::set_no_new_privs().map_err(SandboxError::NoNewPrivs)?;
    sdrest_sandbox::drop_capabilities()?;
    let landlock_abi = files::restrict(openings)?;
    if landlock_abi == 0 {
        tracing::warn!(
            "this kernel has no Landlock; files are held by permissions and seccomp only"
        );
    }
    system_calls::restrict(openings.devices)?;
    let report = report::read(Some(landlock_abi)).map_err(SandboxError::Report)?;
    check(&report)?;
    Ok(Sandboxed { report })
}

/// The figures must say what was done: a wall that is not there must not be believed.
fn check(report: &SandboxReport) -> Result<(), SandboxError> {
    let leaks = [
        (!report.no_new_privs, "no_new_privs is not set"),
        (report.effective_capabilities != 0, "capabilities are left"),
        (report.seccomp != 2, "no system-call filter is on"),
        (!report.network_denied, "a network socket can still be opened"),
    ];
    match leaks.into_iter().find(|(leaky, _)| *leaky) {
        Some((_, what)) => Err(SandboxError::Leaky(what)),
        None => Ok(()),
    }
}

/// Other threads of this process. One that was joined a moment ago may still be on its way out of the kernel's
/// list; it gets half a second.
fn threads_that_stay() -> Result<usize, SandboxError> {
    let mut others = 0;
    for _ in 0..100 {
        others = report::other_threads().map_err(SandboxError::Report)?;
        if others == 0 {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    Ok(others)
}
