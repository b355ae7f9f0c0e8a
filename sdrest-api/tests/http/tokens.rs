//! Tokens, good and bad. The key pair is the first test vector of RFC 8032 §7.1, so every bad token here
//! could be made by anybody who knows the public key.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use sdrest_api::auth::{Verifier, VerifyError};
use sdrest_proto::{
    authd::{Claims, VerifyingKey},
    id::SessionId,
    identity::Role,
    secret::BearerToken,
};
use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};

const SEED: &str = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
const PUBLIC: &str = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
/// PKCS #8 of an Ed25519 key, up to its 32 bytes (RFC 8410 §7).
const PKCS8: &str = "302e020100300506032b657004220420";
const KID: &str = "the-key";

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

pub(crate) struct Keys(EncodingKey);

impl Keys {
    pub(crate) fn new() -> Self {
        Self(EncodingKey::from_ed_der(&bytes(&format!("{PKCS8}{SEED}"))))
    }

    pub(crate) fn verifying(&self) -> VerifyingKey {
        VerifyingKey { kid: KID.to_owned(), public: bytes(PUBLIC).try_into().unwrap() }
    }

    pub(crate) fn sign(&self, claims: &Value) -> String {
        let header = Header {
            typ: Some("at+jwt".to_owned()),
            kid: Some(KID.to_owned()),
            ..Header::new(Algorithm::EdDSA)
        };
        encode(&header, claims, &self.0).unwrap()
    }
}

pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

pub(crate) fn claims(role: Role, session: SessionId, now: u64) -> Value {
    json!({
        "iss": "sdrest-authd", "aud": "sdrest-api", "sub": "unix:1000:1", "name": "alice", "uid": 1000,
        "roles": [role], "amr": ["pam"], "sid": session, "jti": "j", "iat": now, "nbf": now, "exp": now + 3600,
        "auth_time": now,
    })
}

pub(crate) fn session_of(token: &str) -> SessionId {
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    let claims: Value = serde_json::from_slice(&payload).unwrap();
    claims["sid"].as_str().unwrap().parse().unwrap()
}

pub(crate) fn role_of(token: &str) -> Role {
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    let claims: Value = serde_json::from_slice(&payload).unwrap();
    claims["roles"][0].as_str().unwrap().parse().unwrap()
}

pub(crate) const HS256_SECRET: &[u8] = b"a secret of authd's with 32 bytes";

pub(crate) fn sign_hs256(claims: &Value, secret: &[u8]) -> String {
    let header = Header { typ: Some("at+jwt".to_owned()), ..Header::new(Algorithm::HS256) };
    encode(&header, claims, &EncodingKey::from_secret(secret)).unwrap()
}

/// What an authd with this secret says of a token.
pub(crate) fn claims_of(token: &str, secret: &[u8]) -> Option<Claims> {
    let mut validation = Validation::new(Algorithm::HS256);
    validation.set_audience(&["sdrest-api"]);
    let decoded = decode::<Claims>(token, &DecodingKey::from_secret(secret), &validation);
    decoded.ok().map(|token| token.claims)
}

fn verifier() -> Verifier {
    Verifier::new("sdrest-authd", "sdrest-api", &[Keys::new().verifying()]).unwrap()
}

fn good() -> Value {
    claims(Role::User, SessionId::random(), now())
}

fn changed(change: impl FnOnce(&mut serde_json::Map<String, Value>)) -> String {
    let mut claims = good();
    change(claims.as_object_mut().unwrap());
    Keys::new().sign(&claims)
}

fn verify(token: &str) -> Result<(), VerifyError> {
    verifier().verify(&BearerToken::new(token.to_owned())).map(drop)
}

/// A token with a header of the caller's choice and the signature of the good one.
fn with_header(header: &Value) -> String {
    let token = Keys::new().sign(&good());
    let rest = token.split_once('.').unwrap().1;
    format!("{}.{rest}", URL_SAFE_NO_PAD.encode(header.to_string()))
}

