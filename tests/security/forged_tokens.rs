//! Access tokens that somebody without the signing key can make from a token of one's own, the public keys and the
//! list of revocations: all that a front end is told.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sdrest_proto::{
    authd::{Claims, VerifyingKey},
    id::SessionId,
    identity::{Role, Subject},
};
use serde_json::json;
use sha2::{Digest, Sha256};
use std::{fs, process::Command};

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
    let payload = URL_SAFE_NO_PAD.encode(serde_json::to_vec(claims).unwrap());
    let body = |alg: &str, kid: &str| {
        let header = json!({ "alg": alg, "typ": "at+jwt", "kid": kid }).to_string();
        format!("{}.{payload}", URL_SAFE_NO_PAD.encode(header))
    };
    let kid = known.key.kid.as_str();
    let (own_body, own_signature) = known.token.rsplit_once('.').unwrap();
    let (own_header, _) = own_body.split_once('.').unwrap();
    let zeros = URL_SAFE_NO_PAD.encode([0; 64]);
    let mut made = vec![
        ("alg none", format!("{}.", body("none", kid))),
        ("alg None", format!("{}.{own_signature}", body("None", kid))),
        ("another payload, a good signature", format!("{own_header}.{payload}.{own_signature}")),
        ("zeros as the signature", format!("{own_header}.{payload}.{zeros}")),
    ];
    let public = known.key.public;
    let spki = [SPKI.as_slice(), &public].concat();
    let text = URL_SAFE_NO_PAD.encode(public);
    let pem = format!(
        "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
        base64::engine::general_purpose::STANDARD.encode(&spki)
    );
    for secret in [public.as_slice(), &spki, text.as_bytes(), pem.as_bytes(), b""] {
        let body = body("HS256", kid);
        let signature = URL_SAFE_NO_PAD.encode(hmac_sha256(secret, body.as_bytes()));
        made.push(("HS256 with the public key", format!("{body}.{signature}")));
    }
    for kid in [kid, "mine", "../../signing-key"] {
        let body = body("EdDSA", kid);
        let signature = URL_SAFE_NO_PAD.encode(signed_with_an_own_key(&body));
        made.push(("signed again with a key of one's own", format!("{body}.{signature}")));
    }
    made
}

/// RFC 2104.
fn hmac_sha256(secret: &[u8], text: &[u8]) -> Vec<u8> {
    let mut key = if secret.len() > 64 { Sha256::digest(secret).to_vec() } else { secret.to_vec() };
    key.resize(64, 0);
    let padded = |pad: u8| key.iter().map(|byte| byte ^ pad).collect::<Vec<u8>>();
    let inner = Sha256::digest([padded(0x36).as_slice(), text].concat());
    Sha256::digest([padded(0x5c).as_slice(), inner.as_slice()].concat()).to_vec()
}

/// A good Ed25519 signature, of a key that authd does not know.
fn signed_with_an_own_key(text: &str) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let (key, input) = (folder.path().join("key"), folder.path().join("text"));
    fs::write(&key, [PKCS8.as_slice(), &[42; 32]].concat()).unwrap();
    fs::write(&input, text).unwrap();
    let output = Command::new("openssl")
        .args(["pkeyutl", "-sign", "-rawin", "-keyform", "DER", "-inkey"])
        .arg(&key)
        .arg("-in")
        .arg(&input)
        .output()
        .unwrap();
    assert_eq!(output.stdout.len(), 64, "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// RFC 4231, test case 2.
#[test]
fn the_forged_hmac_is_one() {
    let mac = hmac_sha256(b"Jefe", b"what do ya want for nothing?");
    assert_eq!(mac[..4], [0x5b, 0xdc, 0xc1, 0x46]);
}
