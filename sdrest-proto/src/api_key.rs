//! API keys: how they are written, and what authd tells of them. A key is `sdr_` and 60 characters of base64url: 16
//! bytes of id, 24 random bytes, and a checksum of 5 bytes, so that a mistyped or invented key costs authd nothing
//! and secret scanners can be sure. authd keeps only a hash of it.

use crate::{
    bounds::quote,
    id::KeyId,
    identity::{Permission, Role, Subject},
    secret::ApiKey,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// What every key begins with.
pub const PREFIX: &str = "sdr_";
const ID: usize = 16;
const SECRET: usize = 24;
const CHECKSUM: usize = 5;
/// The longest life of a key in days.
pub const MAX_DAYS: u32 = 3650;
/// The life of a key for which nothing else was asked, in days.
pub const DEFAULT_DAYS: u32 = 90;

impl ApiKey {
    /// Writes a key down.
    pub fn compose(id: KeyId, secret: &[u8; SECRET]) -> Self {
        let mut bytes = Vec::with_capacity(ID + SECRET + CHECKSUM);
        bytes.extend_from_slice(id.as_bytes());
        bytes.extend_from_slice(secret);
        let sum = checksum(&bytes);
        bytes.extend_from_slice(&sum);
        let text = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(&bytes));
        zeroize::Zeroize::zeroize(&mut bytes);
        Self::new(text)
    }

    /// The id in a key that is written as keys are; says nothing of whether there is such a key.
    pub fn id(&self) -> Option<KeyId> {
        let encoded = self.expose("its form is checked").strip_prefix(PREFIX)?;
        let mut bytes = URL_SAFE_NO_PAD.decode(encoded).ok()?;
        let id = (bytes.len() == ID + SECRET + CHECKSUM).then(|| {
            let (body, sum) = bytes.split_at(ID + SECRET);
            let id: [u8; ID] = body.get(..ID)?.try_into().ok()?;
            (checksum(body) == *sum).then(|| KeyId::from_bytes(id))
        });
        zeroize::Zeroize::zeroize(&mut bytes);
        id.flatten()
    }
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM] {
    let digest = Sha256::digest(bytes);
    let mut sum = [0; CHECKSUM];
    sum.copy_from_slice(&digest[..CHECKSUM]);
    sum
}

/// What a key may be used for: some of its owner's permissions, or all of them. Never keys or accounts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Permission>", into = "Vec<Permission>")]
pub struct Scopes(Vec<Permission>);

impl Scopes {
    /// Permissions that no key has, whoever owns it: with them a stolen key could make others.
    pub const NEVER: [Permission; 4] =
        [Permission::KeysOwn, Permission::KeysAny, Permission::UsersView, Permission::SystemAdmin];

    /// Everything that a key of this role can have.
    pub fn all(role: Role) -> Self {
        Self(role.permissions().filter(|permission| !Self::NEVER.contains(permission)).collect())
    }

    pub fn contains(&self, permission: Permission) -> bool {
        self.0.contains(&permission)
    }

    pub fn iter(&self) -> impl Iterator<Item = Permission> {
        self.0.iter().copied()
    }
}

impl TryFrom<Vec<Permission>> for Scopes {
    type Error = String;
    fn try_from(mut permissions: Vec<Permission>) -> Result<Self, String> {
        if let Some(never) = permissions.iter().find(|one| Self::NEVER.contains(one)) {
            return Err(format!(
                "`scopes` must be permissions that a key can have, got {}",
                quote(never.as_str())
            ));
        }
        permissions.sort_by_key(|permission| permission.as_str());
        permissions.dedup();
        Ok(Self(permissions))
    }
}

impl From<Scopes> for Vec<Permission> {
    fn from(scopes: Scopes) -> Self {
        scopes.0
    }
}

/// A name that an owner gives to a key: 1 to 64 characters without control characters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KeyName(String);

impl KeyName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for KeyName {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        if (1..=64).contains(&text.chars().count()) && !text.chars().any(char::is_control) {
            return Ok(Self(text));
        }
        Err(format!(
            "`name` must be 1 to 64 characters without control characters, got {}",
            quote(&text)
        ))
    }
}

impl From<KeyName> for String {
    fn from(name: KeyName) -> Self {
        name.0
    }
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewKey {
    pub name: KeyName,
    /// Nothing: all that the owner's role can give to a key.
    pub scopes: Option<Scopes>,
    /// Between 1 and `MAX_DAYS`; nothing: `DEFAULT_DAYS`.
    pub expires_in_days: Option<u32>,
}

/// The only answer that ever holds the key itself.
#[derive(Debug, Serialize, Deserialize)]
pub struct MadeKey {
    pub key: ApiKey,
    pub info: KeyInfo,
}

/// A key as lists show it. Times in Unix seconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyInfo {
    pub id: KeyId,
    pub name: KeyName,
    pub owner: Subject,
    pub username: String,
    pub scopes: Scopes,
    pub created: u64,
    pub expires: u64,
    /// To the minute; nothing before the first use.
    pub last_used: Option<u64>,
}

/// Who acts with a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyHolder {
    pub id: KeyId,
    pub subject: Subject,
    pub username: String,
    /// The owner's role now.
    pub role: Role,
    /// Of these, the key may use what the role still has.
    pub scopes: Scopes,
    pub expires: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_names_its_id_and_a_changed_one_names_nothing() {
        let id = KeyId::random();
        let key = ApiKey::compose(id, &[7; SECRET]);
        assert_eq!(key.id(), Some(id));
        let text = key.expose("changed in a test").to_owned();
        assert_eq!(text.len(), PREFIX.len() + 60);
        for at in PREFIX.len()..text.len() {
            let mut other = text.clone().into_bytes();
            other[at] = if other[at] == b'A' { b'B' } else { b'A' };
            let other = ApiKey::new(String::from_utf8(other).unwrap());
            assert_eq!(other.id(), None, "character {at}");
        }
        for bad in ["", "sdr_", "sdr_AAAA", &text[4..], &format!("{text}A")] {
            assert_eq!(ApiKey::new(bad.to_owned()).id(), None, "{bad:?}");
        }
    }

    #[test]
    fn no_key_can_make_keys_or_touch_accounts() {
        for role in Role::ALL {
            let scopes = Scopes::all(role);
            assert!(Scopes::NEVER.iter().all(|never| !scopes.contains(*never)));
        }
        let error = Scopes::try_from(vec![Permission::KeysOwn]).unwrap_err();
        assert!(error.contains("keys_own"), "{error}");
        let scopes = Scopes::try_from(vec![Permission::Generate; 3]).unwrap();
        assert_eq!(scopes.iter().collect::<Vec<_>>(), [Permission::Generate]);
    }
}
