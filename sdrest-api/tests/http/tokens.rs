//! Tokens, good and bad. The key pair is the first test vector of RFC 8032 §7.1, so every bad token here
//! could be made by anybody who knows the public key.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use sdrest_api::auth::Verifier;
use sdrest_proto::{
    access_token::TokenError,
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

/// Another pair: the second test vector.
const OTHER_SEED: &str = "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb";
const OTHER_PUBLIC: &str = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c";

pub(crate) struct Keys {
    kid: &'static str,
    public: &'static str,
    private: EncodingKey,
}

impl Keys {
    pub(crate) fn new() -> Self {
        Self::of(KID, SEED, PUBLIC)
    }

    pub(crate) fn other() -> Self {
        Self::of("the-other-key", OTHER_SEED, OTHER_PUBLIC)
    }

    fn of(kid: &'static str, seed: &str, public: &'static str) -> Self {
        let private = EncodingKey::from_ed_der(&bytes(&format!("{PKCS8}{seed}")));
        Self { kid, public, private }
    }

    pub(crate) fn verifying(&self) -> VerifyingKey {
        VerifyingKey { kid: self.kid.to_owned(), public: bytes(self.public).try_into().unwrap() }
    }

    fn header(&self) -> Header {
        Header {
            typ: Some("at+jwt".to_owned()),
            kid: Some(self.kid.to_owned()),
            ..Header::new(Algorithm::EdDSA)
        }
    }

    pub(crate) fn sign(&self, claims: &Value) -> String {
        encode(&self.header(), claims, &self.private).unwrap()
    }

    /// Signed well, under a header of the caller's choice.
    fn sign_under(&self, change: impl FnOnce(&mut Header)) -> String {
        let mut header = self.header();
        change(&mut header);
        encode(&header, &good(), &self.private).unwrap()
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

/// Takes nothing that jsonwebtoken refuses under the same rules.
fn verify(token: &str) -> Result<(), TokenError> {
    let answer = verifier().verify(&BearerToken::new(token.to_owned())).map(drop);
    assert!(answer.is_err() || jsonwebtoken_takes(token), "{token}");
    answer
}

fn jsonwebtoken_takes(token: &str) -> bool {
    let mut validation = Validation::new(Algorithm::EdDSA);
    (validation.leeway, validation.validate_nbf) = (5, true);
    validation.set_issuer(&["sdrest-authd"]);
    validation.set_audience(&["sdrest-api"]);
    validation.set_required_spec_claims(&["exp", "nbf", "iss", "aud", "sub"]);
    let key = DecodingKey::from_ed_der(&bytes(PUBLIC));
    decode::<Claims>(token, &key, &validation).is_ok()
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
    assert_eq!((claims.sid, &claims.roles), (session, &vec![Role::Operator]));
}

/// What is known of a token is not known of one that looks like it, nor of it under other keys.
#[test]
fn a_token_that_was_checked_before_vouches_for_nothing_else() {
    let verifier = verifier();
    let session = SessionId::random();
    let good = Keys::new().sign(&claims(Role::User, session, now()));
    for _ in 0..3 {
        assert_eq!(verifier.verify(&BearerToken::new(good.clone())).unwrap().sid, session);
    }
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let mut raised = claims(Role::Admin, session, now());
    raised["jti"] = json!("j");
    let raised = Keys::other().sign(&raised);
    let forged = format!("{}.{signature}", raised.rsplit_once('.').unwrap().0);
    for other in [forged, format!("{signed}."), format!("{good}A"), format!(" {good}")] {
        let answer = verifier.verify(&BearerToken::new(other.clone()));
        assert!(matches!(answer, Err(TokenError::Invalid(_))), "{other}");
    }
    let rotated =
        Verifier::new("sdrest-authd", "sdrest-api", &[Keys::other().verifying()]).unwrap();
    assert!(matches!(rotated.verify(&BearerToken::new(good)), Err(TokenError::Invalid(_))));
}

/// Well signed and oddly written: what is taken of it is what jsonwebtoken takes.
#[test]
fn tokens_are_read_as_jsonwebtoken_reads_them() {
    let header = format!(r#"{{"alg":"EdDSA","typ":"at+jwt","kid":"{KID}"}}"#);
    let now = now();
    let claims = claims(Role::User, SessionId::random(), now).to_string();
    let exp = format!(r#""exp":{}"#, now + 3600);
    let odd = |text: &str, member: &str| {
        let twice = text.replacen('{', &format!("{{{member},"), 1);
        let escaped = text.replacen("\"a", "\"\\u0061", 1);
        let more = text.replacen('{', r#"{"\u0000":[[{}]],"#, 1);
        let spaced = text.replace(':', " :\n\t");
        let ends = [
            format!("{text} "),
            format!("{text}{{}}"),
            format!("\u{feff}{text}"),
            format!("[{text}]"),
        ];
        [text.to_owned(), twice, escaped, more, spaced, text.to_uppercase(), String::new()]
            .into_iter()
            .chain(ends)
    };
    let times = ["1e11", "1e400", "99999999999999999999", "-0", "\"9\"", "null", "9999999999.0"];
    let times = times.map(|value| claims.replace(&exp, &format!(r#""exp":{value}"#)));
    let bodies = odd(&claims, &exp).chain(times).map(|claims| (header.clone(), claims));
    let heads = odd(&header, r#""alg":"EdDSA""#).map(|header| (header, claims.clone()));
    let mut taken = 0;
    for (header, claims) in heads.chain(bodies) {
        let signed = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
        let signature =
            jsonwebtoken::crypto::sign(signed.as_bytes(), &Keys::new().private, Algorithm::EdDSA);
        let token = format!("{signed}.{}", signature.unwrap());
        // Members that a header may not have are refused, which jsonwebtoken leaves to its callers.
        let plain =
            jsonwebtoken::decode_header(&token).is_ok_and(|header| header == Keys::new().header());
        assert_eq!(verify(&token).is_ok(), plain && jsonwebtoken_takes(&token), "{token}");
        taken += usize::from(verify(&token).is_ok());
    }
    assert!((6..20).contains(&taken), "{taken} were taken");
}

#[test]
fn an_expired_token_is_told_apart() {
    let token = changed(|claims| {
        claims.insert("exp".to_owned(), json!(now() - 60));
    });
    assert!(matches!(verify(&token), Err(TokenError::Expired)));
}

fn refused(token: &str, why: &str) {
    assert!(matches!(verify(token), Err(TokenError::Invalid(_))), "{why}");
}

/// A time in another type than a whole number must not count as absent, and absent not as good.
#[test]
fn cve_2026_25537_times_of_another_type() {
    let far = now() + 3600;
    for name in ["exp", "nbf", "iat", "auth_time"] {
        for value in [
            json!(far.to_string()),
            json!("never"),
            json!(far as f64 + 0.5),
            json!(1e300),
            json!(-1),
            json!([far]),
            json!({"value": far}),
            json!(true),
            Value::Null,
        ] {
            let token = changed(|claims| {
                claims.insert(name.to_owned(), value.clone());
            });
            refused(&token, &format!("{name} = {value}"));
        }
    }
    let later = changed(|claims| {
        claims.insert("nbf".to_owned(), json!(now() + 600));
    });
    refused(&later, "it counts only later");
}

#[test]
fn claims_that_are_wrong_missing_or_of_another_type_are_refused() {
    for (name, value) in [
        ("iss", json!("another-authd")),
        ("iss", json!(["sdrest-authd", "another-authd"])),
        ("iss", json!("")),
        ("aud", json!("another-api")),
        ("aud", json!(["sdrest-api", "another-api"])),
        ("aud", json!([])),
        ("aud", json!({"sdrest-api": true})),
        ("sub", json!("root")),
        ("sub", json!(7)),
        ("roles", json!(["king"])),
        ("roles", json!("admin")),
        ("sid", json!("x")),
        ("name", json!(["root"])),
    ] {
        let token = changed(|claims| {
            claims.insert(name.to_owned(), value.clone());
        });
        refused(&token, &format!("{name} = {value}"));
    }
    for name in ["iss", "aud", "nbf", "exp", "iat", "sub", "roles", "sid", "jti", "auth_time"] {
        let token = changed(|claims| {
            claims.remove(name);
        });
        refused(&token, &format!("without {name}"));
    }
}

/// Each installation has an issuer and keys of its own: auth.md's "token of another install".
#[test]
fn a_token_of_another_installation_is_refused() {
    let token = Keys::other().sign(&good());
    refused(&token, "its key is not ours");
    let borrowed_kid = Keys::other().sign_under(|header| header.kid = Some(KID.to_owned()));
    refused(&borrowed_kid, "our key's name over another key's signature");
    let other = Verifier::new("other-authd", "sdrest-api", &[Keys::new().verifying()]).unwrap();
    let ours = BearerToken::new(Keys::new().sign(&good()));
    assert!(matches!(other.verify(&ours), Err(TokenError::Invalid(_))), "the issuer counts");
}

#[test]
fn cve_2015_9235_alg_none_in_every_spelling() {
    let token = Keys::new().sign(&good());
    let payload = token.split('.').nth(1).unwrap();
    for alg in ["none", "None", "NONE", "nOnE", ""] {
        let header = json!({"alg": alg, "typ": "at+jwt", "kid": KID});
        let header = URL_SAFE_NO_PAD.encode(header.to_string());
        for signature in ["", token.rsplit_once('.').unwrap().1] {
            refused(&format!("{header}.{payload}.{signature}"), alg);
        }
    }
    refused(&with_header(&json!({"typ": "at+jwt", "kid": KID})), "no alg at all");
}

/// The public key is public: it must never be taken for a shared secret.
#[test]
fn cve_2016_10555_hs256_with_the_public_key() {
    let raw = bytes(PUBLIC);
    let pem = format!(
        "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
        base64::engine::general_purpose::STANDARD
            .encode([bytes("302a300506032b6570032100"), raw.clone()].concat())
    );
    let encoded = URL_SAFE_NO_PAD.encode(&raw).into_bytes();
    for secret in [raw, PUBLIC.as_bytes().to_vec(), encoded, pem.into_bytes(), Vec::new()] {
        for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
            let header = Header { alg: algorithm, ..Keys::new().header() };
            let token = encode(&header, &good(), &EncodingKey::from_secret(&secret)).unwrap();
            refused(&token, "a signature that anybody can make");
        }
    }
}

/// A key that the token brings along is the attacker's.
#[test]
fn cve_2018_0114_a_key_in_the_header() {
    let jwk = json!({"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig",
        "x": URL_SAFE_NO_PAD.encode(bytes(OTHER_PUBLIC)), "kid": "the-other-key"});
    let with_jwk = |header: &mut Header| {
        header.jwk = serde_json::from_value(jwk.clone()).unwrap();
    };
    refused(&Keys::other().sign_under(with_jwk), "an own key, brought along");
    refused(&Keys::new().sign_under(with_jwk), "a good signature does not make it better");
}

#[test]
fn headers_that_point_elsewhere_or_make_rules_are_refused_under_a_good_signature() {
    let evil = || Some("https://evil.example/keys".to_owned());
    refused(&Keys::new().sign_under(|header| header.jku = evil()), "jku");
    refused(&Keys::new().sign_under(|header| header.x5u = evil()), "x5u");
    refused(&Keys::new().sign_under(|header| header.x5c = Some(vec!["MA==".to_owned()])), "x5c");
    refused(&Keys::new().sign_under(|header| header.url = evil()), "url");
    refused(&Keys::new().sign_under(|header| header.cty = Some("JWT".to_owned())), "cty");
    // RFC 7515 §4.1.11: what is critical and unknown makes the token invalid.
    for name in ["exp", "b64", "http://example.invalid/x", ""] {
        let critical = |header: &mut Header| header.crit = Some(vec![name.to_owned()]);
        refused(&Keys::new().sign_under(critical), "crit");
    }
    for typ in [None, Some("JWT"), Some("at+jwt "), Some("refresh+jwt")] {
        let typed = |header: &mut Header| header.typ = typ.map(str::to_owned);
        refused(&Keys::new().sign_under(typed), "typ");
    }
}

#[test]
fn a_key_id_is_a_name_and_never_a_place() {
    for kid in [
        "another",
        "",
        "../../etc/passwd",
        "/dev/null",
        "file:///dev/null",
        "the-key\0",
        "THE-KEY",
        "' OR '1'='1",
        "the-key/../the-key",
        "$(id)",
        "https://evil.example/key",
    ] {
        let named = |header: &mut Header| header.kid = Some(kid.to_owned());
        refused(&Keys::new().sign_under(named), kid);
    }
    refused(&Keys::new().sign_under(|header| header.kid = None), "no kid");
    for kid in [json!(7), json!([KID]), json!({"kid": KID})] {
        refused(&with_header(&json!({"alg": "EdDSA", "typ": "at+jwt", "kid": kid})), "typed kid");
    }
    for header in [json!([]), json!("EdDSA"), json!(null), json!({"alg": "RS256", "kid": KID})] {
        refused(&with_header(&header), "another header");
    }
}

/// A signature of zeros, for any key.
#[test]
fn cve_2022_21449_an_empty_signature() {
    let token = Keys::new().sign(&good());
    let body = token.rsplit_once('.').unwrap().0;
    for length in [0, 1, 32, 63, 64, 65, 128] {
        let signature = URL_SAFE_NO_PAD.encode(vec![0_u8; length]);
        refused(&format!("{body}.{signature}"), &format!("{length} zeros"));
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
        assert!(matches!(verify(&bad), Err(TokenError::Invalid(_))), "{bad}");
    }
}
