//! What the account database (NSS: getpwnam(3), getgrouplist(3)) says of the account that PAM stands for. A
//! lookup that fails is a failed login: somebody whose groups are unknown has no role.

use nix::unistd::{Gid, Group, Uid, User, getgrouplist};
use sdrest_proto::conversation::{AccountFacts, AccountKey, Denial, Verdict};
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

impl AccountError {
    /// A database that does not answer refuses nobody for good; everything else is `refusal`.
    pub(crate) fn as_verdict(&self, refusal: Denial) -> Verdict {
        let denial =
            if matches!(self, Self::Lookup { .. }) { Denial::Unavailable } else { refusal };
        Verdict::Denied { denial, pam_code: 0 }
    }
}

fn lookup(what: &'static str) -> impl Fn(nix::Error) -> AccountError {
    move |cause| AccountError::Lookup { what, cause: cause.to_string() }
}

/// Names that no module may see: some would build a path or a command line from them.
pub(crate) fn plausible(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(['-', '.'])
        && !name
            .chars()
            .any(|c| matches!(c, '/' | ':' | ',') || c.is_control() || c.is_whitespace())
}

/// The facts of the account with this name or number, if it may sign in.
pub(crate) fn find(who: &AccountKey, policy: &AccountPolicy) -> Result<AccountFacts, AccountError> {
    match who {
        AccountKey::Name(name) if plausible(name) => facts(name, policy),
        AccountKey::Name(_) => Err(AccountError::Unknown),
        AccountKey::Uid(uid) => {
            let user = User::from_uid(Uid::from_raw(*uid)).map_err(lookup("the uid"))?;
            facts(&user.ok_or(AccountError::Unknown)?.name, policy)
        }
    }
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
    fn names_that_could_be_paths_or_flags_never_reach_a_module() {
        for bad in ["", "../../etc/passwd", "-x", "alice:0", "alice ", "a/b", "a\nb", ".hidden"] {
            assert!(!plausible(bad), "{bad:?}");
        }
        for good in ["alice", "SD\\win1", "alice@example.org", "m.müller"] {
            assert!(plausible(good), "{good:?}");
        }
    }

    #[test]
    fn root_system_accounts_and_others_are_refused() {
        let policy = AccountPolicy { min_uid: 1000, only_uid: None };
        assert!(matches!(facts("root", &policy), Err(AccountError::Root)));
        assert!(matches!(
            allowed(Uid::from_raw(33), &policy),
            Err(AccountError::BelowMinimum { .. })
        ));
        assert!(matches!(facts("no-such-account-here", &policy), Err(AccountError::Unknown)));
        assert!(matches!(find(&AccountKey::Uid(0), &policy), Err(AccountError::Root)));
        let nobody = AccountKey::Uid(4_000_000_001);
        assert!(matches!(find(&nobody, &policy), Err(AccountError::Unknown)));
        let path = AccountKey::Name("../../etc/passwd".to_owned());
        assert!(matches!(find(&path, &policy), Err(AccountError::Unknown)));
        let one = AccountPolicy { min_uid: 1000, only_uid: Some(33) };
        assert!(allowed(Uid::from_raw(33), &one).is_ok());
        assert!(matches!(allowed(Uid::from_raw(1001), &one), Err(AccountError::NotTheOne { .. })));
        let root = AccountPolicy { min_uid: 0, only_uid: Some(0) };
        assert!(matches!(allowed(Uid::from_raw(0), &root), Err(AccountError::Root)));
    }
}
