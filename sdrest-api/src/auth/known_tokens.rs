//! Tokens whose signature has been checked, until they expire: by the SHA-256 of the whole token, so that none is
//! kept, and bounded. It spares the signature alone: whoever asks still checks the times and the revocations. It
//! belongs to one set of keys and ends with it.

use sdrest_proto::authd::Claims;
use sha2::{Digest, Sha256};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Tokens at a time.
const ROOM: usize = 4096;

/// The SHA-256 of a token.
type Digested = [u8; 32];

/// Clones share it.
#[derive(Clone, Default)]
pub(super) struct KnownTokens(Arc<Mutex<HashMap<Digested, Arc<Claims>>>>);

impl KnownTokens {
    pub(super) fn digest(token: &str) -> Digested {
        Sha256::digest(token).into()
    }

    fn shelf(&self) -> MutexGuard<'_, HashMap<Digested, Arc<Claims>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn get(&self, digest: &Digested) -> Option<Arc<Claims>> {
        self.shelf().get(digest).cloned()
    }

    /// Keeps a token that is authentic. Where there is no room, what has expired goes, and without that everything.
    pub(super) fn keep(&self, digest: Digested, claims: &Arc<Claims>, now: u64) {
        let mut shelf = self.shelf();
        if shelf.len() >= ROOM {
            shelf.retain(|_, known| known.exp > now);
        }
        if shelf.len() >= ROOM {
            shelf.clear();
        }
        shelf.insert(digest, Arc::clone(claims));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sdrest_proto::{
        id::SessionId,
        identity::{Role, Subject},
    };

    fn claims(exp: u64) -> Arc<Claims> {
        serde_json::from_value::<Claims>(serde_json::json!({
            "iss": "i", "aud": "a", "sub": Subject::unix(1000, 1), "name": "alice", "uid": 1000,
            "roles": [Role::User], "amr": ["pam"], "sid": SessionId::random(), "jti": "j",
            "iat": 0, "nbf": 0, "exp": exp, "auth_time": 0,
        }))
        .map(Arc::new)
        .unwrap()
    }

    #[test]
    fn a_flood_of_tokens_leaves_it_bounded_and_the_newest_known() {
        let known = KnownTokens::default();
        for number in 0..3 * ROOM {
            let digest = KnownTokens::digest(&number.to_string());
            known.keep(digest, &claims(100 + number as u64), 0);
            assert!(known.get(&digest).is_some() && known.shelf().len() <= ROOM);
        }
    }

    #[test]
    fn what_has_expired_makes_room_first() {
        let known = KnownTokens::default();
        let lasting = KnownTokens::digest("lasting");
        known.keep(lasting, &claims(1_000_000), 0);
        for number in 1..2 * ROOM {
            known.keep(
                KnownTokens::digest(&number.to_string()),
                &claims(number as u64),
                number as u64,
            );
        }
        assert!(known.get(&lasting).is_some());
    }
}
