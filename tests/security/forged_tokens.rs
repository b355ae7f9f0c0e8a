//! Access tokens that somebody without the signing key can make from a token of one's own, the public keys and the
//! list of revocations: all that a front end is told.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use sdrest_proto::{
    authd::{Claims, VerifyingKey},
    id::SessionId,
    identity::{Role, Subject},
};
use serde_json::json;

/// An Ed25519 key in PKCS #8 (RFC 8410) is this and 32 bytes of seed.
const PKCS8: [u8; 16] = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
/// A public one (RFC 8410) is this and 32 bytes.
const SPKI: [u8; 12] = [0x30, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 0x21, 0];

/// What there is to forge from.
pub(crate) struct Known<'a> {
    /// A good token, and what it says.
    pub(crate) token: &'a str,
    pub(crate) claims: &'a Claims,
    pub(crate) key: &'a VerifyingKey,
    pub(crate) revoked: &'a [SessionId],
}

/// Each with its name.
pub(crate) fn all(known: &Known<'_>) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for (who, claims) in wanted(known) {
        for (how, token) in signed_somehow(known, &claims) {
            all.push((format!("{how} for {who}"), token));
        }
    }
    let (body, _) = known.token.rsplit_once('.').unwrap();
    for (how, token) in [
        ("no signature", format!("{body}.")),
        ("a cut token", body.to_owned()),
        ("an empty one", String::new()),
        ("dots", "..".to_owned()),
        ("letters", "a.b.c".to_owned()),
        ("a long one", format!("{body}.{}", "A".repeat(100_000))),
    ] {
        all.push((how.to_owned(), token));
    }
    all
}

/// The claims that a hostile front end would like to have signed.
fn wanted(known: &Known<'_>) -> Vec<(String, Claims)> {
    let own = || known.claims.clone();
    let mut wanted = vec![
        (
            "alice".to_owned(),
            Claims {
                sub: Subject::unix(2001, 1),
                name: "alice".to_owned(),
                uid: Some(2001),
                ..own()
            },
        ),
        (
            "root".to_owned(),
            Claims { sub: Subject::unix(0, 1), name: "root".to_owned(), uid: Some(0), ..own() },
        ),
        ("an admin".to_owned(), Claims { roles: vec![Role::Admin], ..own() }),
        ("ever".to_owned(), Claims { exp: own().exp + 1_000_000, ..own() }),
    ];
    for sid in known.revoked {
        let claims = Claims {
            sid: *sid,
            sub: Subject::unix(2001, 1),
            name: "alice".to_owned(),
            uid: Some(2001),
            ..own()
        };
        wanted.push((format!("the ended session {sid}"), claims));
    }
    wanted
}

fn signed_somehow(known: &Known<'_>, claims: &Claims) -> Vec<(&'static str, String)> {
    let header = |algorithm, kid: &str| Header {
        typ: Some("at+jwt".to_owned()),
        kid: Some(kid.to_owned()),
        ..Header::new(algorithm)
    };
    let payload = URL_SAFE_NO_PAD.encode(serde_json::to_vec(claims).unwrap());
    let (own_body, own_signature) = known.token.rsplit_once('.').unwrap();
    let (own_header, _) = own_body.split_once('.').unwrap();
    let none = |alg: &str| {
        let header = json!({ "alg": alg, "typ": "at+jwt", "kid": known.key.kid });
        URL_SAFE_NO_PAD.encode(header.to_string())
    };
    let mut made = vec![
        ("alg none", format!("{}.{payload}.", none("none"))),
        ("alg None", format!("{}.{payload}.{own_signature}", none("None"))),
        (
            "another payload under a good signature",
            format!("{own_header}.{payload}.{own_signature}"),
        ),
        (
            "zeros as the signature",
            format!("{own_header}.{payload}.{}", URL_SAFE_NO_PAD.encode([0; 64])),
        ),
    ];
    let public = known.key.public;
    let spki = [SPKI.as_slice(), &public].concat();
    let text = URL_SAFE_NO_PAD.encode(public);
    let pem = format!(
        "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
        base64::engine::general_purpose::STANDARD.encode(&spki)
    );
    for secret in [public.as_slice(), &spki, text.as_bytes(), pem.as_bytes(), b""] {
        let key = EncodingKey::from_secret(secret);
        let header = header(Algorithm::HS256, &known.key.kid);
        made.push(("HS256 with the public key", encode(&header, claims, &key).unwrap()));
    }
    let own_key = EncodingKey::from_ed_der(&[PKCS8.as_slice(), &[42; 32]].concat());
    for kid in [known.key.kid.as_str(), "mine", "../../signing-key"] {
        let header = header(Algorithm::EdDSA, kid);
        made.push((
            "signed again with a key of one's own",
            encode(&header, claims, &own_key).unwrap(),
        ));
    }
    made
}
