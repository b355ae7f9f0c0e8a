//! Which files stay within reach, by Landlock (landlock(7)). Connecting to a Unix socket by its path stays possible:
//! Landlock does not govern that. Rights that the running kernel does not know are left out by the crate.

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, LandlockStatus,
    PathBeneath, PathFd, PathFdError, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError,
    Scope,
};
use std::path::PathBuf;
use thiserror::Error;

/// The newest Landlock ABI that the rules are written for.
const NEWEST: ABI = ABI::V6;

/// What stays within reach.
#[derive(Clone, Debug, Default)]
pub struct Reach {
    /// Folders in which files and folders are read, written, made, renamed and removed; never executed.
    pub state: Vec<PathBuf>,
    /// Files, and folders with all that is below them, that are read; passed over where there is none.
    pub read: Vec<PathBuf>,
}

#[derive(Debug, Error)]
pub(crate) enum FilesError {
    #[error(transparent)]
    Path(#[from] PathFdError),
    #[error(transparent)]
    Rules(#[from] RulesetError),
}

/// What is done in a state folder.
fn work() -> BitFlags<AccessFs> {
    AccessFs::ReadFile
        | AccessFs::ReadDir
        | AccessFs::WriteFile
        | AccessFs::Truncate
        | AccessFs::MakeReg
        | AccessFs::RemoveFile
        | AccessFs::MakeDir
        | AccessFs::RemoveDir
        | AccessFs::Refer
}

/// Closes the file system, but for `reach`; answers the Landlock ABI that the kernel enforces, 0 for none.
pub(crate) fn restrict(reach: &Reach) -> Result<u32, FilesError> {
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))?
        .handle_access(AccessNet::from_all(NEWEST))?
        // Not abstract sockets: a service manager's may be one (sd_notify(3)).
        .scope(Scope::Signal)?
        .create()?;
    for folder in &reach.state {
        ruleset = ruleset.add_rule(PathBeneath::new(PathFd::new(folder)?, work()))?;
    }
    for path in reach.read.iter().flat_map(PathFd::new) {
        ruleset = ruleset.add_rule(PathBeneath::new(path, AccessFs::ReadFile))?;
    }
    Ok(match ruleset.restrict_self()?.landlock {
        LandlockStatus::Available { effective_abi, kernel_abi } => {
            kernel_abi.map_or(effective_abi as u32, i32::unsigned_abs)
        }
        LandlockStatus::NotEnabled | LandlockStatus::NotImplemented => 0,
    })
}
