//! Who the processes of `serve` are: each its own system user, or all of them the caller.

use crate::users::{self, SystemUsers};
use anyhow::Result;
use std::fs;

/// Who the processes are.
#[derive(Clone, Debug)]
pub(crate) enum Privilege {
    /// A user, a file system view and no network for each.
    Separate(SystemUsers),
    /// All run as the caller. `namespaces`: whether logins can still get a PID namespace of their own.
    Caller { uid: u32, namespaces: bool },
}

impl Privilege {
    /// Whether a login can get namespaces of its own: `serve` is root, at least in its own user namespace.
    pub(crate) fn own_namespaces(&self) -> bool {
        match self {
            Self::Separate(_) => true,
            Self::Caller { namespaces, .. } => *namespaces,
        }
    }
}

pub(crate) fn settle(notes: &mut Vec<String>) -> Result<Privilege> {
    let caller = nix::unistd::geteuid();
    if caller.is_root() {
        let all = maps_all_users();
        if all {
            return Ok(Privilege::Separate(users::system_users()?));
        }
        notes.push("in a user namespace with one user, all processes run as that user".to_owned());
        return Ok(Privilege::Caller { uid: 0, namespaces: true });
    }
    let name = users::name_of(caller.as_raw()).unwrap_or_else(|| caller.to_string());
    notes.push(format!(
        "not root: all processes run as {name}; what parts them is each one's own sandbox"
    ));
    Ok(Privilege::Caller { uid: caller.as_raw(), namespaces: false })
}

/// Whether this user namespace knows the ids of system users (user_namespaces(7)).
fn maps_all_users() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.lines().any(|line| {
        line.split_whitespace()
            .nth(2)
            .and_then(|n| n.parse::<u64>().ok())
            .is_some_and(|n| n >= 60_000)
    })
}
