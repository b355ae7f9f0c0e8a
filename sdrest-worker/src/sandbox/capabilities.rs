//! Drops every capability of capabilities(7) from every set. A worker started by its unit has none; one
//! started by hand as root must not keep any.

use caps::{CapSet, Capability, errors::CapsError};

pub(super) fn drop_all() -> Result<(), CapsError> {
    empty(CapSet::Ambient)?;
    // The bounding set matters only to execve, which seccomp denies; without CAP_SETPCAP it cannot be
    // changed, and then there is nothing to raise from it either.
    if caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP)? {
        caps::clear(None, CapSet::Bounding)?;
    }
    for set in [CapSet::Effective, CapSet::Permitted, CapSet::Inheritable] {
        empty(set)?;
    }
    Ok(())
}

/// A unit's own system call filter may refuse capset(2); where nothing is left to drop, it is not asked.
fn empty(set: CapSet) -> Result<(), CapsError> {
    if caps::read(None, set)?.is_empty() { Ok(()) } else { caps::clear(None, set) }
}
