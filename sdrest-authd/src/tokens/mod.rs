//! Tokens for verified accounts. Only a `VerifiedAccount`, or a refresh token of a session that one began, can be
//! exchanged here; nothing takes a name as authority.

mod access;
mod key;
mod sessions;

pub(crate) use access::{AUDIENCE, AccessTokens};
pub(crate) use key::SigningKey;

use crate::{
    audit,
    conversation::VerifiedAccount,
    roles::Roles,
    state_dir::{StateDir, StateError},
    subjects::Subjects,
};
use access::Holder;
use sdrest_proto::{
    authd::Revocations,
    bounds::Username,
    error::{ErrorCode, Fault},
    id::{RequestId, SessionId},
    login::Grant,
    secret::{BearerToken, RefreshToken},
};
use sessions::{NewSession, RefreshError, Sessions};
use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{sync::watch, time::timeout};

/// How much longer than its newest token's life a session counts as one with a valid token, in seconds: a token may
/// be signed a moment after its session was written, and others' clocks may lag.
const SLACK: u64 = 60;

/// Issues, refreshes and revokes. Its verbs block for a disk write; call them where that is allowed.
pub(crate) struct TokenIssuer {
    access: AccessTokens,
    roles: Roles,
    subjects: Subjects,
    sessions: Mutex<Sessions>,
    version: watch::Sender<u64>,
}

impl TokenIssuer {
    pub(crate) fn load(
        dir: &StateDir,
        access: AccessTokens,
        roles: Roles,
    ) -> Result<Self, StateError> {
        let sessions = Sessions::load(dir)?;
        let version = watch::Sender::new(sessions.version());
        Ok(Self {
            access,
            roles,
            subjects: Subjects::load(dir)?,
            sessions: Mutex::new(sessions),
            version,
        })
    }

    pub(crate) fn access(&self) -> &AccessTokens {
        &self.access
    }

    fn lock(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Exchanges a verified account for a pair of tokens.
    pub(crate) fn grant(
        &self,
        account: &VerifiedAccount,
        request: &RequestId,
    ) -> Result<Grant, Fault> {
        let name = account.username().as_str();
        let subject =
            self.subjects.of(account.uid(), name).map_err(|error| internal(request, &error))?;
        let role = self.roles.of(account.groups());
        let id = SessionId::random();
        let now = audit::unix_now();
        let uid = Some(account.uid());
        let holder = Holder { subject: &subject, name, uid, role, session: id, auth_time: now };
        let (token, claims) =
            self.access.issue(&holder).map_err(|error| internal(request, &error))?;
        let new = NewSession {
            subject: subject.clone(),
            name: name.to_owned(),
            uid,
            role,
            access_until: claims.exp + SLACK,
        };
        let refresh_token =
            self.lock().begin(id, new, now).map_err(|error| internal(request, &error))?;
        self.record(request, &claims);
        Ok(Grant {
            token,
            refresh_token,
            subject,
            username: account.username().clone(),
            role,
            session: id,
            expires_in: seconds(self.access.lifetime()),
        })
    }

    /// Spends a refresh token. The account itself is not asked about again here: a refresh ends when its session is
    /// revoked or a week old.
    pub(crate) fn refresh(
        &self,
        spent: &RefreshToken,
        request: &RequestId,
    ) -> Result<Grant, Fault> {
        let refreshed = {
            let mut sessions = self.lock();
            // Asked for once the lock is held, or a long wait for it would make the session's end too early.
            let now = audit::unix_now();
            let refreshed = sessions.refresh(spent, self.tokens_until(now), now);
            self.version.send_replace(sessions.version());
            refreshed
        };
        let (id, session, refresh_token) = refreshed.map_err(|error| match error {
            RefreshError::Unknown => {
                Fault::new(ErrorCode::TokenInvalid, "the refresh token is not valid")
            }
            RefreshError::Reused(session) => {
                audit::session_revoked(request, session, "refresh token reused");
                Fault::new(
                    ErrorCode::TokenRevoked,
                    "the refresh token was used before; the session has ended",
                )
            }
            RefreshError::State(_) | RefreshError::Random(_) => internal(request, &error),
        })?;
        let holder = Holder {
            subject: &session.subject,
            name: &session.name,
            uid: session.uid,
            role: session.role,
            session: id,
            auth_time: session.auth_time,
        };
        let (token, claims) =
            self.access.issue(&holder).map_err(|error| internal(request, &error))?;
        self.record(request, &claims);
        let username =
            Username::try_from(session.name).map_err(|error| internal(request, &error))?;
        Ok(Grant {
            token,
            refresh_token,
            subject: session.subject,
            username,
            role: session.role,
            session: id,
            expires_in: seconds(self.access.lifetime()),
        })
    }

    /// Revokes the session of this token; on disk when it answers.
    pub(crate) fn logout(&self, token: &BearerToken, request: &RequestId) -> Result<(), Fault> {
        let claims = self.access.verify(token)?;
        let mut sessions = self.lock();
        if sessions.is_revoked(claims.sid) {
            return Err(Fault::new(ErrorCode::TokenRevoked, "the session has ended already"));
        }
        // The session may be forgotten here already and still have newer tokens than this one.
        let until = claims.exp.max(self.tokens_until(audit::unix_now()));
        sessions.revoke(claims.sid, until).map_err(|error| internal(request, &error))?;
        self.version.send_replace(sessions.version());
        drop(sessions);
        audit::session_revoked(request, claims.sid, "logout");
        Ok(())
    }

    /// The list of revocations once it is newer than `after`, at the latest after `patience`.
    pub(crate) async fn revocations(&self, after: u64, patience: Duration) -> Revocations {
        let mut version = self.version.subscribe();
        // A caller that is ahead has seen a state folder that is gone: it gets the list at once.
        let _ = timeout(patience, version.wait_for(|version| *version != after)).await;
        let sessions = self.lock();
        Revocations { version: sessions.version(), sessions: sessions.revoked(audit::unix_now()) }
    }

    pub(crate) fn sessions(&self) -> usize {
        self.lock().count()
    }

    pub(crate) fn sweep(&self) -> Result<(), StateError> {
        self.lock().sweep(audit::unix_now())
    }

    /// When the last of the tokens that were issued until now has expired for certain.
    fn tokens_until(&self, now: u64) -> u64 {
        now + self.access.lifetime() + SLACK
    }

    fn record(&self, request: &RequestId, claims: &sdrest_proto::authd::Claims) {
        let issued = audit::Issued {
            user: &claims.name,
            subject: claims.sub.as_str(),
            role: claims.roles.first().map_or("", |role| role.as_str()),
            session: claims.sid,
            jti: &claims.jti,
            kid: &self.access.verifying_key().kid,
        };
        audit::token_issued(Some(request), &issued);
    }
}

/// The cause goes to the log, the caller gets the request's id from the front end.
fn internal(request: &RequestId, cause: &dyn std::fmt::Display) -> Fault {
    tracing::error!(request_id = %request, "tokens: {cause}");
    Fault::new(ErrorCode::Internal, "the login service failed; its log says why")
}

fn seconds(lifetime: u64) -> u32 {
    u32::try_from(lifetime).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
