//! Closes this process in before it serves: no new privileges, no capabilities, Landlock (landlock(7)): the
//! state folder and nothing else, seccomp (seccomp(2)): no program is started, no other process touched,
//! no socket but a Unix one made. `Sandboxed` is the proof, and `serve` asks for it; turning the sandbox
//! off is a named choice that is logged and shown in health.
//!
//! Must run while the process has one thread: what it closes is inherited by the threads that come later.

use anyhow::{Context, Result, bail};
use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, LandlockStatus, PathBeneath, PathFd,
    Ruleset, RulesetAttr, RulesetCreatedAttr, Scope,
};
use nix::libc;
use sdrest_proto::health::SandboxReport;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};
use std::{
    collections::BTreeMap,
    fs::File,
    net::UdpSocket,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

/// Proof that the sandbox was closed, or left open by name.
#[derive(Debug)]
pub struct Sandboxed {
    report: SandboxReport,
}

impl Sandboxed {
    /// What the process found when it looked at itself.
    pub fn report(&self) -> &SandboxReport {
        &self.report
    }
}

/// What stays reachable.
#[derive(Debug)]
pub struct Reach {
    /// May be read and written: the job store and the pictures.
    pub state: PathBuf,
}

/// The newest Landlock ABI that the rules are written for; older kernels get what they have.
const LANDLOCK: ABI = ABI::V6;

/// System calls that this process has no use for. They answer EPERM.
const DENIED: &[libc::c_long] = &[
    // Other programs, other processes.
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    // Namespaces, mounts, roots.
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsmount,
    libc::SYS_fsconfig,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_open_by_handle_at,
    // Identity.
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setreuid,
    libc::SYS_setregid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setgroups,
    libc::SYS_capset,
    libc::SYS_personality,
    // The kernel itself.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_syslog,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
];

/// Namespaces that `clone` must not make (sched.h).
const NEW_NAMESPACES: &[libc::c_int] = &[
    libc::CLONE_NEWNS,
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
];

/// What is done first of all, whatever the flags say: no core file and no debugger sees a password.
pub fn forbid_dumps() -> Result<()> {
    use nix::sys::resource::{Resource, setrlimit};
    nix::sys::prctl::set_dumpable(false).context("PR_SET_DUMPABLE failed")?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0).context("RLIMIT_CORE cannot be set")
}

/// Closes the sandbox and looks at it from inside.
pub fn enter(reach: &Reach) -> Result<Sandboxed> {
    let status = File::open("/proc/thread-self/status")
        .context("/proc/thread-self/status cannot be opened")?;
    nix::sys::prctl::set_no_new_privs().context("PR_SET_NO_NEW_PRIVS failed")?;
    drop_capabilities()?;
    let landlock_abi = close_files(&reach.state)?;
    for filter in filters()? {
        seccompiler::apply_filter(&filter).context("the seccomp filter was not taken")?;
    }
    let report = look(&status, landlock_abi, true)?;
    if !report.network_denied
        || report.seccomp != 2
        || !report.no_new_privs
        || report.effective_capabilities != 0
    {
        bail!("the sandbox is not closed: {report:?}");
    }
    Ok(Sandboxed { report })
}

/// Leaves it open; `reason` is the one that the administrator gave.
pub fn leave_open(reason: &str) -> Result<Sandboxed> {
    tracing::warn!(reason, "the sandbox is turned off");
    let status = File::open("/proc/thread-self/status")
        .context("/proc/thread-self/status cannot be opened")?;
    Ok(Sandboxed { report: look(&status, 0, false)? })
}

