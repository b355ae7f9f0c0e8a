//! One line of JSON for each event that matters to whoever looks after the host: to the journal with facility authpriv
//! where there is one, so that it stands in auth.log too, else to standard error; whatever the log's level is. Names are
//! shortened and cleaned; prompts, answers, tokens and keys never appear (their ids do). A typed name is shown once
//! somebody has signed in with it; before that its length and a keyed hash, because people type passwords there.

use crate::{peer::Source, random};
use nix::sys::stat::fstat;
use sdrest_proto::{
    BUILD,
    authd::{AuthMode, Claims},
    error::Fault,
    id::{KeyId, RequestId, SessionId},
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::{
    collections::HashSet,
    io::{self, Write},
    os::unix::net::UnixDatagram,
    sync::{LazyLock, Mutex, OnceLock, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

const JOURNAL: &str = "/run/systemd/journal/socket";
const PROGRAM: &str = "sdrest-authd";
/// syslog(3).
const AUTHPRIV: u8 = 10;
const NOTICE: u8 = 5;
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

/// Where the lines go.
enum Sink {
    Journal(UnixDatagram),
    StandardError,
}

static SINK: OnceLock<Sink> = OnceLock::new();

/// Connects to the journal, if standard error goes there (systemd.exec(5), JOURNAL_STREAM). Where this is not called
/// or there is none, lines go to standard error.
pub(crate) fn open() {
    let own = fstat(io::stderr()).map(|found| format!("{}:{}", found.st_dev, found.st_ino));
    let journals = std::env::var("JOURNAL_STREAM");
    let connected = || {
        let socket = UnixDatagram::unbound()?;
        socket.connect(JOURNAL).map(|()| socket)
    };
    let sink = match (own, journals) {
        (Ok(own), Ok(journals)) if own == journals => {
            connected().map_or(Sink::StandardError, Sink::Journal)
        }
        _ => Sink::StandardError,
    };
    let _ = SINK.set(sink);
}

/// Writes a line, in the journal's own protocol (systemd's JOURNAL_NATIVE_PROTOCOL) or as it is. Nobody can be told
/// where that fails.
fn write(line: &str) {
    if let Some(Sink::Journal(socket)) = SINK.get() {
        let entry = format!(
            "SYSLOG_IDENTIFIER={PROGRAM}\nSYSLOG_FACILITY={AUTHPRIV}\nPRIORITY={NOTICE}\nMESSAGE={line}\n"
        );
        if socket.send(entry.as_bytes()).is_ok() {
            return;
        }
    }
    let _ = writeln!(io::stderr().lock(), "{line}");
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
    write(&line.to_string());
}

/// A name fit for a log: no control characters, no characters that turn the line around, not too long.
pub(crate) fn clean(name: &str) -> String {
    let shown = |c: &char| {
        !c.is_control()
            && !matches!(c, '\u{200e}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    name.chars().filter(shown).take(NAME).collect()
}

/// authd serves; between this and the line before nothing was heard.
pub(crate) fn started(mode: AuthMode) {
    emit("started", None, json!({ "auth": mode.as_str(), "build": BUILD }));
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
/// Also where it failed: half of it may have been done.
pub(crate) fn administered(admin: u32, verb: &'static str, on: &str, failed: Option<&Fault>) {
    let result = failed.map_or("done", |fault| fault.code.as_str());
    let details = json!({ "admin_uid": admin, "verb": verb, "on": clean(on), "result": result });
    emit("administered", None, details);
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
