//! Sessions and what has been revoked, on disk before any answer depends on it. Refresh tokens are 256 random bits,
//! of which only the SHA-256 is kept. Each is spent once (RFC 9700, section 4.14): the same successor is given
//! again for 30 s while that is unused; any later use means that two parties hold the token, and the session ends.

use crate::{
    random,
    state_dir::{StateDir, StateError},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sdrest_proto::{
    id::SessionId,
    identity::{Role, Subject},
    secret::RefreshToken,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap};
use thiserror::Error;

const FILE: &str = "sessions.json";
/// How long a spent token still gives its unused successor, in seconds.
const GRACE: u64 = 30;
/// How long a session can be refreshed after its login, in seconds.
const LONGEST: u64 = 7 * 24 * 3600;
/// Sessions kept; beyond, the one that was used longest ago ends.
const MOST: usize = 10_000;
/// Sessions of one subject; beyond, the one of them that was used longest ago ends.
const MOST_OF_ONE: usize = 100;
/// Ended sessions of one subject whose access tokens could still be valid; beyond, it begins no new ones for a while.
/// All of them are told to the front end in one frame, so nobody may fill it alone.
const MOST_ENDED: usize = 2_000;
/// Spent tokens remembered for each session, so that their reuse is noticed.
const REMEMBERED: usize = 64;

#[derive(Debug, Error)]
pub(crate) enum RefreshError {
    #[error("no session has this refresh token")]
    Unknown,
    #[error("a spent refresh token came again; session {0} is revoked")]
    Reused(SessionId),
    #[error("{MOST_ENDED} sessions of this subject have ended and are not over for {0} s")]
    TooManyEnded(u64),
    #[error(transparent)]
    State(#[from] StateError),
    #[error("no random numbers: {0}")]
    Random(#[from] getrandom::Error),
}

/// One login. Hashes are base64url.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Session {
    pub(crate) subject: Subject,
    pub(crate) name: String,
    pub(crate) uid: Option<u32>,
    pub(crate) role: Role,
    /// How the account was vouched for; PAM in files of before there were other ways.
    #[serde(default = "by_pam")]
    pub(crate) amr: Vec<String>,
    pub(crate) auth_time: u64,
    /// When the last access token of this session expires.
    pub(crate) access_until: u64,
    current: String,
    spent: Vec<String>,
    spent_at: u64,
    used: u64,
}

fn by_pam() -> Vec<String> {
    vec!["pam".to_owned()]
}

/// What a refresh changes of a session.
pub(crate) struct Renewal {
    /// The account's role now; nothing: as it was.
    pub(crate) role: Option<Role>,
    pub(crate) access_until: u64,
}

/// What a new session begins with.
pub(crate) struct NewSession {
    pub(crate) subject: Subject,
    pub(crate) name: String,
    pub(crate) uid: Option<u32>,
    pub(crate) role: Role,
    pub(crate) amr: Vec<String>,
    pub(crate) access_until: u64,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Stored {
    /// Moves with every revocation, also across restarts.
    version: u64,
    sessions: BTreeMap<SessionId, Session>,
    /// Until when an access token of the session could still be valid.
    revoked: BTreeMap<SessionId, u64>,
    /// The same times, by whose the sessions were.
    #[serde(default)]
    ended: BTreeMap<Subject, Vec<u64>>,
}

impl Session {
    /// Whether a token of this hash refreshes it: the current one, or the one before for a while.
    fn opens(&self, hash: &String, now: u64) -> bool {
        let forgivable =
            self.spent.last() == Some(hash) && now.saturating_sub(self.spent_at) < GRACE;
        now < self.auth_time + LONGEST && (self.current == *hash || forgivable)
    }
}

impl Stored {
    /// Lists a session as revoked until its last access token has expired.
    fn end(&mut self, id: SessionId, subject: &Subject, until: u64) {
        if self.revoked.insert(id, until).is_none() {
            self.ended.entry(subject.clone()).or_default().push(until);
        }
    }

    /// In how many seconds a subject may begin another session.
    fn wait_of(&self, subject: &Subject, now: u64) -> u64 {
        let Some(untils) = self.ended.get(subject).filter(|untils| untils.len() >= MOST_ENDED)
        else {
            return 0;
        };
        untils.iter().min().map_or(0, |until| until.saturating_sub(now))
    }

    /// Lets one subject begin one more without ever having more than its share.
    fn make_room_for(&mut self, subject: &Subject) {
        let mut own: Vec<_> = self
            .sessions
            .iter()
            .filter(|(_, session)| session.subject == *subject)
            .map(|(id, session)| (session.used, *id))
            .collect();
        own.sort_unstable();
        let over = (own.len() + 1).saturating_sub(MOST_OF_ONE);
        for (_, id) in own.into_iter().take(over) {
            self.sessions.remove(&id);
        }
    }
}

/// Blocks while it writes.
pub(crate) struct Sessions {
    dir: StateDir,
    stored: Stored,
    /// Successors that may be given once more, by the hash of what they followed: in memory only.
    successors: HashMap<String, RefreshToken>,
}

fn hash(token: &RefreshToken) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(token.expose("hashed").as_bytes()))
}

fn copy(token: &RefreshToken) -> RefreshToken {
    RefreshToken::new(token.expose("the same successor is given twice").to_owned())
}

impl Sessions {
    pub(crate) fn load(dir: &StateDir) -> Result<Self, StateError> {
        let mut stored: Stored = dir.read_json(FILE)?;
        stored.version = stored.version.max(1);
        Ok(Self { dir: dir.clone(), stored, successors: HashMap::new() })
    }

    /// Writes `changed` and only then believes it.
    fn commit(&mut self, changed: Stored) -> Result<(), StateError> {
        self.dir.write_json(FILE, &changed)?;
        self.stored = changed;
        Ok(())
    }

    pub(crate) fn begin(
        &mut self,
        id: SessionId,
        new: NewSession,
        now: u64,
    ) -> Result<RefreshToken, RefreshError> {
        let token = RefreshToken::new(random::text()?);
        let mut changed = self.swept(now);
        let wait = changed.wait_of(&new.subject, now);
        if wait > 0 {
            return Err(RefreshError::TooManyEnded(wait));
        }
        changed.make_room_for(&new.subject);
        let session = Session {
            subject: new.subject,
            name: new.name,
            uid: new.uid,
            role: new.role,
            amr: new.amr,
            auth_time: now,
            access_until: new.access_until,
            current: hash(&token),
            spent: Vec::new(),
            spent_at: 0,
            used: now,
        };
        changed.sessions.insert(id, session);
        self.commit(changed)?;
        Ok(token)
    }

    /// The session that this token would refresh now; nothing is spent.
    pub(crate) fn peek(&self, token: &RefreshToken, now: u64) -> Option<(SessionId, Session)> {
        let hash = hash(token);
        let (id, session) =
            self.stored.sessions.iter().find(|(_, session)| session.opens(&hash, now))?;
        Some((*id, session.clone()))
    }

    /// Spends a token. Answers the session, as it is now, and the successor.
    pub(crate) fn refresh(
        &mut self,
        token: &RefreshToken,
        renewal: Renewal,
        now: u64,
    ) -> Result<(SessionId, Session, RefreshToken), RefreshError> {
        let spent = hash(token);
        let known = |session: &Session| session.current == spent || session.spent.contains(&spent);
        let (id, session) = self
            .stored
            .sessions
            .iter()
            .find(|(_, session)| known(session))
            .ok_or(RefreshError::Unknown)?;
        let (id, mut session) = (*id, session.clone());
        if now >= session.auth_time + LONGEST {
            return Err(RefreshError::Unknown);
        }
        let successor = if session.current == spent {
            session.spent.push(spent.clone());
            if session.spent.len() > REMEMBERED {
                session.spent.remove(0);
            }
            session.spent_at = now;
            RefreshToken::new(random::text()?)
        } else {
            // Only the token before the current one, and only for a while: the answer may have been lost.
            if !session.opens(&spent, now) {
                self.revoke(id, &session.subject, now)?;
                return Err(RefreshError::Reused(id));
            }
            // After a restart the successor is not known any more; nobody has used it, so a new one replaces it.
            match self.successors.get(&spent) {
                Some(successor) => copy(successor),
                None => RefreshToken::new(random::text()?),
            }
        };
        session.current = hash(&successor);
        session.access_until = session.access_until.max(renewal.access_until);
        session.role = renewal.role.unwrap_or(session.role);
        session.used = now;
        let mut changed = self.swept(now);
        changed.sessions.insert(id, session.clone());
        self.commit(changed)?;
        // What this token succeeded is final now; what it gives may be asked for again.
        self.successors.retain(|_, known| hash(known) != spent);
        self.successors.insert(spent, copy(&successor));
        if self.successors.len() > MOST {
            self.successors.clear();
        }
        Ok((id, session, successor))
    }

    /// Ends a session. Its access tokens are listed until the last has expired.
    pub(crate) fn revoke(
        &mut self,
        id: SessionId,
        subject: &Subject,
        access_until: u64,
    ) -> Result<(), StateError> {
        let mut changed = self.stored.clone();
        let session_until = changed.sessions.remove(&id).map_or(0, |session| session.access_until);
        changed.end(id, subject, session_until.max(access_until));
        changed.version += 1;
        self.commit(changed)
    }

    /// Ends all sessions that `whose` picks; answers how many.
    pub(crate) fn revoke_where(
        &mut self,
        whose: impl Fn(&Session) -> bool,
        access_until: u64,
    ) -> Result<usize, StateError> {
        let mut changed = self.stored.clone();
        let ended: Vec<_> = changed.sessions.extract_if(.., |_, session| whose(session)).collect();
        for (id, session) in &ended {
            changed.end(*id, &session.subject, session.access_until.max(access_until));
        }
        changed.version += 1;
        self.commit(changed)?;
        Ok(ended.len())
    }

    /// Moves the version: something else than a session is different now.
    pub(crate) fn moved(&mut self) -> Result<(), StateError> {
        let mut changed = self.stored.clone();
        changed.version += 1;
        self.commit(changed)
    }

    pub(crate) fn is_revoked(&self, id: SessionId) -> bool {
        self.stored.revoked.contains_key(&id)
    }

    pub(crate) fn version(&self) -> u64 {
        self.stored.version
    }

    /// The sessions that are revoked and whose tokens could still be valid.
    pub(crate) fn revoked(&self, now: u64) -> Vec<SessionId> {
        self.stored.revoked.iter().filter(|(_, until)| **until > now).map(|(id, _)| *id).collect()
    }

    /// Forgets what is over, also on disk.
    pub(crate) fn sweep(&mut self, now: u64) -> Result<(), StateError> {
        let over = |stored: &Stored| {
            stored.revoked.values().any(|until| *until <= now)
                || stored.sessions.values().any(|session| now >= session.auth_time + LONGEST)
        };
        if over(&self.stored) { self.commit(self.swept(now)) } else { Ok(()) }
    }

    pub(crate) fn count(&self) -> usize {
        self.stored.sessions.len()
    }

    /// What is stored, without what is over; room for one more.
    fn swept(&self, now: u64) -> Stored {
        let mut stored = self.stored.clone();
        stored.revoked.retain(|_, until| *until > now);
        stored.ended.retain(|_, untils| {
            untils.retain(|until| *until > now);
            !untils.is_empty()
        });
        stored.sessions.retain(|_, session| now < session.auth_time + LONGEST);
        while stored.sessions.len() >= MOST {
            let Some(oldest) =
                stored.sessions.iter().min_by_key(|(_, session)| session.used).map(|(id, _)| *id)
            else {
                break;
            };
            stored.sessions.remove(&oldest);
        }
        stored
    }
}

#[cfg(test)]
mod tests;
