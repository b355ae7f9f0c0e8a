//! Which system accounts may sign in here, and as what: the lists of allowed and denied users and groups, and the
//! role by Unix groups. Asked after a correct password, at every refresh, and when a key is used; internal users are
//! ruled by their own record instead.

use crate::roles::Roles;
use sdrest_proto::identity::Role;

/// A name on a deny list is refused; where there is an allow list, a name that is on none is refused too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Admission {
    pub(crate) allow_users: Vec<String>,
    pub(crate) allow_groups: Vec<String>,
    pub(crate) deny_users: Vec<String>,
    pub(crate) deny_groups: Vec<String>,
    pub(crate) roles: Roles,
}

impl Admission {
    pub(crate) fn admits(&self, name: &str, groups: &[String]) -> bool {
        let user = |list: &[String]| list.iter().any(|listed| listed == name);
        let group = |list: &[String]| list.iter().any(|listed| groups.contains(listed));
        let open = self.allow_users.is_empty() && self.allow_groups.is_empty();
        let denied = user(&self.deny_users) || group(&self.deny_groups);
        !denied && (open || user(&self.allow_users) || group(&self.allow_groups))
    }

    /// The role of an account that is admitted.
    pub(crate) fn role(&self, name: &str, groups: &[String]) -> Option<Role> {
        self.admits(name, groups).then(|| self.roles.of(groups))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_denial_wins_and_an_allow_list_shuts_the_others_out() {
        let list = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        let staff = list(&["staff"]);
        assert!(Admission::default().admits("alice", &[]));
        let some = Admission {
            allow_users: list(&["alice"]),
            allow_groups: list(&["staff"]),
            deny_users: list(&["mallory"]),
            deny_groups: list(&["guests"]),
            ..Admission::default()
        };
        assert!(some.admits("alice", &[]) && some.admits("bob", &staff));
        assert!(!some.admits("bob", &[]) && !some.admits("ALICE", &[]));
        assert!(!some.admits("mallory", &staff));
        assert!(!some.admits("alice", &list(&["guests"])));
        assert_eq!(some.role("bob", &staff), Some(Role::User));
        assert_eq!(some.role("bob", &[]), None);
    }
}
