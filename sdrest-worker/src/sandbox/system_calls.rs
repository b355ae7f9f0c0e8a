//! Which system calls stay, by seccomp (seccomp(2)), for every thread. Two filters are stacked because one
//! filter of the crate has one errno: the first answers ENOSYS where the C library has an older call to fall
//! back on (libgomp waits for ever on EPERM from clone3), the second is a list of what may be called, and
//! answers EPERM to all else: no new sockets, no exec, no fork, no ptrace, no mounts, no keys, no bpf, no
//! io_uring, no writing to the file system.

use super::{error::SandboxError, files::Devices};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter_all_threads,
};
use std::collections::BTreeMap;

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Newer forms of calls that are on the list below in an older form.
const FALL_BACK: &[i64] = &[
    libc::SYS_clone3,
    libc::SYS_faccessat2,
    libc::SYS_close_range,
    libc::SYS_epoll_pwait2,
    libc::SYS_futex_waitv,
    libc::SYS_io_uring_setup,
];

/// What a server with an engine thread calls, by what for.
#[rustfmt::skip]
const ALLOWED: &[i64] = &[
    // Memory, for weights (mapped files), tensors and oneDNN's generated kernels.
    libc::SYS_brk, libc::SYS_mmap, libc::SYS_munmap, libc::SYS_mremap, libc::SYS_mprotect, libc::SYS_madvise,
    libc::SYS_mincore, libc::SYS_mlock, libc::SYS_munlock, libc::SYS_membarrier, libc::SYS_get_mempolicy,
    libc::SYS_set_mempolicy, libc::SYS_mbind,
    // Threads: libgomp's, tokio's, the engine's. `clone` itself has a rule of its own.
    libc::SYS_exit, libc::SYS_exit_group, libc::SYS_futex, libc::SYS_set_robust_list, libc::SYS_get_robust_list,
    libc::SYS_rseq, libc::SYS_set_tid_address, libc::SYS_gettid, libc::SYS_getpid, libc::SYS_getppid,
    libc::SYS_sched_yield, libc::SYS_sched_getaffinity, libc::SYS_sched_setaffinity, libc::SYS_sched_getparam,
    libc::SYS_sched_getscheduler, libc::SYS_getpriority, libc::SYS_getcpu, libc::SYS_prctl, libc::SYS_restart_syscall,
    // Signals; `tgkill` has a rule of its own.
    libc::SYS_rt_sigaction, libc::SYS_rt_sigprocmask, libc::SYS_rt_sigreturn, libc::SYS_rt_sigtimedwait,
    libc::SYS_sigaltstack,
    // Time and chance.
    libc::SYS_clock_gettime, libc::SYS_clock_getres, libc::SYS_clock_nanosleep, libc::SYS_nanosleep,
    libc::SYS_gettimeofday, libc::SYS_times, libc::SYS_getrandom, libc::SYS_timerfd_create, libc::SYS_timerfd_settime,
    // Who and where am I.
    libc::SYS_uname, libc::SYS_sysinfo, libc::SYS_getrusage, libc::SYS_getcwd, libc::SYS_getuid, libc::SYS_geteuid,
    libc::SYS_getgid, libc::SYS_getegid, libc::SYS_getgroups, libc::SYS_capget,
    // Files: opened for reading only, by the rule of `openat` and by Landlock. The loaders open beneath a folder
    // with `openat2`, whose flags lie in memory where no filter sees them: Landlock alone decides there.
    libc::SYS_openat2, libc::SYS_close, libc::SYS_fstat, libc::SYS_newfstatat, libc::SYS_statx, libc::SYS_statfs, libc::SYS_fstatfs,
    libc::SYS_faccessat, libc::SYS_readlinkat, libc::SYS_getdents64, libc::SYS_lseek, libc::SYS_fadvise64,
    libc::SYS_flock, libc::SYS_fcntl, libc::SYS_dup, libc::SYS_dup3,
    // Reading and writing what is open already.
    libc::SYS_read, libc::SYS_readv, libc::SYS_pread64, libc::SYS_preadv, libc::SYS_write, libc::SYS_writev,
    libc::SYS_pipe2,
    // Waiting.
    libc::SYS_ppoll, libc::SYS_pselect6, libc::SYS_epoll_create1, libc::SYS_epoll_ctl, libc::SYS_epoll_pwait,
    libc::SYS_eventfd2,
    // The sockets that are there: accepting on the one, talking on those.
    libc::SYS_accept4, libc::SYS_recvfrom, libc::SYS_recvmsg, libc::SYS_sendto, libc::SYS_sendmsg, libc::SYS_shutdown,
    libc::SYS_getsockopt, libc::SYS_setsockopt, libc::SYS_getsockname, libc::SYS_getpeername,
];

