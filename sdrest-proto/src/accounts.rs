//! Records of the internal user database, as administrators see them. Passwords never come back out.

use crate::{bounds::quote, id::UserId, identity::Role, secret::Answer};
use serde::{Deserialize, Serialize};

/// The name of an internal user: 1 to 32 characters, a small letter first, then small letters, digits, `_`, `.`, `-`.
/// Narrow on purpose: no name can be a path, a flag, or look like another one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UserName(String);

impl UserName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for UserName {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let first = text.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
        let rest = text.bytes().all(|b| {
            b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'.' | b'-')
        });
        if first && rest && text.len() <= 32 {
            return Ok(Self(text));
        }
        Err(format!(
            "`username` must be 1 to 32 of a-z, 0-9, `_`, `.` and `-`, with a letter or `_` first, got {}",
            quote(&text)
        ))
    }
}

impl From<UserName> for String {
    fn from(name: UserName) -> Self {
        name.0
    }
}

/// Whether an internal user may sign in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UserState {
    Enabled,
    Disabled,
}

/// A record to be made.
#[derive(Debug, Serialize, Deserialize)]
pub struct NewUser {
    pub username: UserName,
    pub password: Answer,
    pub role: Role,
}

/// A record as lists show it. Times in Unix seconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserInfo {
    pub id: UserId,
    pub username: UserName,
    pub role: Role,
    pub state: UserState,
    pub created: u64,
    pub password_changed: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_be_paths_or_flags_are_refused() {
        for bad in ["", "-x", "../a", "Alice", "a b", "a:0", "a\n", "ä", "1a", &"a".repeat(33)] {
            assert!(UserName::try_from(bad.to_owned()).is_err(), "{bad:?}");
        }
        for good in ["a", "alice", "_svc", "m.mueller-2"] {
            assert!(UserName::try_from(good.to_owned()).is_ok(), "{good:?}");
        }
    }
}
