//! Tokens that must not pass, each made by hand from one that does.

use super::*;
use crate::state_dir::StateDir;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

fn tokens(folder: &std::path::Path, issuer: &str) -> AccessTokens {
    let dir = StateDir::open(folder).unwrap();
    AccessTokens::new(SigningKey::load_or_make(&dir).unwrap(), issuer.to_owned(), 60)
}

fn holder(subject: &Subject) -> Holder<'_> {
    Holder {
        subject,
        name: "alice",
        uid: Some(1000),
        role: Role::User,
        session: SessionId::random(),
        auth_time: 1,
    }
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
    let subject = Subject::unix(1000, 1);
    let (token, claims) = tokens(folder.path(), "urn:sdrest:a").issue(&holder(&subject)).unwrap();
    let again = tokens(folder.path(), "urn:sdrest:a");
    assert_eq!(again.verify(&token).unwrap(), claims);
    let header = jsonwebtoken::decode_header(token.expose("test")).unwrap();
    assert_eq!(header.typ.as_deref(), Some("at+jwt"));
    assert_eq!(header.kid, Some(again.verifying_key().kid));
    assert_eq!(claims.exp - claims.iat, 60);
}

#[test]
fn tokens_of_other_installations_are_refused() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let subject = Subject::unix(1000, 1);
    let (token, _) = tokens(one.path(), "urn:sdrest:a").issue(&holder(&subject)).unwrap();
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
    let (token, claims) = tokens.issue(&holder(&Subject::unix(1000, 1))).unwrap();
    let body = part(&serde_json::to_value(&claims).unwrap());
    let none = part(&json!({"alg": "none", "typ": "at+jwt"}));
    assert_eq!(code(&tokens, &format!("{none}.{body}.")), ErrorCode::TokenInvalid, "alg none");
    // HS256 with the public key as its secret.
    let secret = jsonwebtoken::EncodingKey::from_secret(&tokens.verifying_key().public);
    let hs256 = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &secret).unwrap();
    assert_eq!(code(&tokens, &hs256), ErrorCode::TokenInvalid, "algorithm confusion");
    for (typ, kid) in [("JWT", tokens.verifying_key().kid), ("at+jwt", "../key".to_owned())] {
        let mut header = Header::new(Algorithm::EdDSA);
        header.typ = Some(typ.to_owned());
        header.kid = Some(kid);
        let signed = jsonwebtoken::encode(&header, &claims, &tokens.key.encoding).unwrap();
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
    let (_, claims) = tokens.issue(&holder(&Subject::unix(1000, 1))).unwrap();
    let good = serde_json::to_value(&claims).unwrap();
    let signed = |change: &dyn Fn(&mut Value)| {
        let mut value = good.clone();
        change(&mut value);
        let mut header = Header::new(Algorithm::EdDSA);
        header.typ = Some(TYPE.to_owned());
        header.kid = Some(tokens.verifying_key().kid);
        jsonwebtoken::encode(&header, &value, &tokens.key.encoding).unwrap()
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
