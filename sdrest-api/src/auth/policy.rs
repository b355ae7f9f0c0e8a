//! What authd decided: mode, realm, guests, public paths, keys, and the sessions that no longer count.
//! A snapshot never changes; news from authd replaces it as a whole, and streams that are open hear of it.

use super::{
    public_paths::PublicPaths,
    user::User,
    verifier::{Verifier, VerifyError},
};
use crate::error::ApiError;
use sdrest_proto::{
    authd::{AuthMode, AuthdDescription, Revocations},
    error::ErrorCode,
    id::SessionId,
    secret::BearerToken,
};
use std::{collections::HashSet, sync::Arc};
use tokio::sync::watch;

/// One snapshot.
#[derive(Clone, Debug)]
pub struct Policy {
    description: AuthdDescription,
    public_paths: PublicPaths,
    verifier: Verifier,
    revoked: Arc<HashSet<SessionId>>,
}

impl Policy {
    pub fn new(
        description: AuthdDescription,
        revocations: Revocations,
    ) -> Result<Self, VerifyError> {
        let verifier =
            Verifier::new(&description.issuer, &description.audience, &description.keys)?;
        let public_paths = PublicPaths::new(&description.public_paths);
        let revoked = Arc::new(revocations.sessions.into_iter().collect());
        Ok(Self { description, public_paths, verifier, revoked })
    }

    /// The same policy with a newer list of revoked sessions.
    pub fn with_revocations(&self, revocations: Revocations) -> Self {
        Self { revoked: Arc::new(revocations.sessions.into_iter().collect()), ..self.clone() }
    }

    pub fn description(&self) -> &AuthdDescription {
        &self.description
    }

    pub fn mode(&self) -> AuthMode {
        self.description.mode
    }

    pub fn guests(&self) -> bool {
        self.description.guests
    }

    pub fn public_paths(&self) -> &PublicPaths {
        &self.public_paths
    }

    pub fn is_revoked(&self, session: SessionId) -> bool {
        self.revoked.contains(&session)
    }

    /// The person behind a token.
    pub(super) fn identify(&self, token: &BearerToken) -> Result<User, ApiError> {
        let claims = self.verifier.verify(token).map_err(|error| match error {
            VerifyError::Expired => ApiError::new(
                ErrorCode::TokenExpired,
                "the token has expired; refresh it or sign in again",
            ),
            VerifyError::Invalid(_) | VerifyError::Key(_) => ApiError::new(
                ErrorCode::TokenInvalid,
                "the bearer token is not one of this server's",
            )
            .because(error),
        })?;
        if self.is_revoked(claims.sid) {
            return Err(ApiError::new(
                ErrorCode::TokenRevoked,
                "the session was signed out; sign in again",
            ));
        }
        User::from_claims(claims).ok_or_else(|| {
            ApiError::new(ErrorCode::TokenInvalid, "the token carries no role; sign in again")
        })
    }
}

/// The newest snapshot, for all who ask.
#[derive(Clone, Debug)]
pub struct Policies(Arc<watch::Sender<Arc<Policy>>>);

impl Policies {
    pub fn new(first: Policy) -> Self {
        Self(Arc::new(watch::Sender::new(Arc::new(first))))
    }

    pub fn current(&self) -> Arc<Policy> {
        self.0.borrow().clone()
    }

    pub fn replace(&self, policy: Policy) {
        self.0.send_replace(Arc::new(policy));
    }

    /// Counts a session as over before the next list says so: its owner has just signed out.
    pub fn revoke(&self, session: SessionId) {
        self.0.send_modify(|current| {
            let mut revoked = HashSet::clone(&current.revoked);
            revoked.insert(session);
            *current = Arc::new(Policy { revoked: Arc::new(revoked), ..Policy::clone(current) });
        });
    }

    /// Ends when this user's credentials stop counting: at the token's expiry, or when its session is
    /// revoked. For guests and `anonymous` it never does.
    pub async fn until_over(&self, user: &User) {
        let (Some(session), Some(expires)) = (user.session(), user.expires()) else {
            return std::future::pending().await;
        };
        let left = expires.saturating_sub(crate::error::unix_now());
        let mut news = self.0.subscribe();
        let revoked = async { news.wait_for(|policy| policy.is_revoked(session)).await.is_ok() };
        tokio::select! {
            () = tokio::time::sleep(std::time::Duration::from_secs(left)) => {}
            _ = revoked => {}
        }
    }
}
