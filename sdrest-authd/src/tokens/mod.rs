//! Tokens for accounts that were vouched for. Only a `VerifiedAccount`, the kernel's word where the administrator chose
//! that, or a refresh token of a session that one of them began, can be exchanged here; nothing takes a name as
//! authority.

mod access;
mod clock;
mod key;
mod refresh_token;
mod sessions;

pub(crate) use access::{AUDIENCE, AccessTokens};
pub(crate) use key::{KeyError, Signer};
pub(crate) use sessions::{How, Login};

use crate::{
    admission::Admission,
    audit,
    conversation::{KnownAccount, VerifiedAccount, Vouched, denied},
    fault::internal_in,
    state_dir::{StateDir, StateError},
    subjects::Subjects,
    users::Users,
};
use clock::Steps;
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
use sessions::{RefreshError, Sessions};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};
use tokio::{sync::watch, time::timeout};

/// How much longer than its newest token's life a session counts as one with a valid token, in seconds: others'
/// clocks may lag.
const SLACK: u64 = 60;

/// Issues, refreshes and revokes. What changes something blocks for a disk write; call it where that is allowed.
pub(crate) struct TokenIssuer {
    access: AccessTokens,
    admission: Arc<Admission>,
    users: Arc<Users>,
    subjects: Subjects,
    sessions: Sessions,
    /// Moves with everything that is taken away, once that is on disk. It begins with the time, so that a number of
    /// before a restart is none of after it.
    version: watch::Sender<u64>,
    steps: Mutex<Steps>,
}

impl TokenIssuer {
    pub(crate) fn load(
        dir: &StateDir,
        access: AccessTokens,
        admission: Arc<Admission>,
        users: Arc<Users>,
    ) -> Result<Self, StateError> {
        let begun = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_micros();
        Ok(Self {
            access,
            admission,
            users,
            subjects: Subjects::load(dir)?,
            sessions: Sessions::load(dir)?,
            version: watch::Sender::new(u64::try_from(begun).unwrap_or(1).max(1)),
            steps: Mutex::new(Steps::new(clock::since_boot(), audit::unix_now())),
        })
    }

    pub(crate) fn access(&self) -> &AccessTokens {
        &self.access
    }

    /// Exchanges a verified account for a pair of tokens.
    pub(crate) fn grant(
        &self,
        account: &VerifiedAccount,
        request: &RequestId,
    ) -> Result<Grant, Fault> {
        let login = match account.vouched() {
            Vouched::System(known) => self.system_login(known, How::Pam, request)?,
            Vouched::Internal { user, phc, .. } => {
                // It may have been disabled, or given another password, while this one was compared.
                let user = self.users.confirm(*user, phc);
                let user = user.ok_or_else(|| denied(Denial::AuthErr))?;
                Login {
                    subject: Subject::internal(user.id),
                    name: String::from(user.username),
                    uid: None,
                    role: user.role,
                    how: How::Pwd,
                    auth_time: audit::unix_now(),
                }
            }
        };
        let grant = self.begin(login, request)?;
        // Changed meanwhile: whoever ended the user's sessions may have looked before this one was there.
        if let Vouched::Internal { user, phc, .. } = account.vouched()
            && self.users.confirm(*user, phc).is_none_or(|now| now.role != grant.role)
        {
            self.end_known(grant.session, &grant.subject, "account changed", request)?;
            return Err(denied(Denial::AuthErr));
        }
        Ok(grant)
    }

    /// Exchanges the kernel's word for an access token: role at most user, and no refresh.
    pub(crate) fn grant_peer(
        &self,
        account: &KnownAccount,
        request: &RequestId,
    ) -> Result<Grant, Fault> {
        let mut login = self.system_login(account, How::Peer, request)?;
        login.role = login.role.min(Role::User);
        let mut grant = self.begin(login, request)?;
        grant.refresh_token = None;
        Ok(grant)
    }

