//! What the process gives up first thing, before it reads a flag: dumps of its memory (a core would hold the signing
//! key), being traced by its own uid, and more descriptors than it needs (setrlimit(2)).

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Connections of the front end, programs of logins, and some files.
const DESCRIPTORS: u64 = 4096;

pub(crate) fn first() -> nix::Result<()> {
    sdrest_sandbox::forbid_dumps()?;
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let limit = DESCRIPTORS.min(hard);
    setrlimit(Resource::RLIMIT_NOFILE, limit, limit)
}
