//! Sessions, and those that are over but whose access tokens could still be valid: on disk before any answer depends
//! on them. A refresh token is spent once (RFC 9700, section 4.14): the same successor is given again for 30 s while
//! that is unused; any later use means that two parties hold the token, and the session ends.
//!
//! Every session that could have to be listed as revoked has its entry here from its beginning, and there are never
//! more entries than one frame can list: no revocation is ever refused or forgotten for want of room.

use super::refresh_token::{Hash, Shown};
use crate::{
    durable::{Changes, Durable},
    state_dir::{StateDir, StateError},
};
use sdrest_proto::{
    id::SessionId,
    identity::{Role, Subject},
    secret::RefreshToken,
    transport::AUTHD,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, PoisonError},
};
use thiserror::Error;

const FILE: &str = "logins.json";
/// How long a spent token still gives its unused successor, in seconds.
const GRACE: u64 = 30;
/// How long a session can be refreshed after its login, in seconds.
const LONGEST: u64 = 7 * 24 * 3600;
/// Sessions that can be refreshed; beyond, the one that was used longest ago is displaced.
const MOST: usize = 10_000;
/// The same of one subject; beyond, the one of them that was used longest ago is displaced.
const MOST_OF_ONE: usize = 100;
/// Entries in all. Each takes 17 bytes of the frame of 256 KiB that lists them once they are revoked.
const MOST_ENTRIES: usize = 15_000;
/// Entries beyond, for revoked sessions of which nothing is known here: a state folder that was put back.
const UNKNOWN: usize = 300;
/// A list of all of them fits, with the verifying keys.
const _: () = assert!((MOST_ENTRIES + UNKNOWN) * 17 + 1024 < AUTHD.max_frame);

#[derive(Debug, Error)]
pub(crate) enum RefreshError {
    #[error("no session has this refresh token")]
    Unknown,
    #[error("a spent refresh token came again; session {0} is revoked")]
    Reused(SessionId),
    #[error("too many sessions are over whose access tokens are still valid, for {0} s")]
    TooManyEnded(u64),
    #[error(transparent)]
    State(#[from] StateError),
    #[error("no random numbers: {0}")]
    Random(#[from] getrandom::Error),
}

/// How the account was vouched for (`amr`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum How {
    /// PAM, the internal user database, the kernel's word.
    Pam,
    Pwd,
    Peer,
}

impl How {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Pam => "pam",
            Self::Pwd => "pwd",
            Self::Peer => "peer",
        }
    }
}

/// Who signed in.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Login {
    pub(crate) subject: Subject,
    pub(crate) name: String,
    /// For system accounts.
    pub(crate) uid: Option<u32>,
    pub(crate) role: Role,
    pub(crate) how: How,
    pub(crate) auth_time: u64,
}

/// A login that can be refreshed.
#[derive(Clone, Serialize, Deserialize)]
struct Session {
    login: Login,
    /// When the last access token of this session expires.
    access_until: u64,
    /// When it cannot be refreshed any more.
    ends: u64,
    family: Hash,
    current: Hash,
    previous: Option<Hash>,
    spent_at: u64,
    used: u64,
}

impl Session {
    /// Whether this token refreshes it: the current one, or the one before for a while. The clock may have been put
    /// back since that was spent.
    fn opens(&self, token: &Shown, now: u64) -> bool {
        let forgivable = self.previous == Some(token.own) && now.abs_diff(self.spent_at) < GRACE;
        self.is_of(token, now) && (self.current == token.own || forgivable)
    }

    /// Whether this is one of its tokens, spent or not.
    fn is_of(&self, token: &Shown, now: u64) -> bool {
        self.family == token.family && now < self.ends
    }

    fn over(&self, what: Over) -> Entry {
        Entry::Past { subject: self.login.subject.clone(), until: self.access_until, what }
    }
}

/// Why a session cannot be refreshed any more.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Over {
    /// Its access tokens go on; who revokes the subject's sessions means this one too.
    Displaced,
    Revoked,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Entry {
    Open(Box<Session>),
    /// `until` no access token of the session can still be valid.
    Past {
        subject: Subject,
        until: u64,
        what: Over,
    },
}

impl Entry {
    fn subject(&self) -> &Subject {
        match self {
            Self::Open(session) => &session.login.subject,
            Self::Past { subject, .. } => subject,
        }
    }

    fn revoked(&self) -> Self {
        match self {
            Self::Open(session) => session.over(Over::Revoked),
            Self::Past { subject, until, .. } => {
                Self::Past { subject: subject.clone(), until: *until, what: Over::Revoked }
            }
        }
    }