    fn system_login(
        &self,
        account: &KnownAccount,
        how: How,
        request: &RequestId,
    ) -> Result<Login, Fault> {
        let name = account.username.as_str();
        let role = self.admission.role(name, &account.groups);
        let role = role.ok_or_else(|| denied(Denial::AcctDenied))?;
        let subject = self.subject_of(account).map_err(|error| internal_in(request, &error))?;
        let auth_time = audit::unix_now();
        Ok(Login { subject, name: name.to_owned(), uid: Some(account.uid), role, how, auth_time })
    }

    /// The subject of a system account now. Who had its uid before has no sessions any more.
    pub(crate) fn subject_of(&self, account: &KnownAccount) -> Result<Subject, StateError> {
        let end = |before| self.end_sessions(&[before]).map(|_| ());
        self.subjects.of(account.uid, account.username.as_str(), end)
    }

    /// The subjects of system accounts that are known under this name.
    pub(crate) fn subjects_named(&self, name: &str) -> Vec<Subject> {
        self.subjects.named(name)
    }

    /// Whether the uid of this account has been somebody else's since.
    pub(crate) fn is_superseded(&self, uid: u32, subject: &Subject) -> bool {
        self.subjects.now(uid).is_some_and(|now| now != *subject)
    }

    fn begin(&self, login: Login, request: &RequestId) -> Result<Grant, Fault> {
        let (id, now) = (SessionId::random(), login.auth_time);
        let refresh_token = self.sessions.begin(id, &login, self.tokens_until(now));
        let refresh_token = refresh_token.map_err(|error| refused(request, &error))?;
        self.issue((id, login), refresh_token, (now, request))
    }

    /// A grant of a session of which it is on disk already how long its tokens last.
    fn issue(
        &self,
        (session, login): (SessionId, Login),
        refresh_token: RefreshToken,
        (now, request): (u64, &RequestId),
    ) -> Result<Grant, Fault> {
        let issued = self.access.issue(session, &login, now);
        let (token, claims) = issued.map_err(|error| internal_in(request, &error))?;
        audit::token_issued(request, &claims);
        Ok(Grant {
            token,
            refresh_token: Some(refresh_token),
            username: Username::try_from(login.name)
                .map_err(|error| internal_in(request, &error))?,
            subject: login.subject,
            role: login.role,
            session,
            expires_in: u32::try_from(self.access.lifetime()).unwrap_or(u32::MAX),
        })
    }

    /// The claims of a token that is valid now and not revoked.
    pub(crate) fn introspect(&self, token: &BearerToken) -> Result<Claims, Fault> {
        let claims = self.access.verify(token)?;
        if self.sessions.is_revoked(claims.sid) {
            return Err(Fault::new(ErrorCode::TokenRevoked, "the session has ended already"));
        }
        Ok(claims)
    }

    /// The session that a refresh token would refresh now; the token stays as it is.
    pub(crate) fn session_of(&self, token: &RefreshToken) -> Option<(SessionId, Login)> {
        self.sessions.peek(token, audit::unix_now())
    }

    /// Spends a refresh token for an account that is still good, as `role` now; without a role there is no session
    /// that it could refresh, and this says why.
    pub(crate) fn refresh(
        &self,
        spent: &RefreshToken,
        role: Option<Role>,
        request: &RequestId,
    ) -> Result<Grant, Fault> {
        let now = audit::unix_now();
        let refreshed = self.sessions.refresh(spent, role, (now, self.tokens_until(now)));
        let refreshed = refreshed.map_err(|error| {
            if let RefreshError::Reused(session) = error {
                self.moved();
                audit::session_revoked(request, session, "refresh token reused");
            }
            refused(request, &error)
        })?;
        self.issue((refreshed.id, refreshed.login), refreshed.token, (now, request))
    }

