//! A caller, once it is settled who that is. The fields are private and the constructors stay inside
//! `auth`, so a `User` is always the outcome of the gate.

use sdrest_proto::{
    api_key::{KeyHolder, Scopes},
    authd::Claims,
    id::SessionId,
    identity::{Permission, Role, Subject},
    secret::ApiKey,
};
use std::sync::{Arc, LazyLock};

/// How the holder of a key proved who they are.
static BY_KEY: LazyLock<[String; 1]> = LazyLock::new(|| ["key".to_owned()]);

/// An authenticated caller, a guest, or `anonymous` on a server without authentication.
#[derive(Clone, Debug)]
pub struct User {
    subject: Subject,
    name: String,
    role: Role,
    standing: Standing,
}

#[derive(Clone, Debug)]
enum Standing {
    /// Came with an access token of this session, which ends at `expires` (Unix seconds).
    SignedIn { session: SessionId, expires: u64, methods: Vec<String> },
    /// Came with an API key.
    Key(Arc<HeldKey>),
    /// Came without credentials where that is allowed, for reading or for generation.
    Guest { generates: bool },
    /// The server has authentication turned off.
    Anonymous,
}

/// A key, kept so that a long answer can ask again whether it still counts.
#[derive(Debug)]
struct HeldKey {
    key: ApiKey,
    scopes: Scopes,
    expires: u64,
}

impl User {
    /// The owner of a key, with what the key may do of what the owner's role may do.
    pub(super) fn from_key(holder: KeyHolder, key: ApiKey) -> Self {
        let KeyHolder { subject, username, role, scopes, expires, .. } = holder;
        let standing = Standing::Key(Arc::new(HeldKey { key, scopes, expires }));
        Self { subject, name: username, role, standing }
    }

    pub(super) fn from_claims(claims: &Claims) -> Option<Self> {
        let role = claims.roles.iter().copied().max()?;
        let standing = Standing::SignedIn {
            session: claims.sid,
            expires: claims.exp,
            methods: claims.amr.clone(),
        };
        Some(Self { subject: claims.sub.clone(), name: claims.name.clone(), role, standing })
    }

    pub(super) fn guest() -> Self {
        Self {
            subject: Subject::guest(),
            name: "guest".to_owned(),
            role: Role::Guest,
            standing: Standing::Guest { generates: false },
        }
    }

    /// A guest at a generation route of a server that opened everything.
    pub(super) fn generating_guest() -> Self {
        Self { standing: Standing::Guest { generates: true }, ..Self::guest() }
    }

    pub(super) fn anonymous() -> Self {
        let name = "anonymous".to_owned();
        Self {
            subject: Subject::anonymous(),
            name,
            role: Role::Admin,
            standing: Standing::Anonymous,
        }
    }

    /// The owner that jobs and pictures are stored under.
    pub fn subject(&self) -> &Subject {
        &self.subject
    }

    /// For display only; names are not identities.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn role(&self) -> Role {
        self.role
    }

    /// `anonymous` may do everything but manage accounts and keys.
    pub fn may(&self, permission: Permission) -> bool {
        match self.standing {
            Standing::Anonymous => !matches!(
                permission,
                Permission::KeysOwn | Permission::KeysAny | Permission::UsersView
            ),
            Standing::Guest { generates: true } if permission == Permission::Generate => true,
            Standing::Key(ref held) => {
                self.role.may(permission) && held.scopes.contains(permission)
            }
            Standing::SignedIn { .. } | Standing::Guest { .. } => self.role.may(permission),
        }
    }

    /// Why not, for a caller who may not do something.
    pub(super) fn lacks(&self, permission: Permission) -> String {
        let (role, wanted) = (self.role.as_str(), permission.as_str());
        match &self.standing {
            Standing::Anonymous => {
                "this server has no authentication, and so no accounts and no keys".to_owned()
            }
            Standing::Key(_) if Scopes::NEVER.contains(&permission) => format!(
                "an API key never has the permission `{wanted}`: sign in and send the token instead"
            ),
            Standing::Key(_) if self.role.may(permission) => {
                format!("the API key lacks the scope `{wanted}`")
            }
            Standing::Key(_) | Standing::SignedIn { .. } | Standing::Guest { .. } => {
                format!("the role `{role}` lacks the permission `{wanted}`")
            }
        }
    }

    pub fn permissions(&self) -> impl Iterator<Item = Permission> {
        Permission::ALL.into_iter().filter(|permission| self.may(*permission))
    }

    pub fn is_guest(&self) -> bool {
        matches!(self.standing, Standing::Guest { .. })
    }

    /// The session that vouches for the caller, where there is one.
    pub fn session(&self) -> Option<SessionId> {
        match self.standing {
            Standing::SignedIn { session, .. } => Some(session),
            Standing::Key(_) | Standing::Guest { .. } | Standing::Anonymous => None,
        }
    }

    /// The key that the caller came with, where it is one.
    pub(super) fn key(&self) -> Option<&ApiKey> {
        match &self.standing {
            Standing::Key(held) => Some(&held.key),
            Standing::SignedIn { .. } | Standing::Guest { .. } | Standing::Anonymous => None,
        }
    }

    /// When the caller's token or key ends, in Unix seconds.
    pub fn expires(&self) -> Option<u64> {
        match &self.standing {
            Standing::SignedIn { expires, .. } => Some(*expires),
            Standing::Key(held) => Some(held.expires),
            Standing::Guest { .. } | Standing::Anonymous => None,
        }
    }

    /// How the caller proved who they are (RFC 8176).
    pub fn methods(&self) -> &[String] {
        match &self.standing {
            Standing::SignedIn { methods, .. } => methods,
            Standing::Key(_) => BY_KEY.as_slice(),
            Standing::Guest { .. } | Standing::Anonymous => &[],
        }
    }
}
