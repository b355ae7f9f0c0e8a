//! One line of JSON for each event that matters to whoever looks after the host, on target `audit`. Names are
//! shortened and cleaned; prompts, answers and tokens never appear (a token's id does).

use crate::peer::Source;
use sdrest_proto::id::{RequestId, SessionId};
use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};

/// Characters of a name that are logged.
const NAME: usize = 64;

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
        json!({ "user": clean(user), "source": source.network() }),
    );
}

pub(crate) fn conversation_ended(request: &RequestId, user: &str, result: &str, pam_code: i32) {
    emit(
        "conversation_ended",
        Some(request),
        json!({ "user": clean(user), "result": result, "pam_code": pam_code }),
    );
}

pub(crate) fn throttled(user: &str, source: &Source, seconds: u64) {
    emit(
        "throttled",
        None,
        json!({ "user": clean(user), "source": source.network(), "seconds": seconds }),
    );
}

/// What is told of a token: never the token.
pub(crate) struct Issued<'a> {
    pub(crate) user: &'a str,
    pub(crate) subject: &'a str,
    pub(crate) role: &'a str,
    pub(crate) session: SessionId,
    pub(crate) jti: &'a str,
    pub(crate) kid: &'a str,
}

pub(crate) fn token_issued(request: Option<&RequestId>, issued: &Issued<'_>) {
    let details = json!({
        "user": clean(issued.user), "subject": issued.subject, "role": issued.role,
        "session": issued.session.to_string(), "jti": issued.jti, "kid": issued.kid,
    });
    emit("token_issued", request, details);
}

pub(crate) fn session_revoked(request: &RequestId, session: SessionId, why: &str) {
    emit("session_revoked", Some(request), json!({ "session": session.to_string(), "why": why }));
}

pub(crate) fn peer_refused(socket: &str, cause: &str) {
    emit("peer_refused", None, json!({ "socket": socket, "cause": clean(cause) }));
}

#[cfg(test)]
mod tests {
    use super::clean;

    #[test]
    fn names_cannot_forge_log_lines() {
        assert_eq!(clean("al\x1b[2Jice\n{\"event\":1}\u{202e}x"), "al[2Jice{\"event\":1}x");
        assert_eq!(clean(&"x".repeat(500)).len(), 64);
    }
}
