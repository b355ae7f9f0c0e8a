//! Tokens for accounts that were vouched for. Only a `VerifiedAccount`, the kernel's word where the administrator chose
//! that, or a refresh token of a session that one of them began, can be exchanged here; nothing takes a name as
//! authority.

mod access;
mod key;
mod sessions;

pub(crate) use access::{AUDIENCE, AccessTokens};
pub(crate) use key::{KeyError, KeyRing, SharedSecret, Signer};
pub(crate) use sessions::Session;

use crate::{
    admission::Admission,
    audit,
    conversation::{KnownAccount, VerifiedAccount, Vouched, denied},
    state_dir::{StateDir, StateError},
    subjects::Subjects,
    users::Users,
};
use access::Holder;
use sdrest_proto::{
    authd::{Claims, Revocations},
    bounds::Username,
    conversation::Denial,
    error::{ErrorCode, Fault},
    id::{RequestId, SessionId},
    identity::{Role, Subject},
    login::Grant,
    secret::{BearerToken, RefreshToken},
};
use sessions::{NewSession, RefreshError, Renewal, Sessions};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{sync::watch, time::timeout};

/// How much longer than its newest token's life a session counts as one with a valid token, in seconds: a token may
/// be signed a moment after its session was written, and others' clocks may lag.
const SLACK: u64 = 60;

/// `amr` of a login that PAM vouched for, of one by the internal user database, and of one by the kernel's word.
const PAM: &str = "pam";
const PASSWORD: &str = "pwd";
pub(crate) const PEER: &str = "peer";

/// Issues, refreshes and revokes. Its verbs block for a disk write; call them where that is allowed.
pub(crate) struct TokenIssuer {
    access: AccessTokens,
    admission: Arc<Admission>,
    users: Arc<Users>,
    subjects: Subjects,
    sessions: Mutex<Sessions>,
    version: watch::Sender<u64>,
}

/// Somebody who is signed in by this.
struct Login {
    subject: Subject,
    username: Username,
    uid: Option<u32>,
    role: Role,
    amr: &'static str,
}

