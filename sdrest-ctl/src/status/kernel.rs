//! What the kernel says of a process, from /proc/PID (proc_pid_status(5), namespaces(7)): this and not the
//! process's own word is shown as its sandbox.

use crate::users;
use std::fs;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) pid: u32,
    pub(super) uid: u32,
    pub(super) user: String,
    pub(super) effective_capabilities: u64,
    pub(super) no_new_privs: bool,
    /// 0 off, 2 filter.
    pub(super) seccomp: u8,
    /// Whether it is in another network namespace than the caller; unknown without the right to look.
    pub(super) own_network: Option<bool>,
}

/// The first process of a unit's control group (cgroups(7)), under the slice that the units share; nothing where
/// systemd does not run it.
pub(super) fn first_of_unit(unit: &str) -> Option<u32> {
    ["/sys/fs/cgroup", "/sys/fs/cgroup/systemd"].iter().find_map(|root| {
        let members = fs::read_to_string(format!("{root}/sdrest.slice/{unit}/cgroup.procs"));
        members.ok()?.lines().next()?.parse().ok()
    })
}

/// Nothing where there is no such process.
pub(super) fn look(pid: u32) -> Option<Seen> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let field = |name: &str| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .map(str::trim)
            .unwrap_or_default()
    };
    let uid = field("Uid").split_whitespace().nth(1)?.parse().ok()?;
    let namespace = |of: &str| fs::read_link(format!("/proc/{of}/ns/net")).ok();
    let own_network =
        namespace(&pid.to_string()).zip(namespace("self")).map(|(its, ours)| its != ours);
    Some(Seen {
        pid,
        uid,
        user: users::name_of(uid).unwrap_or_else(|| uid.to_string()),
        effective_capabilities: u64::from_str_radix(field("CapEff"), 16).ok()?,
        no_new_privs: field("NoNewPrivs") == "1",
        seccomp: field("Seccomp").parse().unwrap_or(0),
        own_network,
    })
}
