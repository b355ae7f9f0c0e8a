//! Which files stay within reach, by Landlock (landlock(7)): models to read, and the few files of /proc and
//! /sys that libtorch and this worker look at. Everything else, TCP, and signals and abstract sockets to
//! other processes, is closed. Rights that the running kernel does not know are left out by the crate.

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, LandlockStatus, PathBeneath, PathFd,
    RestrictSelfAttr, Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError,
    RulesetStatus, Scope,
};
use std::path::{Path, PathBuf};

/// What stays open. Paths that do not exist are passed over.
#[derive(Clone, Debug, Default)]
pub struct Openings {
    /// Read, never written, never executed.
    pub models: Vec<PathBuf>,
    /// What the device driver needs, where there is one.
    pub devices: Devices,
}

/// Whose driver works inside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Devices {
    #[default]
    None,
    /// NVIDIA's: device nodes, their ioctls, and libraries that cuDNN and cuBLAS open when first needed.
    Cuda,
}

/// ATen and libgomp choose kernels and counts by these, and torch's generator opens the last one before its
/// first seed; the rest of /proc, other processes' folders first of all, is closed.
const FACTS: [&str; 7] = [
    "/proc/self",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/sys/vm/overcommit_memory",
    "/sys/devices/system/cpu",
    "/sys/devices/system/node",
    "/dev/urandom",
];

const CUDA_FACTS: [&str; 5] = [
    "/proc/driver/nvidia",
    "/proc/devices",
    "/proc/modules",
    "/sys/bus/pci/devices",
    "/sys/devices",
];

/// Where the driver's and CUDA's libraries lie; read and mapped executable.
const CUDA_LIBRARIES: [&str; 6] =
    ["/usr/lib", "/usr/lib64", "/lib", "/lib64", "/usr/local", "/opt"];

/// Closes the file system, but for `openings`; answers the Landlock ABI that is in force, 0 for none.
pub(super) fn restrict(openings: &Openings) -> Result<u32, RulesetError> {
    let newest = ABI::V10;
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let mut ruleset = Ruleset::default()
        .handle_access(AccessFs::from_all(newest))?
        .handle_access(AccessNet::from_all(newest))?
        .scope(Scope::from_all(newest))?
        .create()?;
    for folder in &openings.models {
        ruleset = allow(ruleset, folder, read)?;
    }
    for fact in FACTS {
        ruleset = allow(ruleset, fact, read)?;
    }
    if openings.devices == Devices::Cuda {
        ruleset = allow_cuda(ruleset)?;
    }
    let status = ruleset.all_threads(true)?.restrict_self()?;
    Ok(match (status.ruleset, status.landlock) {
        (RulesetStatus::NotEnforced, _) => 0,
        (_, LandlockStatus::Available { effective_abi, .. }) => effective_abi as u32,
        (_, LandlockStatus::NotEnabled | LandlockStatus::NotImplemented) => 0,
    })
}

fn allow_cuda(mut ruleset: RulesetCreated) -> Result<RulesetCreated, RulesetError> {
    for fact in CUDA_FACTS {
        ruleset = allow(ruleset, fact, AccessFs::ReadFile | AccessFs::ReadDir)?;
    }
    for folder in CUDA_LIBRARIES {
        ruleset =
            allow(ruleset, folder, AccessFs::ReadFile | AccessFs::ReadDir | AccessFs::Execute)?;
    }
    let libtorch = torch_shim::libtorch_path();
    if let Some(folder) = libtorch.as_deref().and_then(Path::parent) {
        ruleset =
            allow(ruleset, folder, AccessFs::ReadFile | AccessFs::ReadDir | AccessFs::Execute)?;
    }
    let nodes = std::fs::read_dir("/dev").into_iter().flatten().flatten().map(|entry| entry.path());
    for node in nodes.filter(|node| node.as_os_str().as_encoded_bytes().starts_with(b"/dev/nvidia"))
    {
        ruleset =
            allow(ruleset, node, AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::IoctlDev)?;
    }
    Ok(ruleset)
}

/// Adds a rule for `path` where it exists; rights that only folders have are left out for files.
fn allow(
    ruleset: RulesetCreated,
    path: impl AsRef<Path>,
    rights: BitFlags<AccessFs>,
) -> Result<RulesetCreated, RulesetError> {
    let path = path.as_ref();
    let Ok(opened) = PathFd::new(path) else { return Ok(ruleset) };
    let rights = if path.is_dir() { rights } else { rights & AccessFs::from_file(ABI::V10) };
    ruleset.add_rule(PathBeneath::new(opened, rights))
}