impl TokenIssuer {
    pub(crate) fn load(
        dir: &StateDir,
        access: AccessTokens,
        admission: Arc<Admission>,
        users: Arc<Users>,
    ) -> Result<Self, StateError> {
        let sessions = Sessions::load(dir)?;
        let version = watch::Sender::new(sessions.version());
        Ok(Self {
            access,
            admission,
            users,
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
        let login = match account.vouched() {
            Vouched::System(known) => self.system_login(known, PAM, request)?,
            Vouched::Internal { user, phc, .. } => {
                // It may have been disabled, or given another password, while this one was compared.
                let user = self.users.confirm(*user, phc);
                let user = user.ok_or_else(|| denied(Denial::AuthErr))?;
                Login {
                    subject: Subject::internal(user.id),
                    username: Username::try_from(String::from(user.username))?,
                    uid: None,
                    role: user.role,
                    amr: PASSWORD,
                }
            }
        };
        let (mut grant, refresh_token) = self.begin(login, request)?;
        // Changed meanwhile: whoever ended the user's sessions may have looked before this one was there.
        if let Vouched::Internal { user, phc, .. } = account.vouched()
            && self.users.confirm(*user, phc).is_none_or(|now| now.role != grant.role)
        {
            self.end_session((grant.session, &grant.subject), "account changed", request)?;
            return Err(denied(Denial::AuthErr));
        }
        grant.refresh_token = Some(refresh_token);
        Ok(grant)
    }

    /// Exchanges the kernel's word for an access token: role at most user, and no refresh.
    pub(crate) fn grant_peer(
        &self,
        account: &KnownAccount,
        request: &RequestId,
    ) -> Result<Grant, Fault> {
        let mut login = self.system_login(account, PEER, request)?;
        login.role = login.role.min(Role::User);
        Ok(self.begin(login, request)?.0)
    }

    fn system_login(
        &self,
        account: &KnownAccount,
        amr: &'static str,
        request: &RequestId,
    ) -> Result<Login, Fault> {
        let name = account.username.as_str();
        let role = self.admission.role(name, &account.groups);
        let role = role.ok_or_else(|| denied(Denial::AcctDenied))?;
        let subject = self.subject_of(account).map_err(|error| internal(request, &error))?;
        let username = account.username.clone();
        Ok(Login { subject, username, uid: Some(account.uid), role, amr })
    }

    /// The subject of a system account now.
    pub(crate) fn subject_of(&self, account: &KnownAccount) -> Result<Subject, StateError> {
        self.subjects.of(account.uid, account.username.as_str())
    }

    /// Begins a session. Its refresh token is answered beside the grant: not everybody gets it.
    fn begin(&self, login: Login, request: &RequestId) -> Result<(Grant, RefreshToken), Fault> {
        let (id, now) = (SessionId::random(), audit::unix_now());
        let amr = [login.amr.to_owned()];
        let holder = Holder {
            subject: &login.subject,
            name: login.username.as_str(),
            uid: login.uid,
            role: login.role,
            amr: &amr,
            session: id,
            auth_time: now,
        };
        let (token, claims) =
            self.access.issue(&holder).map_err(|error| internal(request, &error))?;
        let new = NewSession {
            subject: login.subject.clone(),
            name: login.username.as_str().to_owned(),
            uid: login.uid,
            role: login.role,
            amr: amr.to_vec(),
            access_until: claims.exp + SLACK,
        };
        let refresh_token = self.lock().begin(id, new, now).map_err(|error| match error {
            RefreshError::TooManyEnded(wait) => {
                let message = "too many sessions were begun and ended; try again later";
                let wait = u32::try_from(wait).unwrap_or(u32::MAX);
                Fault::new(ErrorCode::TooManyAttempts, message).retry_after(wait)
            }
            error => internal(request, &error),
        })?;
        self.record(request, &claims);
        let grant = Grant {
            token,
            refresh_token: None,
            subject: login.subject,
            username: login.username,
            role: login.role,
            session: id,
            expires_in: seconds(self.access.lifetime()),
        };
        Ok((grant, refresh_token))
    }

    /// The claims of a token that is valid now and not revoked.
    pub(crate) fn introspect(&self, token: &BearerToken) -> Result<Claims, Fault> {
        let claims = self.access.verify(token)?;
        if self.lock().is_revoked(claims.sid) {
            return Err(revoked());
        }
        Ok(claims)
    }

    /// The session that a refresh token would refresh now; the token stays as it is.
    pub(crate) fn session_of(&self, token: &RefreshToken) -> Option<(SessionId, Session)> {
        self.lock().peek(token, audit::unix_now())
    }

    /// Spends a refresh token for an account that is still good, as `role` now; without a role there is no session
    /// that it could refresh, and this says why.
    pub(crate) fn refresh(
        &self,
        spent: &RefreshToken,
        role: Option<Role>,
        request: &RequestId,
    ) -> Result<Grant, Fault> {
        let refreshed = {
            let mut sessions = self.lock();
            // Asked for once the lock is held, or a long wait for it would make the session's end too early.
            let now = audit::unix_now();
            let renewal = Renewal { role, access_until: self.tokens_until(now) };
            let refreshed = sessions.refresh(spent, renewal, now);
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
            RefreshError::TooManyEnded(_) | RefreshError::State(_) | RefreshError::Random(_) => {
                internal(request, &error)
            }
        })?;
        let holder = Holder {
            subject: &session.subject,
            name: &session.name,
            uid: session.uid,
            role: session.role,
            amr: &session.amr,
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
            refresh_token: Some(refresh_token),
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
            return Err(revoked());
        }
        // The session may be forgotten here already and still have newer tokens than this one.
        let until = claims.exp.max(self.tokens_until(audit::unix_now()));
        sessions
            .revoke(claims.sid, &claims.sub, until)
            .map_err(|error| internal(request, &error))?;
        self.version.send_replace(sessions.version());
        drop(sessions);
        audit::session_revoked(request, claims.sid, "logout");
        Ok(())
    }

    /// Ends one session whose account is not good any more.
    pub(crate) fn end_session(
        &self,
        (id, subject): (SessionId, &Subject),
        why: &str,
        request: &RequestId,
    ) -> Result<(), Fault> {
        let mut sessions = self.lock();
        let until = self.tokens_until(audit::unix_now());
        sessions.revoke(id, subject, until).map_err(|error| internal(request, &error))?;
        self.version.send_replace(sessions.version());
        drop(sessions);
        audit::session_revoked(request, id, why);
        Ok(())
    }

    /// Ends all sessions that `whose` picks; answers how many.
    pub(crate) fn end_sessions(&self, whose: impl Fn(&Session) -> bool) -> Result<u32, StateError> {
        let mut sessions = self.lock();
        let ended = sessions.revoke_where(whose, self.tokens_until(audit::unix_now()))?;
        self.version.send_replace(sessions.version());
        Ok(u32::try_from(ended).unwrap_or(u32::MAX))
    }

    /// Tells the front end that what it remembers of keys and accounts counts no more; on disk when it answers.
    pub(crate) fn moved(&self) -> Result<(), StateError> {
        let mut sessions = self.lock();
        sessions.moved()?;
        self.version.send_replace(sessions.version());
        Ok(())
    }

    /// Makes a new signing key and tells the front end; it signs from `settle_key` on.
    pub(crate) fn rotate_key(&self) -> Result<String, KeyError> {
        let kid = self.access.rotate(self.tokens_until(audit::unix_now()))?;
        self.moved()?;
        audit::signing_key_rotated(&kid);
        Ok(kid)
    }

    /// Lets the new signing key sign: whoever verifies has had time to learn of it.
    pub(crate) fn settle_key(&self) {
        self.access.settle();
    }

    /// The list of revocations once it is newer than `after`, at the latest after `patience`.
    pub(crate) async fn revocations(&self, after: u64, patience: Duration) -> Revocations {
        let mut version = self.version.subscribe();
        // A caller that is ahead has seen a state folder that is gone: it gets the list at once.
        let _ = timeout(patience, version.wait_for(|version| *version != after)).await;
        let sessions = self.lock();
        Revocations {
            version: sessions.version(),
            sessions: sessions.revoked(audit::unix_now()),
            keys: self.access.verifying_keys(),
        }
    }

    pub(crate) fn sessions(&self) -> usize {
        self.lock().count()
    }

    pub(crate) fn sweep(&self) -> Result<(), StateError> {
        let now = audit::unix_now();
        if self.access.forget(now)? {
            self.moved()?;
        }
        self.lock().sweep(now)
    }

    /// When the last of the tokens that were issued until now has expired for certain.
    fn tokens_until(&self, now: u64) -> u64 {
        now + self.access.lifetime() + SLACK
    }

    fn record(&self, request: &RequestId, claims: &Claims) {
        let issued = audit::Issued {
            user: &claims.name,
            subject: claims.sub.as_str(),
            role: claims.roles.first().map_or("", |role| role.as_str()),
            session: claims.sid,
            jti: &claims.jti,
            amr: claims.amr.first().map_or("", String::as_str),
        };
        audit::token_issued(Some(request), &issued);
    }
}

/// The cause goes to the log, the caller gets the request's id from the front end.
fn internal(request: &RequestId, cause: &dyn std::fmt::Display) -> Fault {
    tracing::error!(request_id = %request, "tokens: {cause}");
    Fault::new(ErrorCode::Internal, "the login service failed; its log says why")
}

fn revoked() -> Fault {
    Fault::new(ErrorCode::TokenRevoked, "the session has ended already")
}

fn seconds(lifetime: u64) -> u32 {
    u32::try_from(lifetime).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
