//! Drops every capability of capabilities(7) from every set. A worker started by its unit has none; one
//! started by hand as root must not keep any.

use caps::{CapSet, Capability, errors::CapsError};

pub(super) fn drop_all() -> Result<(), CapsError> {
    caps::clear(None, CapSet::Ambient)?;
    // The bounding set matters only to execve, which seccomp denies; without CAP_SETPCAP it cannot be
    // changed, and then there is nothing to raise from it either.
    if caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP)? {
        caps::clear(None, CapSet::Bounding)?;
    }
    caps::clear(None, CapSet::Effective)?;
    caps::clear(None, CapSet::Permitted)?;
    caps::clear(None, CapSet::Inheritable)
}
