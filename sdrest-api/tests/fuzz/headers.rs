//! The parsers of single headers: which credentials a request shows, what it names as its server, and whether a token
//! is authd's.

use super::{
    campaign::{self, Corpus},
    plan, run,
    tokens::{Keys, claims},
};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use sdrest_api::{
    auth::{Credential, Verifier, credential},
    edge::Authority,
};
use sdrest_proto::{id::SessionId, identity::Role, secret::BearerToken};

/// `name: value` in each line, as far as HTTP can carry it.
pub(crate) fn map(head: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in head.split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let name = HeaderName::from_bytes(&line[..colon]);
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    headers
}

/// A credential is found only where exactly one header shows one, and it is made of the characters of one.
#[test]
fn credentials() {
    run("credentials", |input| {
        let headers = map(input);
        let shown = ["authorization", "x-api-key"].map(|name| headers.get_all(name).iter().count());
        let text = match credential(&headers) {
            Err(_) => return false,
            Ok(None) => {
                assert_eq!(shown, [0, 0], "a credential was sent and not seen");
                return false;
            }
            Ok(Some(Credential::Token(token))) => token.expose("read by a test").to_owned(),
            Ok(Some(Credential::Key(key))) => key.expose("read by a test").to_owned(),
        };
        assert_eq!(shown.iter().sum::<usize>(), 1);
        assert!((1..=4096).contains(&text.len()));
        assert!(text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)));
        true
    });
}

/// What is read as an authority is read the same when it is written again.
#[test]
fn authorities() {
    run("authorities", |input| {
        let Ok(text) = std::str::from_utf8(input) else { return false };
        let parsed = [Authority::parse(text), Authority::of_url(text)];
        for authority in parsed.iter().flatten() {
            assert!(!authority.host.is_empty() && authority.host.len() <= 253);
            assert!(!authority.host.contains(['/', '@', ',', ' ', '%', '\\']));
            let host = match authority.ip() {
                Some(address) if address.is_ipv6() => format!("[{address}]"),
                _ => authority.host.clone(),
            };
            let port = authority.port.map(|port| format!(":{port}")).unwrap_or_default();
            let again = Authority::parse(&format!("{host}{port}"));
            assert_eq!(again.as_ref(), Some(authority), "written again, it differs");
        }
        parsed.iter().any(Option::is_some)
    });
}

/// Whatever is done to a good token, nobody becomes somebody else by it. What is good depends on the clock, so the one
/// good token is made here and the files hold what is like it.
#[test]
fn access_tokens() {
    let keys = Keys::new();
    let verifier = Verifier::new("sdrest-authd", "sdrest-api", &[keys.verifying()]).unwrap();
    let now = super::tokens::now();
    let honest = claims(Role::User, SessionId::from_bytes([0x44; 16]), now);
    // Longer than any run of the targets.
    let mut lasting = honest.as_object().unwrap().clone();
    lasting.insert("exp".to_owned(), (now + 86_400).into());
    let lasting = serde_json::Value::Object(lasting);
    let good = Corpus { honest: vec![keys.sign(&lasting).into_bytes()], found: Vec::new() };
    let examine = |input: &[u8]| {
        let Ok(text) = std::str::from_utf8(input) else { return false };
        let Ok(read) = verifier.verify(&BearerToken::new(text.to_owned())) else { return false };
        assert_eq!(serde_json::to_value(read).unwrap(), lasting);
        true
    };
    campaign::run(&plan("access_tokens"), &good, examine);
}
