//! Tokens that must not pass, each made by hand from one that does.

use super::*;
use crate::{state_dir::StateDir, tokens::sessions::How};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, jwk};
use sdrest_proto::identity::{Role, Subject};
use serde_json::{Value, json};

const FILE: &str = "signing-key.der";

fn tokens(folder: &std::path::Path, issuer: &str) -> AccessTokens {
    let dir = StateDir::open(folder).unwrap();
    AccessTokens::new(Signer::load(&dir, None).unwrap(), issuer.to_owned(), 60)
}

fn kid(tokens: &AccessTokens) -> String {
    tokens.verifying_keys()[0].kid.clone()
}

/// Signs what authd would not, with authd's key.
fn sign(folder: &std::path::Path, header: &Header, claims: &impl serde::Serialize) -> String {
    let key = EncodingKey::from_ed_der(&std::fs::read(folder.join(FILE)).unwrap());
    jsonwebtoken::encode(header, claims, &key).unwrap()
}

fn issue(tokens: &AccessTokens) -> (BearerToken, Claims) {
    let login = Login {
        subject: Subject::unix(1000, 1),
        name: "alice".to_owned(),
        uid: Some(1000),
        role: Role::User,
        how: How::Pam,
        auth_time: 1,
    };
    tokens.issue(SessionId::random(), &login, unix_now()).unwrap()
}

fn code(tokens: &AccessTokens, text: &str) -> ErrorCode {
    tokens.verify(&BearerToken::new(text.to_owned())).unwrap_err().code
}

fn part(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

#[test]
fn a_token_passes_and_carries_its_claims_also_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let (token, claims) = issue(&tokens(folder.path(), "urn:sdrest:a"));
    let again = tokens(folder.path(), "urn:sdrest:a");
    assert_eq!(again.verify(&token).unwrap(), claims);
    let header = jsonwebtoken::decode_header(token.expose("test")).unwrap();
    assert_eq!(header.typ.as_deref(), Some("at+jwt"));
    assert_eq!(header.kid, Some(kid(&again)));
    assert_eq!(claims.exp - claims.iat, 60);
}

/// A library that others verify with takes what is signed here, and knows the key by the same id.
#[test]
fn jsonwebtoken_takes_our_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let ours = tokens(folder.path(), "urn:sdrest:a");
    let key = EncodingKey::from_ed_der(&std::fs::read(folder.path().join(FILE)).unwrap());
    let jwk = jwk::Jwk::from_encoding_key(&key, Algorithm::EdDSA).unwrap();
    assert_eq!(jwk.thumbprint(jwk::ThumbprintHash::SHA256).unwrap(), kid(&ours));
    let shared = Signer::load(&StateDir::open(folder.path()).unwrap(), Some(&[1; 32])).unwrap();
    let shared = AccessTokens::new(shared, "urn:sdrest:a".to_owned(), 60);
    let keys = [
        (&ours, Algorithm::EdDSA, DecodingKey::from_jwk(&jwk).unwrap()),
        (&shared, Algorithm::HS256, DecodingKey::from_secret(&[1; 32])),
    ];
    for (tokens, algorithm, key) in keys {
        let (token, claims) = issue(tokens);
        let mut validation = Validation::new(algorithm);
        validation.set_audience(&[AUDIENCE]);
        validation.set_issuer(&["urn:sdrest:a"]);
        let read = jsonwebtoken::decode::<Claims>(token.expose("test"), &key, &validation).unwrap();
        assert_eq!((read.claims, read.header.alg), (claims, algorithm));
    }
}

#[test]
fn tokens_of_other_installations_are_refused() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (token, _) = issue(&tokens(one.path(), "urn:sdrest:a"));
    let text = token.expose("test");
    assert_eq!(
        code(&tokens(two.path(), "urn:sdrest:a"), text),
        ErrorCode::TokenInvalid,
        "another key"
    );
    assert_eq!(
        code(&tokens(one.path(), "urn:sdrest:b"), text),
        ErrorCode::TokenInvalid,
        "another issuer"
    );
}

#[test]
fn a_header_cannot_choose_how_it_is_verified() {
    let folder = tempfile::tempdir().unwrap();
    let tokens = tokens(folder.path(), "urn:sdrest:a");
    let (token, claims) = issue(&tokens);
    let body = part(&serde_json::to_value(&claims).unwrap());
    let none = part(&json!({"alg": "none", "typ": "at+jwt"}));
    assert_eq!(code(&tokens, &format!("{none}.{body}.")), ErrorCode::TokenInvalid, "alg none");
    // HS256 with the public key as its secret.
    let secret = EncodingKey::from_secret(&tokens.verifying_keys()[0].public);
    let hs256 = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &secret).unwrap();
    assert_eq!(code(&tokens, &hs256), ErrorCode::TokenInvalid, "algorithm confusion");
    for (typ, kid) in [("JWT", kid(&tokens)), ("at+jwt", "../key".to_owned())] {
        let mut header = Header::new(Algorithm::EdDSA);
        header.typ = Some(typ.to_owned());
        header.kid = Some(kid);
        let signed = sign(folder.path(), &header, &claims);
        assert_eq!(code(&tokens, &signed), ErrorCode::TokenInvalid, "{typ}");
    }
    let mut text = token.expose("test").to_owned();
    let last = text.pop().unwrap();
    text.push(if last == 'A' { 'B' } else { 'A' });
    for bad in ["", ".", "..", "a.b.c", text.as_str(), &"x".repeat(100_000)] {
        assert_eq!(code(&tokens, bad), ErrorCode::TokenInvalid);
    }
}

