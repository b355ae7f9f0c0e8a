//! What authd shuts behind itself before it serves: new privileges, every capability, the file system but its state
//! folders and reading in /etc (Landlock, landlock(7)), and the calls that it has no use for (seccomp(2)). `Sandboxed` is the proof, and
//! serving asks for it; only a named, logged choice makes one without closing anything.

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, LandlockStatus, PathBeneath, PathFd,
    Ruleset, RulesetAttr, RulesetCreatedAttr, Scope,
};
use nix::{libc, sys::prctl};
use sdrest_proto::health::SandboxReport;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};
use std::{collections::BTreeMap, path::Path};
use thiserror::Error;

#[derive(Debug, Error)]
#[error("the sandbox cannot be closed: {what}: {cause}")]
pub(crate) struct SandboxError {
    what: &'static str,
    cause: String,
}

fn failed<E: std::fmt::Display>(what: &'static str) -> impl Fn(E) -> SandboxError {
    move |cause| SandboxError { what, cause: cause.to_string() }
}

/// Proof that the sandbox is closed, or was left open by name.
#[derive(Clone, Debug)]
pub(crate) struct Sandboxed {
    report: SandboxReport,
}

impl Sandboxed {
    /// What the process found when it looked at itself from inside.
    pub(crate) fn report(&self) -> &SandboxReport {
        &self.report
    }

    /// Closes nothing; the reason is logged.
    pub(crate) fn left_open(reason: &str) -> Self {
        tracing::warn!("the sandbox is off (--no-sandbox): {}", crate::audit::clean(reason));
        Self { report: look(0, SandboxState::Open) }
    }
}

/// Calls that authd never makes, with what they could be used for; each answers EPERM.
const REFUSED: &[i64] = &[
    // Other programs.
    libc::SYS_execve,
    libc::SYS_execveat,
    // Other processes' memory.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    // Namespaces and mounts.
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_fsopen,
    libc::SYS_fsmount,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    // The kernel's wider surfaces.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_sethostname,
    libc::SYS_personality,
    // Other identities.
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setreuid,
    libc::SYS_setregid,
    libc::SYS_setgroups,
    libc::SYS_capset,
];

/// Closes the sandbox. Must run while there is one thread.
pub(crate) fn close(state_dirs: &[&Path]) -> Result<Sandboxed, SandboxError> {
    drop_capabilities()?;
    let abi = restrict_files(state_dirs)?;
    let filter = filter().map_err(failed("seccomp filter"))?;
    seccompiler::apply_filter_all_threads(&filter).map_err(failed("seccomp"))?;
    Ok(Sandboxed { report: look(abi, SandboxState::Closed) })
}

fn drop_capabilities() -> Result<(), SandboxError> {
    let failed = |what| failed::<caps::errors::CapsError>(what);
    if caps::has_cap(None, caps::CapSet::Effective, caps::Capability::CAP_SETPCAP)
        .map_err(failed("capabilities"))?
    {
        caps::clear(None, caps::CapSet::Bounding).map_err(failed("bounding set"))?;
    }
    for (set, name) in [
        (caps::CapSet::Ambient, "ambient set"),
        (caps::CapSet::Inheritable, "inheritable set"),
        (caps::CapSet::Effective, "effective set"),
        (caps::CapSet::Permitted, "permitted set"),
    ] {
        // A unit's own system call filter may refuse capset(2); where nothing is left, it is not asked.
        if !caps::read(None, set).map_err(failed(name))?.is_empty() {
            caps::clear(None, set).map_err(failed(name))?;
        }
    }
    prctl::set_no_new_privs()
        .map_err(|cause| SandboxError { what: "no_new_privs", cause: cause.to_string() })
}

/// The state folders may be written, this process's own status and what is in /etc read, and nothing else opened:
/// members of the administrators' group are looked up at every connection, and /etc/group is a new file after each
/// change. Connecting to a Unix socket by its path stays possible: Landlock does not govern that.
fn restrict_files(state_dirs: &[&Path]) -> Result<u32, SandboxError> {
    let abi = ABI::V6;
    let files = AccessFs::ReadFile
        | AccessFs::ReadDir
        | AccessFs::WriteFile
        | AccessFs::Truncate
        | AccessFs::MakeReg
        | AccessFs::RemoveFile;
    let ruleset = || -> Result<_, landlock::RulesetError> {
        let status = PathFd::new("/proc/self/status");
        let mut ruleset = Ruleset::default()
            .set_compatibility(CompatLevel::BestEffort)
            .handle_access(AccessFs::from_all(abi))?
            .handle_access(AccessNet::from_all(abi))?
            // Not abstract sockets: a service manager's may be one (sd_notify(3)).
            .scope(Scope::Signal)?
            .create()?;
        for state in state_dirs.iter().flat_map(PathFd::new) {
            ruleset = ruleset.add_rule(PathBeneath::new(state, files))?;
        }
        if let Ok(etc) = PathFd::new("/etc") {
            ruleset = ruleset.add_rule(PathBeneath::new(etc, AccessFs::ReadFile))?;
        }
        if let Ok(status) = status {
            ruleset = ruleset.add_rule(PathBeneath::new(status, AccessFs::ReadFile))?;
        }
        ruleset.restrict_self()
    };
    let status = ruleset().map_err(failed("Landlock"))?;
    Ok(match status.landlock {
        LandlockStatus::Available { effective_abi, .. } => {
            u32::try_from(effective_abi as i32).unwrap_or(0)
        }
        _ => 0,
    })
}

fn filter() -> Result<BpfProgram, seccompiler::BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        REFUSED.iter().map(|call| (*call, Vec::new())).collect();
    let not_unix =
        SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, libc::AF_UNIX as u64)?;
    for call in [libc::SYS_socket, libc::SYS_socketpair] {
        rules.insert(call, vec![SeccompRule::new(vec![not_unix.clone()])?]);
    }
    let refuse = SeccompAction::Errno(libc::EPERM as u32);
    SeccompFilter::new(rules, SeccompAction::Allow, refuse, std::env::consts::ARCH.try_into()?)?
        .try_into()
}

#[derive(PartialEq, Eq)]
enum SandboxState {
    Open,
    Closed,
}

/// Reads back what the kernel says of this process.
fn look(landlock_abi: u32, state: SandboxState) -> SandboxReport {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| {
        status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim).unwrap_or_default()
    };
    SandboxReport {
        closed: state == SandboxState::Closed,
        no_new_privs: field("NoNewPrivs:") == "1",
        effective_capabilities: u64::from_str_radix(field("CapEff:"), 16).unwrap_or(u64::MAX),
        seccomp: field("Seccomp:").parse().unwrap_or(0),
        landlock_abi,
        network_denied: std::net::UdpSocket::bind((std::net::Ipv4Addr::LOCALHOST, 0)).is_err(),
    }
}
