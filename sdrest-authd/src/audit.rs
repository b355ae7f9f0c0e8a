//! One line of JSON for each event that matters to whoever looks after the host, on target `audit`. Names are
//! shortened and cleaned; prompts, answers, tokens and keys never appear (their ids do). A typed name is shown once
//! somebody has signed in with it; before that its length and a keyed hash, because people type passwords there.

use crate::{peer::Source, random};
use sdrest_proto::{
    authd::Claims,
    id::{KeyId, RequestId, SessionId},
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::{
    collections::HashSet,
    sync::{LazyLock, Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

/// Characters of a name that are logged.
const NAME: usize = 64;
/// Names remembered; beyond, new ones stay hashed.
const KNOWN: usize = 65_536;

/// Names that are accounts for certain, and what the others are hashed with: anew at every start.
struct Names {
    salt: String,
    known: Mutex<HashSet<String>>,
}

static NAMES: LazyLock<Names> = LazyLock::new(|| Names {
    // Without random numbers nothing here works; then names are not even hashed.
    salt: random::text().unwrap_or_default(),
    known: Mutex::default(),
});

/// From now on this name is shown: an account has it.
pub(crate) fn learn(name: &str) {
    let mut known = NAMES.known.lock().unwrap_or_else(PoisonError::into_inner);
    if known.len() < KNOWN {
        known.insert(name.to_owned());
    }
}

/// A name as it was typed, fit for a log.
fn typed(name: &str) -> String {
    if NAMES.known.lock().unwrap_or_else(PoisonError::into_inner).contains(name) {
        return clean(name);
    }
    let length = name.chars().count();
    if NAMES.salt.is_empty() {
        return format!("unknown({length})");
    }
    let digest = Sha256::new().chain_update(&NAMES.salt).chain_update(name).finalize();
    let short: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    format!("unknown({length})~{short}")
}

/// Seconds since 1970.
pub(crate) fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn emit(event: &'static str, request: Option<&RequestId>, details: Value) {
    let mut line = json!({ "event": event, "time": unix_now() });
    if let Some(object) = line.as_object_mut() {
        if let Some(request) = request {
            object.insert("request_id".to_owned(), Value::String(request.to_string()));
        }
        if let Value::Object(details) = details {
            object.extend(details);
        }
    }
    tracing::info!(target: "audit", "{line}");
}

/// A name fit for a log: no control characters, no characters that turn the line around, not too long.
pub(crate) fn clean(name: &str) -> String {
    let shown = |c: &char| {
        !c.is_control()
            && !matches!(c, '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    name.chars().filter(shown).take(NAME).collect()
}

pub(crate) fn conversation_began(request: &RequestId, user: &str, source: &Source) {
    emit(
        "conversation_began",
        Some(request),
        json!({ "user": typed(user), "source": source.network() }),
    );
}

pub(crate) fn conversation_ended(request: &RequestId, user: &str, result: &str, pam_code: i32) {
    emit(
        "conversation_ended",
        Some(request),
        json!({ "user": typed(user), "result": result, "pam_code": pam_code }),
    );
}

pub(crate) fn throttled(user: &str, source: &Source, seconds: u64) {
    emit(
        "throttled",
        None,
        json!({ "user": typed(user), "source": source.network(), "seconds": seconds }),
    );
}

/// What is told of a token: never the token.
pub(crate) fn token_issued(request: &RequestId, claims: &Claims) {
    let details = json!({
        "user": clean(&claims.name), "subject": claims.sub.as_str(),
        "role": claims.roles.first().map(|role| role.as_str()),
        "session": claims.sid.to_string(), "jti": claims.jti, "amr": claims.amr.first(),
    });
    emit("token_issued", Some(request), details);
}

/// The outcome of a change of an expired password.
pub(crate) fn password_changed(request: &RequestId, user: &str, result: &str) {
    emit(
        "expired_password_changed",
        Some(request),
        json!({ "user": typed(user), "result": result }),
    );
}

/// What an administrator did, by the uid at the other end of the admin socket.
pub(crate) fn administered(admin: u32, verb: &'static str, on: &str) {
    emit("administered", None, json!({ "admin_uid": admin, "verb": verb, "on": clean(on) }));
}

/// `by` is a subject, or an administrator.
pub(crate) fn key_made(request: Option<&RequestId>, key: KeyId, owner: &str, by: &str) {
    let details = json!({ "key": key.to_string(), "owner": owner, "by": by });
    emit("api_key_made", request, details);
}

pub(crate) fn key_first_used(request: &RequestId, key: KeyId, owner: &str) {
    emit("api_key_first_used", Some(request), json!({ "key": key.to_string(), "owner": owner }));
}

/// A key that is ours and was not let in.
pub(crate) fn key_refused(request: &RequestId, key: KeyId, why: &str) {
    emit("api_key_refused", Some(request), json!({ "key": key.to_string(), "why": why }));
}

pub(crate) fn key_revoked(request: Option<&RequestId>, key: KeyId, owner: &str, by: &str) {
    let details = json!({ "key": key.to_string(), "owner": owner, "by": by });
    emit("api_key_revoked", request, details);
}

pub(crate) fn signing_key_rotated(kid: &str) {
    emit("signing_key_rotated", None, json!({ "kid": kid }));
}

pub(crate) fn peer_login_refused(request: &RequestId, uid: u32, typed_name: &str, why: &str) {
    emit(
        "peer_login_refused",
        Some(request),
        json!({ "uid": uid, "user": typed(typed_name), "why": why }),
    );
}

/// A refresh whose account is not what it was.
pub(crate) fn refresh_refused(request: &RequestId, session: SessionId, why: &str) {
    emit("refresh_refused", Some(request), json!({ "session": session.to_string(), "why": why }));
}

pub(crate) fn session_revoked(request: &RequestId, session: SessionId, why: &str) {
    emit("session_revoked", Some(request), json!({ "session": session.to_string(), "why": why }));
}

pub(crate) fn peer_refused(socket: &str, cause: &str) {
    emit("peer_refused", None, json!({ "socket": socket, "cause": clean(cause) }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_typed_into_the_wrong_field_is_not_shown() {
        let shown = typed("my-Passw0rd");
        assert!(shown.starts_with("unknown(11)~") && !shown.contains("Passw"), "{shown}");
        assert_eq!(shown, typed("my-Passw0rd"));
        assert_ne!(shown, typed("my-Passw0rD"));
        learn("some-account");
        assert_eq!(typed("some-account"), "some-account");
    }

    #[test]
    fn names_cannot_forge_log_lines() {
        assert_eq!(clean("al\x1b[2Jice\n{\"event\":1}\u{202e}x"), "al[2Jice{\"event\":1}x");
        assert_eq!(clean(&"x".repeat(500)).len(), 64);
    }
}