fn drop_capabilities() -> Result<()> {
    use caps::CapSet;
    // Without CAP_SETPCAP there is nothing in the bounding set that no_new_privs would let us gain.
    if caps::has_cap(None, CapSet::Effective, caps::Capability::CAP_SETPCAP)? {
        for capability in caps::runtime::thread_all_supported() {
            caps::drop(None, CapSet::Bounding, capability)
                .context("a capability stays in the bounding set")?;
        }
    }
    for set in [CapSet::Ambient, CapSet::Inheritable, CapSet::Effective, CapSet::Permitted] {
        // A unit's own system call filter may refuse capset(2); where nothing is left, it is not asked.
        if !caps::read(None, set)?.is_empty() {
            caps::clear(None, set)
                .with_context(|| format!("capabilities stay in the set {set:?}"))?;
        }
    }
    Ok(())
}

/// Gives the ABI that the kernel enforces; 0 where it has no Landlock.
fn close_files(state: &Path) -> Result<u32> {
    let all = AccessFs::from_all(LANDLOCK);
    let ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(all)?
        .handle_access(AccessNet::from_all(LANDLOCK))?
        .scope(Scope::Signal)?
        .create()
        .context("Landlock did not take the rules")?
        .add_rule(PathBeneath::new(PathFd::new(state)?, all & !AccessFs::Execute))?
        // SQLite seeds its generator from it.
        .add_rule(PathBeneath::new(PathFd::new("/dev/urandom")?, AccessFs::ReadFile))?;
    let status = ruleset.restrict_self().context("Landlock was not enforced")?;
    Ok(match status.landlock {
        LandlockStatus::Available { effective_abi, kernel_abi } => {
            kernel_abi.map_or(effective_abi as u32, |kernel| kernel.unsigned_abs())
        }
        LandlockStatus::NotEnabled | LandlockStatus::NotImplemented => {
            tracing::warn!(
                "this kernel has no Landlock: files are kept apart by their owners only"
            );
            0
        }
    })
}

/// One filter per answer: `clone3` hides its flags from a filter and must look unimplemented, so that libc
/// falls back to `clone`.
fn filters() -> Result<[BpfProgram; 2]> {
    let mut denied: BTreeMap<i64, Vec<SeccompRule>> =
        DENIED.iter().map(|call| (*call, Vec::new())).collect();
    let unix = u64::try_from(libc::AF_UNIX)?;
    let other_family = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, unix)?;
    denied.insert(libc::SYS_socket, vec![SeccompRule::new(vec![other_family])?]);
    let new_namespace = |flag: &libc::c_int| -> Result<SeccompRule> {
        let flag = u64::from(flag.cast_unsigned());
        let set =
            SeccompCondition::new(0, SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(flag), flag)?;
        Ok(SeccompRule::new(vec![set])?)
    };
    denied
        .insert(libc::SYS_clone, NEW_NAMESPACES.iter().map(new_namespace).collect::<Result<_>>()?);
    let unimplemented = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    Ok([compile(denied, libc::EPERM)?, compile(unimplemented, libc::ENOSYS)?])
}

fn compile(rules: BTreeMap<i64, Vec<SeccompRule>>, errno: libc::c_int) -> Result<BpfProgram> {
    let matched = SeccompAction::Errno(errno.cast_unsigned());
    let arch = std::env::consts::ARCH.try_into().context("seccomp knows no such processor")?;
    Ok(SeccompFilter::new(rules, SeccompAction::Allow, matched, arch)?.try_into()?)
}

/// Reads what the kernel says of this process. `status` was opened before the files were closed.
fn look(status: &File, landlock_abi: u32, closed: bool) -> Result<SandboxReport> {
    let mut buffer = vec![0; 16 * 1024];
    let length =
        status.read_at(&mut buffer, 0).context("/proc/thread-self/status cannot be read")?;
    let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
    let field = |name: &str| {
        text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("").trim().to_owned()
    };
    Ok(SandboxReport {
        closed,
        no_new_privs: field("NoNewPrivs:") == "1",
        effective_capabilities: u64::from_str_radix(&field("CapEff:"), 16)
            .context("CapEff is not a number")?,
        seccomp: field("Seccomp:").parse().context("Seccomp is not a number")?,
        landlock_abi,
        network_denied: UdpSocket::bind("127.0.0.1:0").is_err(),
    })
}
