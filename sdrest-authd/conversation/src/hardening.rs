//! What the process gives up before it reads a byte: core dumps, ptrace by its own uid, new privileges through
//! exec, and every capability that the usual PAM modules do not need. It follows prctl(2), capabilities(7) and
//! setrlimit(2).
//!
//! Measured on Linux-PAM 1.5.2: pam_unix needs none where /etc/shadow is root:shadow 0640 and CAP_DAC_READ_SEARCH
//! where it is 0000. pam_faillock gives its tally to the user (CAP_CHOWN) and must then still be able to write it
//! (CAP_DAC_OVERRIDE): with the first and without the second it never locks, silently. So the first goes where
//! the second is missing.

use caps::{CapSet, Capability};
use nix::{
    sys::{
        prctl,
        resource::{Resource, setrlimit},
        signal::Signal,
    },
    unistd::geteuid,
};
use thiserror::Error;

/// What stays, where the launcher left it: audit records, the shadow file, pam_faillock's tallies.
const KEPT: [Capability; 4] = [
    Capability::CAP_AUDIT_WRITE,
    Capability::CAP_CHOWN,
    Capability::CAP_DAC_OVERRIDE,
    Capability::CAP_DAC_READ_SEARCH,
];

/// Resource and its limit, with the reason.
const LIMITS: [(Resource, u64); 3] = [
    // A core would hold a password.
    (Resource::RLIMIT_CORE, 0),
    // PAM modules open a handful of files.
    (Resource::RLIMIT_NOFILE, 256),
    // yescrypt and argon2 take tens of MiB; a leaking module stops here.
    (Resource::RLIMIT_AS, 2 << 30),
];

#[derive(Debug, Error)]
#[error("{what}: {cause}")]
pub(crate) struct HardeningError {
    what: &'static str,
    cause: String,
}

fn failed(what: &'static str) -> impl Fn(nix::Error) -> HardeningError {
    move |cause| HardeningError { what, cause: cause.to_string() }
}

fn caps_failed(cause: caps::errors::CapsError) -> HardeningError {
    HardeningError { what: "dropping capabilities", cause: cause.to_string() }
}

/// First thing in main: no dumps, bounded resources, and dead when the launcher is.
pub(crate) fn first() -> Result<(), HardeningError> {
    prctl::set_dumpable(false).map_err(failed("PR_SET_DUMPABLE"))?;
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(failed("PR_SET_PDEATHSIG"))?;
    for (resource, limit) in LIMITS {
        let (_, hard) = nix::sys::resource::getrlimit(resource).map_err(failed("getrlimit"))?;
        let limit = limit.min(hard);
        setrlimit(resource, limit, limit).map_err(failed("setrlimit"))?;
    }
    Ok(())
}

/// Gives up privileges. As root only: without root, pam_unix can check the caller's own password through its
/// setgid helper and nothing else, and no_new_privs would take that away too.
pub(crate) fn drop_privileges() -> Result<(), HardeningError> {
    if !geteuid().is_root() {
        return Ok(());
    }
    let permitted = caps::read(None, CapSet::Permitted).map_err(caps_failed)?;
    let may_override = permitted.contains(&Capability::CAP_DAC_OVERRIDE);
    let kept: caps::CapsHashSet = KEPT
        .into_iter()
        .filter(|cap| permitted.contains(cap) && (*cap != Capability::CAP_CHOWN || may_override))
        .collect();
    // The bounding set can only be cut with CAP_SETPCAP; without it no_new_privs holds the line.
    if permitted.contains(&Capability::CAP_SETPCAP) {
        for cap in caps::read(None, CapSet::Bounding).map_err(caps_failed)? {
            if !kept.contains(&cap) {
                caps::drop(None, CapSet::Bounding, cap).map_err(caps_failed)?;
            }
        }
    }
    caps::clear(None, CapSet::Ambient).map_err(caps_failed)?;
    caps::set(None, CapSet::Inheritable, &caps::CapsHashSet::new()).map_err(caps_failed)?;
    caps::set(None, CapSet::Effective, &kept).map_err(caps_failed)?;
    caps::set(None, CapSet::Permitted, &kept).map_err(caps_failed)?;
    prctl::set_no_new_privs().map_err(failed("PR_SET_NO_NEW_PRIVS"))
}