#[test]
fn every_claim_counts() {
    let folder = tempfile::tempdir().unwrap();
    let tokens = tokens(folder.path(), "urn:sdrest:a");
    let (_, claims) = issue(&tokens);
    let good = serde_json::to_value(&claims).unwrap();
    let signed = |change: &dyn Fn(&mut Value)| {
        let mut value = good.clone();
        change(&mut value);
        let mut header = Header::new(Algorithm::EdDSA);
        header.typ = Some("at+jwt".to_owned());
        header.kid = Some(kid(&tokens));
        sign(folder.path(), &header, &value)
    };
    tokens.verify(&BearerToken::new(signed(&|_| {}))).unwrap();
    assert_eq!(code(&tokens, &signed(&|v| v["exp"] = json!(1))), ErrorCode::TokenExpired);
    let far = unix_now() + 3600;
    for (claim, value) in [
        ("nbf", json!(far)),
        ("aud", json!("other")),
        ("iss", json!("other")),
        ("sub", json!("root")),
        ("exp", json!("soon")),
        ("exp", json!(-1)),
        ("aud", json!(7)),
    ] {
        let text = signed(&|v| v[claim] = value.clone());
        assert!(tokens.verify(&BearerToken::new(text)).is_err(), "{claim} = {value}");
    }
    for claim in ["exp", "nbf", "iss", "aud", "sub", "sid", "jti"] {
        let text = signed(&|v| {
            v.as_object_mut().unwrap().remove(claim);
        });
        assert_eq!(code(&tokens, &text), ErrorCode::TokenInvalid, "{claim} is missing");
    }
}

#[test]
fn two_keys_verify_after_a_rotation_also_after_a_restart_until_the_older_is_over() {
    let folder = tempfile::tempdir().unwrap();
    let before = tokens(folder.path(), "urn:sdrest:a");
    let (old, _) = issue(&before);
    let old_kid = kid(&before);
    let until = unix_now() + 120;
    let new_kid = before.rotate(until).unwrap();
    assert_ne!(new_kid, old_kid);
    let kid_of = |token: &BearerToken| {
        jsonwebtoken::decode_header(token.expose("test")).unwrap().kid.unwrap()
    };
    let (between, _) = issue(&before);
    assert_eq!(kid_of(&between), old_kid, "the new key signs once it is known");
    before.settle();
    let (new, _) = issue(&before);
    assert_eq!(kid_of(&new), new_kid);
    assert!(matches!(before.rotate(until), Err(KeyError::TooSoon(_))));

    let after = tokens(folder.path(), "urn:sdrest:a");
    assert_eq!(after.verifying_keys(), before.verifying_keys());
    for token in [&old, &between, &new] {
        after.verify(token).unwrap();
    }
    assert_eq!(kid_of(&issue(&after).0), new_kid);
    assert!(!after.forget(until - 1).unwrap() && after.forget(until).unwrap());
    assert_eq!(code(&after, old.expose("test")), ErrorCode::TokenInvalid);
    after.verify(&new).unwrap();
    assert_eq!(tokens(folder.path(), "urn:sdrest:a").verifying_keys().len(), 1);
}

#[test]
fn a_shared_secret_verifies_its_own_tokens_and_no_others() {
    let folder = tempfile::tempdir().unwrap();
    let with = |secret: &[u8]| {
        let signer = Signer::load(&StateDir::open(folder.path()).unwrap(), Some(secret)).unwrap();
        AccessTokens::new(signer, "urn:sdrest:a".to_owned(), 60)
    };
    let (one, two, eddsa) = (with(&[1; 32]), with(&[2; 32]), tokens(folder.path(), "urn:sdrest:a"));
    let (token, claims) = issue(&one);
    assert_eq!(one.verify(&token).unwrap(), claims);
    assert_eq!((one.signature(), one.verifying_keys().len()), (Signature::Hs256, 0));
    for other in [&two, &eddsa] {
        assert_eq!(code(other, token.expose("test")), ErrorCode::TokenInvalid);
    }
    let (foreign, _) = issue(&eddsa);
    assert_eq!(code(&one, foreign.expose("test")), ErrorCode::TokenInvalid);
    let none = part(&json!({"alg": "none", "typ": "at+jwt"}));
    let body = part(&serde_json::to_value(&claims).unwrap());
    assert_eq!(code(&one, &format!("{none}.{body}.")), ErrorCode::TokenInvalid);
    assert!(matches!(one.rotate(0), Err(KeyError::NoRotation)));
}
