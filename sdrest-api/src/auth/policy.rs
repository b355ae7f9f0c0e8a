//! What authd decided: mode, realm, guests, public paths, keys, and the sessions that no longer count. A
//! snapshot never changes; news from authd makes another.

use super::{
    public_paths::PublicPaths,
    verifier::{KeyError, Verifier},
};
use sdrest_proto::{
    authd::{AuthMode, AuthdDescription, Revocations, SignIn, Signature},
    id::SessionId,
};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

/// How long a session that was signed out is remembered where no list names it, by a clock that nobody sets: longer
/// than any access token of it can live (`--jwt-expiration` is a week at most).
const AHEAD: Duration = Duration::from_secs(7 * 24 * 60 * 60 + 60);
/// How many of them; beyond, those go that were signed out longest ago. As many as authd's list can hold.
const MOST_AHEAD: usize = 16_384;

/// One snapshot.
#[derive(Clone, Debug)]
pub struct Policy {
    description: AuthdDescription,
    public_paths: PublicPaths,
    /// None where only authd can verify (HS256).
    verifier: Option<Verifier>,
    revoked: Arc<HashSet<SessionId>>,
    /// Sessions that were signed out and that authd's list does not name, yet or any more.
    ahead: Arc<HashMap<SessionId, Instant>>,
}

impl Policy {
    pub fn new(description: AuthdDescription, revocations: Revocations) -> Result<Self, KeyError> {
        let description = AuthdDescription { keys: revocations.keys, ..description };
        Ok(Self {
            verifier: verifier(&description)?,
            public_paths: PublicPaths::new(&description.public_paths),
            revoked: Arc::new(revocations.sessions.into_iter().collect()),
            ahead: Arc::default(),
            description,
        })
    }

    /// The same policy with a newer list of revoked sessions, and with newer keys where they can be used.
    pub(super) fn with_news(&self, news: Revocations) -> Self {
        let revoked: HashSet<SessionId> = news.sessions.into_iter().collect();
        let mut next = self.clone();
        if news.keys != self.description.keys {
            let description = AuthdDescription { keys: news.keys, ..self.description.clone() };
            match verifier(&description) {
                Ok(verifier) => {
                    tracing::info!(keys = description.keys.len(), "the keys of tokens changed");
                    (next.description, next.verifier) = (description, verifier);
                }
                Err(error) => {
                    tracing::error!(%error, "authd's new keys cannot be used; the older ones stay");
                }
            }
        }
        next.revoked = Arc::new(revoked);
        next.after(self)
    }

    /// Takes over what was signed out before, as far as the list does not name it. authd lets go of a session once its
    /// tokens have expired; where the clock was ahead then and is set back, they would count again.
    pub(super) fn after(mut self, before: &Self) -> Self {
        let mut left = HashMap::clone(&before.ahead);
        for session in before.revoked.iter() {
            left.entry(*session).or_insert_with(Instant::now);
        }
        left.retain(|session, since| !self.revoked.contains(session) && since.elapsed() < AHEAD);
        forget_oldest(&mut left);
        self.ahead = Arc::new(left);
        self
    }

    /// The same policy without a session.
    pub(super) fn without(&self, session: SessionId) -> Self {
        let mut ahead = HashMap::clone(&self.ahead);
        ahead.insert(session, Instant::now());
        Self { ahead: Arc::new(ahead), ..self.clone() }
    }

    #[cfg(test)]
    pub(super) fn ahead(&self) -> &HashMap<SessionId, Instant> {
        &self.ahead
    }

    pub(super) fn verifier(&self) -> Option<&Verifier> {
        self.verifier.as_ref()
    }

    /// What this policy opens that the one before had closed. The server was started, and its listen address
    /// accepted, under the one before.
    pub fn opens_beyond(&self, before: &Self) -> Option<&'static str> {
        let (now, then) = (&self.description, &before.description);
        if then.mode == AuthMode::None {
            return None;
        }
        if now.mode == AuthMode::None {
            return Some("authentication is off");
        }
        if now.sign_in == SignIn::Peer && then.sign_in != SignIn::Peer {
            return Some("the kernel's word is enough to sign in");
        }
        if self.guests() && !before.guests() {
            return Some("guests are let in");
        }
        (!before.public_paths.cover(&self.public_paths)).then_some("more paths are public")
    }

    pub fn description(&self) -> &AuthdDescription {
        &self.description
    }

    pub fn mode(&self) -> AuthMode {
        self.description.mode
    }

    /// Whether callers without credentials are guests; in mode optional they always are.
    pub fn guests(&self) -> bool {
        self.description.guests || self.description.mode == AuthMode::Optional
    }

    pub fn public_paths(&self) -> &PublicPaths {
        &self.public_paths
    }

    pub fn is_revoked(&self, session: SessionId) -> bool {
        self.revoked.contains(&session) || self.ahead.contains_key(&session)
    }
}

fn forget_oldest(ahead: &mut HashMap<SessionId, Instant>) {
    let Some(last) = ahead.len().checked_sub(MOST_AHEAD + 1) else { return };
    let mut times: Vec<Instant> = ahead.values().copied().collect();
    let gone = *times.select_nth_unstable(last).1;
    ahead.retain(|_, since| *since > gone);
}

fn verifier(description: &AuthdDescription) -> Result<Option<Verifier>, KeyError> {
    match description.signature {
        Signature::Hs256 => Ok(None),
        Signature::EdDsa => {
            Verifier::new(&description.issuer, &description.audience, &description.keys).map(Some)
        }
    }
}
