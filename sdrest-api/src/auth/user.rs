//! A caller, once it is settled who that is. The fields are private and the constructors stay inside
//! `auth`, so a `User` is always the outcome of the gate.

use sdrest_proto::{
    authd::Claims,
    id::SessionId,
    identity::{Permission, Role, Subject},
};

/// An authenticated caller, a guest, or `anonymous` on a server without authentication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    subject: Subject,
    name: String,
    role: Role,
    standing: Standing,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Standing {
    /// Came with an access token of this session, which ends at `expires` (Unix seconds).
    SignedIn { session: SessionId, expires: u64, methods: Vec<String> },
    /// Came without credentials where that is allowed, for reading or for generation.
    Guest { generates: bool },
    /// The server has authentication turned off.
    Anonymous,
}

impl User {
    pub(super) fn from_claims(claims: Claims) -> Option<Self> {
        let role = claims.roles.iter().copied().max()?;
        let standing =
            Standing::SignedIn { session: claims.sid, expires: claims.exp, methods: claims.amr };
        Some(Self { subject: claims.sub, name: claims.name, role, standing })
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
            Standing::SignedIn { .. } | Standing::Guest { .. } => self.role.may(permission),
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
            Standing::Guest { .. } | Standing::Anonymous => None,
        }
    }

    /// When the caller's token ends, in Unix seconds.
    pub fn expires(&self) -> Option<u64> {
        match self.standing {
            Standing::SignedIn { expires, .. } => Some(expires),
            Standing::Guest { .. } | Standing::Anonymous => None,
        }
    }

    /// How the caller proved who they are (RFC 8176).
    pub fn methods(&self) -> &[String] {
        match &self.standing {
            Standing::SignedIn { methods, .. } => methods,
            Standing::Guest { .. } | Standing::Anonymous => &[],
        }
    }
}