    fn is_revoked(&self) -> bool {
        matches!(self, Self::Past { what: Over::Revoked, .. })
    }
}

type Table = BTreeMap<SessionId, Entry>;

/// Its verbs that change something block while they write; nothing else waits for them.
pub(crate) struct Sessions {
    table: Durable<SessionId, Entry>,
    /// The last successor of each session, by what it followed, while it may be given once more: in memory only.
    successors: Mutex<HashMap<SessionId, Successor>>,
}

struct Successor {
    of: Hash,
    token: Shown,
    given: u64,
}

/// What a refresh gives.
pub(crate) struct Refreshed {
    pub(crate) id: SessionId,
    pub(crate) login: Login,
    pub(crate) token: RefreshToken,
}

impl Sessions {
    pub(crate) fn load(dir: &StateDir) -> Result<Self, StateError> {
        Ok(Self { table: Durable::load(dir, FILE)?, successors: Mutex::default() })
    }

    /// Begins a session whose first access token expires at `access_until`.
    pub(crate) fn begin(
        &self,
        id: SessionId,
        login: &Login,
        access_until: u64,
    ) -> Result<RefreshToken, RefreshError> {
        let (token, now) = (Shown::first(id)?, login.auth_time);
        self.table.change(|table, changes| {
            let wait = wait_of(table, &login.subject, now);
            if wait > 0 {
                return Err(RefreshError::TooManyEnded(wait));
            }
            make_room(table, changes, &login.subject);
            let session = Session {
                login: login.clone(),
                access_until,
                // Nobody is given a token that would refresh a login by the kernel's word.
                ends: if login.how == How::Peer {
                    access_until
                } else {
                    now.saturating_add(LONGEST)
                },
                family: token.family,
                current: token.own,
                previous: None,
                spent_at: 0,
                used: now,
            };
            changes.insert(id, Some(Entry::Open(Box::new(session))));
            Ok(token.token())
        })
    }

    /// The session that this token would refresh now; nothing is spent.
    pub(crate) fn peek(&self, token: &RefreshToken, now: u64) -> Option<(SessionId, Login)> {
        let shown = Shown::read(token)?;
        match self.table.read().get(&shown.id)? {
            Entry::Open(session) if session.opens(&shown, now) => {
                Some((shown.id, session.login.clone()))
            }
            _ => None,
        }
    }

    /// Spends a token, for an account that has this role now. Without one nothing is spent: it only says why nothing
    /// could be, and ends the session if the token was spent before.
    pub(crate) fn refresh(
        &self,
        token: &RefreshToken,
        role: Option<Role>,
        (now, access_until): (u64, u64),
    ) -> Result<Refreshed, RefreshError> {
        let shown = Shown::read(token).ok_or(RefreshError::Unknown)?;
        // Held throughout: who comes second is to be given what the first one was.
        let mut successors = self.successors.lock().unwrap_or_else(PoisonError::into_inner);
        let given = successors.get(&shown.id).filter(|successor| successor.of == shown.own);
        let successor = match given {
            Some(given) => given.token.clone(),
            None => shown.successor()?,
        };
        let login = self.table.change(|table, changes| {
            let mut session = match table.get(&shown.id) {
                Some(Entry::Open(session)) if session.is_of(&shown, now) => session.clone(),
                _ => return Err(RefreshError::Unknown),
            };
            if !session.opens(&shown, now) {
                changes.insert(shown.id, Some(session.over(Over::Revoked)));
                return Ok(None);
            }
            session.login.role = role.ok_or(RefreshError::Unknown)?;
            if session.current == shown.own {
                session.previous = Some(shown.own);
                session.spent_at = now;
            }
            session.current = successor.own;
            session.access_until = session.access_until.max(access_until);
            session.used = now;
            let login = session.login.clone();
            changes.insert(shown.id, Some(Entry::Open(session)));
            Ok(Some(login))
        })?;
        let login = login.ok_or(RefreshError::Reused(shown.id))?;
        let token = successor.token();
        // Nothing but what this token gives may be asked for again.
        let next = Successor { of: shown.own, token: successor, given: now };
        successors.insert(shown.id, next);
        Ok(Refreshed { id: shown.id, login, token })
    }

    /// Ends a session. Where nothing is known of it here, its access tokens are listed until `until`.
    pub(crate) fn revoke(
        &self,
        id: SessionId,
        subject: &Subject,
        until: u64,
    ) -> Result<(), RefreshError> {
        self.table.change(|table, changes| {
            let revoked = match table.get(&id) {
                Some(entry) if entry.is_revoked() => return Ok(()),
                Some(entry) => entry.revoked(),
                None if table.len() < MOST_ENTRIES + UNKNOWN => {
                    Entry::Past { subject: subject.clone(), until, what: Over::Revoked }
                }
                None => return Err(RefreshError::TooManyEnded(1)),
            };
            changes.insert(id, Some(revoked));
            Ok(())
        })
    }

