//! Drops every capability of capabilities(7) from every set. A daemon started by its unit has none; one started by
//! hand as root must not keep any.

pub use caps::errors::CapsError as CapabilitiesError;
use caps::{CapSet, Capability};

/// Drops all of them, in this thread.
pub fn drop_capabilities() -> Result<(), CapabilitiesError> {
    // The bounding set matters only to execve. Without CAP_SETPCAP it cannot be changed, and there is nothing in it
    // that could be raised from it either.
    if caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP)? {
        caps::clear(None, CapSet::Bounding)?;
    }
    for set in [CapSet::Ambient, CapSet::Inheritable, CapSet::Effective, CapSet::Permitted] {
        // A unit's own system call filter may refuse capset(2); where nothing is left, it is not asked.
        if !caps::read(None, set)?.is_empty() {
            caps::clear(None, set)?;
        }
    }
    Ok(())
}