/// Calls that only this architecture has: older forms that its C library still uses.
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
const ALLOWED_HERE: &[i64] = &[
    libc::SYS_arch_prctl, libc::SYS_stat, libc::SYS_lstat, libc::SYS_access, libc::SYS_readlink, libc::SYS_getdents,
    libc::SYS_poll, libc::SYS_select, libc::SYS_epoll_create, libc::SYS_epoll_wait, libc::SYS_eventfd, libc::SYS_pipe,
    libc::SYS_dup2, libc::SYS_accept, libc::SYS_time,
];
#[cfg(not(target_arch = "x86_64"))]
const ALLOWED_HERE: &[i64] = &[libc::SYS_accept];

/// What NVIDIA's driver calls besides: shared host memory and its events.
const ALLOWED_CUDA: &[i64] =
    &[libc::SYS_memfd_create, libc::SYS_ftruncate, libc::SYS_mlock2, libc::SYS_mknodat];

/// Puts both filters on all threads of the process.
pub(super) fn restrict(devices: Devices) -> Result<(), SandboxError> {
    let architecture = TargetArch::try_from(std::env::consts::ARCH).map_err(wrong)?;
    let unknown = FALL_BACK.iter().map(|call| (*call, Vec::new())).collect();
    let enosys = compile(
        unknown,
        SeccompAction::Allow,
        SeccompAction::Errno(libc::ENOSYS as u32),
        architecture,
    )?;
    let eperm = compile(
        allowed(devices)?,
        SeccompAction::Errno(libc::EPERM as u32),
        SeccompAction::Allow,
        architecture,
    )?;
    apply_filter_all_threads(&enosys).map_err(wrong)?;
    apply_filter_all_threads(&eperm).map_err(wrong)
}

fn compile(
    rules: Rules,
    otherwise: SeccompAction,
    matched: SeccompAction,
    arch: TargetArch,
) -> Result<BpfProgram, SandboxError> {
    SeccompFilter::new(rules, otherwise, matched, arch).and_then(TryInto::try_into).map_err(wrong)
}

fn allowed(devices: Devices) -> Result<Rules, SandboxError> {
    let more = if devices == Devices::Cuda { ALLOWED_CUDA } else { &[] };
    // With EPERM for these, the second filter would hide the first one's ENOSYS.
    let mut rules: Rules = [ALLOWED, ALLOWED_HERE, FALL_BACK, more]
        .concat()
        .into_iter()
        .map(|call| (call, Vec::new()))
        .collect();
    let mut only = |call, conditions| {
        SeccompRule::new(conditions)
            .map(|rule| rules.insert(call, vec![rule]))
            .map(|_| ())
            .map_err(wrong)
    };
    // New threads of this process, never new processes.
    only(libc::SYS_clone, vec![bits(0, libc::CLONE_THREAD as u64, libc::CLONE_THREAD as u64)?])?;
    // Pairs of Unix sockets, which tokio tells itself of signals with; no other new socket at all.
    only(libc::SYS_socketpair, vec![equal(0, libc::AF_UNIX as u64)?])?;
    // Reading one's own limits, never setting any.
    only(libc::SYS_prlimit64, vec![equal_pointer(2, 0)?])?;
    // Signals to itself, as abort() sends.
    only(libc::SYS_tgkill, vec![equal(0, u64::from(std::process::id()))?])?;
    if devices == Devices::None {
        let writing = (libc::O_ACCMODE | libc::O_CREAT | libc::O_TRUNC) as u64;
        only(libc::SYS_openat, vec![bits(2, writing, 0)?])?;
        #[cfg(target_arch = "x86_64")]
        only(libc::SYS_open, vec![bits(1, writing, 0)?])?;
        // Asking whether standard error is a terminal, and making sockets non-blocking; never typing into one.
        let harmless =
            [libc::TCGETS, libc::TIOCGWINSZ, libc::FIONBIO, libc::FIOCLEX, libc::FIONREAD];
        let chain = harmless
            .into_iter()
            .map(|request| SeccompRule::new(vec![equal(1, request)?]).map_err(wrong));
        rules.insert(libc::SYS_ioctl, chain.collect::<Result<_, _>>()?);
    } else {
        // A driver talks to its device nodes, which Landlock lists.
        rules.insert(libc::SYS_ioctl, Vec::new());
        rules.insert(libc::SYS_openat, Vec::new());
        #[cfg(target_arch = "x86_64")]
        rules.insert(libc::SYS_open, Vec::new());
    }
    Ok(rules)
}

/// `argument & mask == value`.
fn bits(argument: u8, mask: u64, value: u64) -> Result<SeccompCondition, SandboxError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(mask), value)
        .map_err(wrong)
}

fn equal(argument: u8, value: u64) -> Result<SeccompCondition, SandboxError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value).map_err(wrong)
}

fn equal_pointer(argument: u8, value: u64) -> Result<SeccompCondition, SandboxError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, value).map_err(wrong)
}

fn wrong(error: impl std::fmt::Display) -> SandboxError {
    SandboxError::Seccomp(error.to_string())
}
