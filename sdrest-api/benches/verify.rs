//! How many access tokens one core verifies in a second, when a token comes for the first time and when it comes
//! again, for a token signed with the key of RFC 8032, section 7.1; by the processor's time, so that other work beside
//! it changes little. `cargo bench -p sdrest-api --bench verify` prints two lines.
#![allow(clippy::unwrap_used, reason = "a benchmark may end at any failure")]

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use nix::time::{ClockId, clock_gettime};
use sdrest_api::auth::Verifier;
use sdrest_proto::{authd::VerifyingKey, secret::BearerToken};
use serde_json::json;
use std::{
    hint::black_box,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// PKCS #8 of an Ed25519 key (RFC 8410, section 7), with the seed of the first test vector.
const PRIVATE: &str = "302e020100300506032b657004220420\
                       9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
const PUBLIC: &str = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
const RUN: Duration = Duration::from_secs(2);

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn main() {
    let key = VerifyingKey { kid: "bench".to_owned(), public: bytes(PUBLIC).try_into().unwrap() };
    let private = EncodingKey::from_ed_der(&bytes(PRIVATE));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let mut header = Header::new(Algorithm::EdDSA);
    (header.typ, header.kid) = (Some("at+jwt".to_owned()), Some(key.kid.clone()));
    let claims = json!({
        "iss": "urn:sdrest:bench", "aud": "sdrest", "sub": "unix:1000:1", "name": "alice", "uid": 1000,
        "roles": ["user"], "amr": ["pam"], "sid": "6f1c2f0e-6a55-4c3b-9d8e-0d6a6b1f7c11", "jti": "bench",
        "iat": now, "nbf": now, "exp": now + 3600, "auth_time": now,
    });
    let token = BearerToken::new(encode(&header, &claims, &private).unwrap());
    let verifier = Verifier::new("urn:sdrest:bench", "sdrest", &[key]).unwrap();
    verifier.verify(&token).unwrap();
    rate("for the first time", || {
        drop(black_box(verifier.verify_anew(black_box(&token))).unwrap())
    });
    rate("again", || drop(black_box(verifier.verify(black_box(&token))).unwrap()));
}

/// This thread's time on the processor.
fn used() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap().into()
}

fn rate(which: &str, mut verify: impl FnMut()) {
    let (begun, mut done) = (used(), 0_u32);
    while used() - begun < RUN {
        // In rounds: asking for the time must not count.
        (0..100).for_each(|_| verify());
        done += 100;
    }
    let rate = f64::from(done) / (used() - begun).as_secs_f64();
    println!("EdDSA tokens verified in a second of one core, {which}: {rate:.0}");
}
