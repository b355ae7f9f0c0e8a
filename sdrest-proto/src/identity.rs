//! Who somebody is, once authd has said so: subject, roles, permissions. Names never merge by accident:
//! a subject says which backend vouches for it.

use crate::{bounds::quote, id::UserId};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// The owner of jobs and pictures: `unix:<uid>:<epoch>`, `internal:<uuid>`, `oidc:<issuer>:<subject>`,
/// `proxy:<value>`, `guest` or `anonymous`. The epoch of a Unix subject moves when authd first sees the uid
/// under another name, so a reused uid does not inherit pictures.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Subject(String);

impl Subject {
    pub fn unix(uid: u32, epoch: u32) -> Self {
        Self(format!("unix:{uid}:{epoch}"))
    }

    /// A record of the internal user database.
    pub fn internal(user: UserId) -> Self {
        Self(format!("internal:{user}"))
    }

    /// The caller of a server without authentication.
    pub fn anonymous() -> Self {
        Self("anonymous".to_owned())
    }

    /// A caller without credentials where guests are allowed.
    pub fn guest() -> Self {
        Self("guest".to_owned())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Subject {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let known = matches!(text.as_str(), "guest" | "anonymous")
            || ["unix:", "internal:", "oidc:", "proxy:"]
                .iter()
                .any(|p| text.starts_with(p) && text.len() > p.len());
        if known && text.len() <= 512 && !text.chars().any(char::is_control) {
            Ok(Self(text))
        } else {
            Err(format!("`sub` must be a subject such as unix:1000:1, got {}", quote(&text)))
        }
    }
}

impl From<Subject> for String {
    fn from(subject: Subject) -> String {
        subject.0
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Each role may do all that the ones before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    Guest,
    User,
    Operator,
    Admin,
}

impl Role {
    pub const ALL: [Self; 4] = [Self::Guest, Self::User, Self::Operator, Self::Admin];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Guest => "guest",
            Self::User => "user",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }

    /// What this role may do, lowest first.
    pub fn permissions(self) -> impl Iterator<Item = Permission> {
        Permission::ALL.into_iter().filter(move |permission| permission.needs() <= self)
    }

    pub fn may(self, permission: Permission) -> bool {
        permission.needs() <= self
    }
}

impl FromStr for Role {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|role| role.as_str() == text).ok_or_else(|| {
            format!("`role` must be guest, user, operator or admin, got {}", quote(text))
        })
    }
}

/// What a route can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Permission {
    ModelsView,
    QueueViewOwn,
    Generate,
    Upscale,
    KeysOwn,
    ModelsManage,
    QueueViewAll,
    QueueCancelAny,
    SystemView,
    KeysAny,
    UsersView,
    SystemAdmin,
}

impl Permission {
    pub const ALL: [Self; 12] = [
        Self::ModelsView,
        Self::QueueViewOwn,
        Self::Generate,
        Self::Upscale,
        Self::KeysOwn,
        Self::ModelsManage,
        Self::QueueViewAll,
        Self::QueueCancelAny,
        Self::SystemView,
        Self::KeysAny,
        Self::UsersView,
        Self::SystemAdmin,
    ];

    /// The name in the answer of a login.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ModelsView => "models_view",
            Self::QueueViewOwn => "queue_view_own",
            Self::Generate => "generate",
            Self::Upscale => "upscale",
            Self::KeysOwn => "keys_own",
            Self::ModelsManage => "models_manage",
            Self::QueueViewAll => "queue_view_all",
            Self::QueueCancelAny => "queue_cancel_any",
            Self::SystemView => "system_view",
            Self::KeysAny => "keys_any",
            Self::UsersView => "users_view",
            Self::SystemAdmin => "system_admin",
        }
    }

    /// The permission of this name.
    pub fn named(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|permission| permission.as_str() == text)
    }

    /// The lowest role that has it.
    pub fn needs(self) -> Role {
        match self {
            Self::ModelsView | Self::QueueViewOwn => Role::Guest,
            Self::Generate | Self::Upscale | Self::KeysOwn => Role::User,
            Self::ModelsManage | Self::QueueViewAll | Self::QueueCancelAny | Self::SystemView => {
                Role::Operator
            }
            Self::KeysAny | Self::UsersView | Self::SystemAdmin => Role::Admin,
        }
    }
}
