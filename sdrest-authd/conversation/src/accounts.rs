//! What the account database (NSS: getpwnam(3), getgrouplist(3)) says of the account that PAM stands for. A
//! lookup that fails is a failed login: somebody whose groups are unknown has no role.

use nix::unistd::{Gid, Group, Uid, User, getgrouplist};
use sdrest_proto::conversation::AccountFacts;
use std::{collections::BTreeSet, ffi::CString};
use thiserror::Error;

/// More groups than this are not passed on; the frame would not hold them.
const MAX_GROUPS: usize = 2048;

/// Which accounts may sign in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AccountPolicy {
    /// The lowest uid; system accounts are below.
    pub(crate) min_uid: u32,
    /// One account and no other: what a server without privileges can vouch for.
    pub(crate) only_uid: Option<u32>,
}

#[derive(Debug, Error)]
pub(crate) enum AccountError {
    #[error("the account database has no account of the name that PAM gave")]
    Unknown,
    #[error(
        "PAM's name for the account is not the one that the account database has for uid {uid}"
    )]
    NotCanonical { uid: u32 },
    #[error("uid 0 never signs in")]
    Root,
    #[error("uid {uid} is below --min-uid {min}")]
    BelowMinimum { uid: u32, min: u32 },
    #[error("uid {uid} is not the one account of --only-uid")]
    NotTheOne { uid: u32 },
    #[error("the account database did not answer about {what}: {cause}")]
    Lookup { what: &'static str, cause: String },
}

fn lookup(what: &'static str) -> impl Fn(nix::Error) -> AccountError {
    move |cause| AccountError::Lookup { what, cause: cause.to_string() }
}

/// The account's facts, if it may sign in.
pub(crate) fn facts(name: &str, policy: &AccountPolicy) -> Result<AccountFacts, AccountError> {
    let user = User::from_name(name).map_err(lookup("the name"))?.ok_or(AccountError::Unknown)?;
    let uid = user.uid.as_raw();
    let canonical =
        User::from_uid(user.uid).map_err(lookup("the uid"))?.ok_or(AccountError::Unknown)?;
    if user.name != name || canonical.name != name {
        return Err(AccountError::NotCanonical { uid });
    }
    allowed(user.uid, policy)?;
    Ok(AccountFacts {
        username: user.name.clone(),
        uid,
        gid: user.gid.as_raw(),
        groups: groups(name, user.gid)?,
    })
}

fn allowed(uid: Uid, policy: &AccountPolicy) -> Result<(), AccountError> {
    let raw = uid.as_raw();
    match policy.only_uid {
        _ if uid.is_root() => Err(AccountError::Root),
        // The one account is named outright, so it may be below the minimum.
        Some(only) if only == raw => Ok(()),
        Some(_) => Err(AccountError::NotTheOne { uid: raw }),
        None if raw < policy.min_uid => {
            Err(AccountError::BelowMinimum { uid: raw, min: policy.min_uid })
        }
        None => Ok(()),
    }
}

/// The names of all groups, the primary one included. A number without a name cannot match a role.
fn groups(name: &str, primary: Gid) -> Result<Vec<String>, AccountError> {
    let name = CString::new(name).map_err(|_| AccountError::Unknown)?;
    let mut names = BTreeSet::new();
    for gid in getgrouplist(&name, primary).map_err(lookup("the groups"))? {
        if let Some(group) = Group::from_gid(gid).map_err(lookup("a group"))? {
            names.insert(group.name);
        }
        if names.len() > MAX_GROUPS {
            return Err(AccountError::Lookup {
                what: "the groups",
                cause: format!("more than {MAX_GROUPS}"),
            });
        }
    }
    Ok(names.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_system_accounts_and_others_are_refused() {
        let policy = AccountPolicy { min_uid: 1000, only_uid: None };
        assert!(matches!(facts("root", &policy), Err(AccountError::Root)));
        assert!(matches!(
            allowed(Uid::from_raw(33), &policy),
            Err(AccountError::BelowMinimum { .. })
        ));
        assert!(matches!(facts("no-such-account-here", &policy), Err(AccountError::Unknown)));
        let one = AccountPolicy { min_uid: 1000, only_uid: Some(33) };
        assert!(allowed(Uid::from_raw(33), &one).is_ok());
        assert!(matches!(allowed(Uid::from_raw(1001), &one), Err(AccountError::NotTheOne { .. })));
        let root = AccountPolicy { min_uid: 0, only_uid: Some(0) };
        assert!(matches!(allowed(Uid::from_raw(0), &root), Err(AccountError::Root)));
    }
}