    /// Revokes the session of this token; on disk when it answers.
    pub(crate) fn logout(&self, token: &BearerToken, request: &RequestId) -> Result<(), Fault> {
        let claims = self.introspect(token)?;
        // A token may come from another program that knows the secret, or from before the lifetime was made shorter.
        let until = self.tokens_until(audit::unix_now()).max(claims.exp.saturating_add(SLACK));
        self.end_session((claims.sid, &claims.sub, until), "logout", request)
    }

    /// Ends a session that is known here.
    pub(crate) fn end_known(
        &self,
        id: SessionId,
        subject: &Subject,
        why: &str,
        request: &RequestId,
    ) -> Result<(), Fault> {
        let until = self.tokens_until(audit::unix_now());
        self.end_session((id, subject, until), why, request)
    }

    /// Ends one session. `until` is when its tokens have expired, for a session of which nothing is known here.
    fn end_session(
        &self,
        (id, subject, until): (SessionId, &Subject, u64),
        why: &str,
        request: &RequestId,
    ) -> Result<(), Fault> {
        self.sessions.revoke(id, subject, until).map_err(|error| refused(request, &error))?;
        self.moved();
        audit::session_revoked(request, id, why);
        Ok(())
    }

    /// Ends all sessions of these subjects; answers how many.
    pub(crate) fn end_sessions(&self, whose: &[Subject]) -> Result<u32, StateError> {
        let ended = self.sessions.revoke_of(whose)?;
        self.moved();
        Ok(u32::try_from(ended).unwrap_or(u32::MAX))
    }

    /// Tells the front end that what it remembers of sessions, keys and accounts counts no more.
    pub(crate) fn moved(&self) {
        self.version.send_modify(|version| *version += 1);
    }

    /// Makes a new signing key and tells the front end; it signs from `settle_key` on.
    pub(crate) fn rotate_key(&self) -> Result<String, KeyError> {
        let kid = self.access.rotate(self.tokens_until(audit::unix_now()))?;
        self.moved();
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
        // Before the list: what is taken away in between is listed already and told once more.
        let version = *version.borrow();
        let (sessions, keys) = (self.sessions.revoked(), self.access.verifying_keys());
        Revocations { version, sessions, keys }
    }

    pub(crate) fn sessions(&self) -> usize {
        self.sessions.count()
    }

    /// Whether what looks expired is: see [`Steps`]. To be asked each time that something is swept.
    pub(crate) fn clock_is_sure(&self) -> bool {
        let longest = Duration::from_secs(self.access.lifetime() + SLACK);
        let mut steps = self.steps.lock().unwrap_or_else(PoisonError::into_inner);
        steps.may_forget(clock::since_boot(), audit::unix_now(), longest)
    }

    /// Forgets what is over; only spent refresh tokens where the clock is not to be believed.
    pub(crate) fn sweep(&self, sure: bool) -> Result<(), StateError> {
        let now = audit::unix_now();
        self.sessions.forget_successors(now);
        if !sure {
            return Ok(());
        }
        if self.access.forget(now)? {
            self.moved();
        }
        self.sessions.sweep(now)
    }

    /// When the last of the tokens that were issued until now has expired for certain.
    fn tokens_until(&self, now: u64) -> u64 {
        now + self.access.lifetime() + SLACK
    }
}

fn refused(request: &RequestId, error: &RefreshError) -> Fault {
    match error {
        RefreshError::Unknown => {
            Fault::new(ErrorCode::TokenInvalid, "the refresh token is not valid")
        }
        RefreshError::Reused(_) => Fault::new(
            ErrorCode::TokenRevoked,
            "the refresh token was used before; the session has ended",
        ),
        RefreshError::TooManyEnded(wait) => {
            let message = "too many sessions were begun whose tokens are still valid; use one of them, or an API \
                           key, or try again later";
            let wait = u32::try_from(*wait).unwrap_or(u32::MAX);
            Fault::new(ErrorCode::TooManyAttempts, message).retry_after(wait)
        }
        RefreshError::State(_) | RefreshError::Random(_) => internal_in(request, error),
    }
}

#[cfg(test)]
mod tests;
