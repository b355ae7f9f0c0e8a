//! Which system calls are refused, by seccomp (seccomp(2)). Two filters are stacked because one filter of the crate has
//! one errno: EPERM for what the process has no use for, and ENOSYS for `clone3`, which hides its flags from a filter
//! and must look unimplemented, so that libc falls back to `clone`. On x86-64 a third closes the other numbers, `x32`.

use nix::libc;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule,
};
use std::collections::BTreeMap;

/// System calls that a daemon of ours has no use for. They answer EPERM.
#[rustfmt::skip]
const DENIED: &[libc::c_long] = &[
    // Other programs, other processes.
    libc::SYS_execve, libc::SYS_execveat, libc::SYS_ptrace, libc::SYS_process_vm_readv, libc::SYS_process_vm_writev,
    libc::SYS_process_madvise, libc::SYS_pidfd_getfd, libc::SYS_kcmp,
    // Namespaces, mounts, roots.
    libc::SYS_unshare, libc::SYS_setns, libc::SYS_mount, libc::SYS_umount2, libc::SYS_move_mount, libc::SYS_open_tree,
    libc::SYS_fsopen, libc::SYS_fsmount, libc::SYS_fsconfig, libc::SYS_fspick, libc::SYS_mount_setattr,
    libc::SYS_pivot_root, libc::SYS_chroot, libc::SYS_open_by_handle_at,
    // Identity.
    libc::SYS_setuid, libc::SYS_setgid, libc::SYS_setreuid, libc::SYS_setregid, libc::SYS_setresuid,
    libc::SYS_setresgid, libc::SYS_setgroups, libc::SYS_capset, libc::SYS_personality,
    // The kernel itself.
    libc::SYS_bpf, libc::SYS_perf_event_open, libc::SYS_userfaultfd, libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter, libc::SYS_io_uring_register, libc::SYS_add_key, libc::SYS_request_key, libc::SYS_keyctl,
    libc::SYS_init_module, libc::SYS_finit_module, libc::SYS_delete_module, libc::SYS_kexec_load,
    libc::SYS_kexec_file_load, libc::SYS_reboot, libc::SYS_swapon, libc::SYS_swapoff, libc::SYS_syslog, libc::SYS_acct,
    libc::SYS_quotactl, libc::SYS_settimeofday, libc::SYS_clock_settime, libc::SYS_clock_adjtime, libc::SYS_adjtimex,
    libc::SYS_sethostname, libc::SYS_setdomainname,
];

/// Namespaces that `clone` must not make (sched.h).
const NEW_NAMESPACES: [libc::c_int; 7] = [
    libc::CLONE_NEWNS,
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
];

/// Puts the filters on this thread.
pub(crate) fn restrict() -> Result<(), seccompiler::Error> {
    let unimplemented = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
    for (calls, errno) in [(denied()?, libc::EPERM), (unimplemented, libc::ENOSYS)] {
        seccompiler::apply_filter(&compile(calls, errno)?)?;
    }
    #[cfg(target_arch = "x86_64")]
    seccompiler::apply_filter(&crate::x32::program())?;
    Ok(())
}

fn denied() -> Result<BTreeMap<i64, Vec<SeccompRule>>, BackendError> {
    let mut denied: BTreeMap<i64, Vec<SeccompRule>> =
        DENIED.iter().map(|call| (*call, Vec::new())).collect();
    let unix = u64::from(libc::AF_UNIX.cast_unsigned());
    let other = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, unix)?;
    for call in [libc::SYS_socket, libc::SYS_socketpair] {
        denied.insert(call, vec![SeccompRule::new(vec![other.clone()])?]);
    }
    let new_namespace = |flag: libc::c_int| {
        let flag = u64::from(flag.cast_unsigned());
        let set = SeccompCmpOp::MaskedEq(flag);
        SeccompRule::new(vec![SeccompCondition::new(0, SeccompCmpArgLen::Qword, set, flag)?])
    };
    let namespaces = NEW_NAMESPACES.map(new_namespace).into_iter().collect::<Result<_, _>>()?;
    denied.insert(libc::SYS_clone, namespaces);
    Ok(denied)
}

fn compile(
    calls: BTreeMap<i64, Vec<SeccompRule>>,
    errno: libc::c_int,
) -> Result<BpfProgram, BackendError> {
    let refuse = SeccompAction::Errno(errno.cast_unsigned());
    SeccompFilter::new(calls, SeccompAction::Allow, refuse, std::env::consts::ARCH.try_into()?)?
        .try_into()
}