    /// Ends all sessions of these subjects, the displaced ones too; answers how many.
    pub(crate) fn revoke_of(&self, subjects: &[Subject]) -> Result<usize, StateError> {
        self.table.change(|table, changes| {
            let own = |entry: &Entry| !entry.is_revoked() && subjects.contains(entry.subject());
            changes.extend(
                table
                    .iter()
                    .filter(|(_, entry)| own(entry))
                    .map(|(id, entry)| (*id, Some(entry.revoked()))),
            );
            Ok(changes.len())
        })
    }

    pub(crate) fn is_revoked(&self, id: SessionId) -> bool {
        self.table.read().get(&id).is_some_and(Entry::is_revoked)
    }

    /// The sessions that are revoked and whose tokens could still be valid; they fit one frame.
    pub(crate) fn revoked(&self) -> Vec<SessionId> {
        let table = self.table.read();
        table.iter().filter(|(_, entry)| entry.is_revoked()).map(|(id, _)| *id).collect()
    }

    /// Forgets the successors that are not given again.
    pub(crate) fn forget_successors(&self, now: u64) {
        let mut successors = self.successors.lock().unwrap_or_else(PoisonError::into_inner);
        successors.retain(|_, successor| now.abs_diff(successor.given) < GRACE);
    }

    /// Forgets what is over, also on disk. What seems to come from the future counts from now on: the clock was put
    /// back, and nothing is to last longer for that.
    pub(crate) fn sweep(&self, now: u64) -> Result<(), StateError> {
        self.table.change(|table, changes| {
            for (id, entry) in table {
                match entry {
                    Entry::Past { until, .. } if *until <= now => changes.insert(*id, None),
                    Entry::Open(session) if session.ends <= now => {
                        changes.insert(*id, Some(session.over(Over::Displaced)))
                    }
                    Entry::Open(session)
                        if session.used > now || session.ends > now.saturating_add(LONGEST) =>
                    {
                        let mut session = session.clone();
                        session.used = session.used.min(now);
                        session.ends = session.ends.min(now.saturating_add(LONGEST));
                        changes.insert(*id, Some(Entry::Open(session)))
                    }
                    Entry::Past { .. } | Entry::Open(_) => None,
                };
            }
            Ok(())
        })
    }

    pub(crate) fn count(&self) -> usize {
        open(&self.table.read()).count()
    }
}

fn open(table: &Table) -> impl Iterator<Item = (SessionId, &Session)> {
    table.iter().filter_map(|(id, entry)| match entry {
        Entry::Open(session) => Some((*id, &**session)),
        Entry::Past { .. } => None,
    })
}

/// In how many seconds a subject may begin another session. One may have half as many past ones as there are free
/// places: however many subjects begin and end sessions without end, one that does not finds a place.
fn wait_of(table: &Table, subject: &Subject, now: u64) -> u64 {
    let free = MOST_ENTRIES.saturating_sub(table.len());
    let past = table.values().filter_map(|entry| match entry {
        Entry::Past { until, subject, .. } => Some((*until, subject)),
        Entry::Open(_) => None,
    });
    let own = past.clone().filter(|(_, whose)| *whose == subject);
    if free > 0 && own.clone().count() <= free / 2 {
        return 0;
    }
    let first = if free > 0 { own.min() } else { past.min() };
    first.map_or(1, |(until, _)| until.saturating_sub(now).max(1))
}

/// Displaces whatever one more session of this subject has no place beside.
fn make_room(table: &Table, changes: &mut Changes<SessionId, Entry>, subject: &Subject) {
    let mut displace = |whose: Option<&Subject>, most: usize| {
        let mut oldest: Vec<(u64, SessionId)> = open(table)
            .filter(|(id, _)| !changes.contains_key(id))
            .filter(|(_, session)| whose.is_none_or(|whose| session.login.subject == *whose))
            .map(|(id, session)| (session.used, id))
            .collect();
        oldest.sort_unstable();
        let over = (oldest.len() + 1).saturating_sub(most);
        for (_, id) in oldest.into_iter().take(over) {
            if let Some(Entry::Open(session)) = table.get(&id) {
                changes.insert(id, Some(session.over(Over::Displaced)));
            }
        }
    };
    displace(Some(subject), MOST_OF_ONE);
    displace(None, MOST);
}

#[cfg(test)]
mod tests;
