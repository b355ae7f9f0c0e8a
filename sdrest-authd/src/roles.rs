//! Which role an account has, by its Unix groups. Every account that PAM vouches for is at least a user; the
//! highest role that one of its groups gives counts.

use sdrest_proto::identity::Role;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Roles {
    pub(crate) admin: Vec<String>,
    pub(crate) operator: Vec<String>,
}

impl Default for Roles {
    fn default() -> Self {
        Self { admin: vec!["sdrest-admin".to_owned()], operator: Vec::new() }
    }
}

impl Roles {
    pub(crate) fn of(&self, groups: &[String]) -> Role {
        let in_any = |named: &[String]| named.iter().any(|name| groups.contains(name));
        if in_any(&self.admin) {
            Role::Admin
        } else if in_any(&self.operator) {
            Role::Operator
        } else {
            Role::User
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_highest_group_counts() {
        let roles = Roles { operator: vec!["video".to_owned()], ..Roles::default() };
        let of =
            |groups: &[&str]| roles.of(&groups.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(of(&["users"]), Role::User);
        assert_eq!(of(&["video", "users"]), Role::Operator);
        assert_eq!(of(&["video", "sdrest-admin"]), Role::Admin);
        assert_eq!(of(&[]), Role::User);
    }
}
