//! Who a new process is: user, groups, capabilities, and whose death it follows.

use anyhow::{Context, Result, bail};
use caps::CapSet;
use nix::{
    sys::{prctl, signal::Signal},
    unistd::{Gid, Pid, Uid, getppid, setgroups, setresgid, setresuid},
};

/// Becomes `uid` for good: no supplementary group, no capability, nothing to regain.
pub(crate) fn become_user(uid: u32, gid: u32) -> Result<()> {
    for capability in caps::runtime::procfs_all_supported(None).unwrap_or_else(|_| caps::all()) {
        // One that is not in the set already needs no dropping.
        if caps::has_cap(None, CapSet::Bounding, capability).unwrap_or(false) {
            caps::drop(None, CapSet::Bounding, capability)
                .with_context(|| format!("{capability} cannot be dropped from the bounding set"))?;
        }
    }
    let (user, group) = (Uid::from_raw(uid), Gid::from_raw(gid));
    setgroups(&[]).context("the supplementary groups cannot be given up")?;
    setresgid(group, group, group).with_context(|| format!("gid {gid} cannot be taken"))?;
    setresuid(user, user, user).with_context(|| format!("uid {uid} cannot be taken"))?;
    Ok(())
}

/// Nothing that this process executes gains a privilege (set-user-ID files, file capabilities).
pub(crate) fn no_new_privileges() -> Result<()> {
    prctl::set_no_new_privs().context("no_new_privs cannot be set")
}

/// Asks for `signal` when the thread that started this process ends. A change of credentials forgets it, so
/// this comes after; and it looks whether the parent was gone before it asked.
pub(crate) fn end_with(parent: i32, signal: Signal) -> Result<()> {
    prctl::set_pdeathsig(signal).context("the death signal cannot be set")?;
    if getppid() != Pid::from_raw(parent) {
        bail!("the process {parent} that started this one has ended");
    }
    Ok(())
}