#[test]
fn a_good_token_is_good() {
    let session = SessionId::random();
    let token = Keys::new().sign(&claims(Role::Operator, session, now()));
    let claims = verifier().verify(&BearerToken::new(token)).unwrap();
    assert_eq!((claims.sid, claims.roles), (session, vec![Role::Operator]));
}

#[test]
fn an_expired_token_is_told_apart() {
    let token = changed(|claims| {
        claims.insert("exp".to_owned(), json!(now() - 60));
    });
    assert!(matches!(verify(&token), Err(VerifyError::Expired)));
}

#[test]
fn claims_that_are_wrong_missing_or_of_another_type_are_refused() {
    for (name, value) in [
        ("iss", json!("another-authd")),
        ("aud", json!("another-api")),
        ("nbf", json!(now() + 600)),
        ("nbf", json!("soon")),
        ("exp", json!("never")),
        ("exp", json!(-1)),
        ("sub", json!("root")),
        ("sub", json!(7)),
        ("roles", json!(["king"])),
        ("sid", json!("x")),
    ] {
        let token = changed(|claims| {
            claims.insert(name.to_owned(), value.clone());
        });
        assert!(matches!(verify(&token), Err(VerifyError::Invalid(_))), "{name} = {value}");
    }
    for name in ["iss", "aud", "nbf", "exp", "sub", "roles", "sid"] {
        let token = changed(|claims| {
            claims.remove(name);
        });
        assert!(matches!(verify(&token), Err(VerifyError::Invalid(_))), "without {name}");
    }
}

#[test]
fn headers_that_choose_their_own_rules_are_refused() {
    for header in [
        json!({"alg": "none", "typ": "at+jwt", "kid": KID}),
        json!({"alg": "HS256", "typ": "at+jwt", "kid": KID}),
        json!({"alg": "RS256", "typ": "at+jwt", "kid": KID}),
        json!({"alg": "EdDSA", "typ": "JWT", "kid": KID}),
        json!({"alg": "EdDSA", "kid": KID}),
        json!({"alg": "EdDSA", "typ": "at+jwt"}),
        json!({"alg": "EdDSA", "typ": "at+jwt", "kid": "another"}),
        json!({"alg": "EdDSA", "typ": "at+jwt", "kid": "../../etc/passwd"}),
        json!({"alg": "EdDSA", "typ": "at+jwt", "kid": KID, "jku": "https://evil.example/keys"}),
        json!([]),
    ] {
        assert!(matches!(verify(&with_header(&header)), Err(VerifyError::Invalid(_))), "{header}");
    }
}

#[test]
fn the_public_key_is_no_secret_for_hs256() {
    for secret in [
        bytes(PUBLIC),
        PUBLIC.as_bytes().to_vec(),
        URL_SAFE_NO_PAD.encode(bytes(PUBLIC)).into_bytes(),
    ] {
        let header = Header {
            typ: Some("at+jwt".to_owned()),
            kid: Some(KID.to_owned()),
            ..Header::new(Algorithm::HS256)
        };
        let token = encode(&header, &good(), &EncodingKey::from_secret(&secret)).unwrap();
        assert!(matches!(verify(&token), Err(VerifyError::Invalid(_))));
    }
}

#[test]
fn what_was_tampered_with_or_is_no_token_is_refused() {
    let token = Keys::new().sign(&good());
    let (body, signature) = token.rsplit_once('.').unwrap();
    let (header, payload) = body.split_once('.').unwrap();
    let admin = URL_SAFE_NO_PAD.encode(claims(Role::Admin, SessionId::random(), now()).to_string());
    for bad in [
        format!("{header}.{admin}.{signature}"),
        format!("{header}.{payload}."),
        format!("{header}.{payload}"),
        format!("{header}.{payload}.{}", URL_SAFE_NO_PAD.encode([0; 64])),
        String::new(),
        "..".to_owned(),
        "a.b.c".to_owned(),
    ] {
        assert!(matches!(verify(&bad), Err(VerifyError::Invalid(_))), "{bad}");
    }
}
