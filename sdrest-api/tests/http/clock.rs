//! Steps of the clock, as after a wrong time server or a flat battery. The test runs itself again with a wall clock
//! that it can set (clock.c): the real router and verifier ask that clock, and no other process has it.

use super::{
    authd::TestAuthd,
    server::Server,
    tokens::{claims, now},
};
use axum::http::Method;
use sdrest_proto::{authd::AuthMode, id::SessionId, identity::Role};
use std::{fs::File, os::unix::fs::FileExt, path::Path, process::Command};

const FILE: &str = "SDREST_TEST_CLOCK";
const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

#[test]
fn replay_33_whatever_the_clock_does_what_was_revoked_stays_revoked() {
    let folder = tempfile::tempdir().unwrap();
    let (library, file) = (folder.path().join("clock.so"), folder.path().join("clock"));
    std::fs::write(&file, 0_i64.to_ne_bytes()).unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/http/clock.c");
    let made = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"])
        .args([&library, &source])
        .status();
    assert!(made.unwrap().success(), "clock.c does not compile");
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "--nocapture", "clock::under_a_clock_that_steps"])
        .env("LD_PRELOAD", &library)
        .env(FILE, &file)
        .output()
        .unwrap();
    let told = [output.stdout, output.stderr].concat();
    let told = String::from_utf8_lossy(&told);
    assert!(output.status.success() && told.contains("1 passed"), "{told}");
}

/// Steps this process's clock to so many seconds beside the right time.
fn step(seconds: i64) {
    let before = now();
    let file = File::options().write(true).open(std::env::var_os(FILE).unwrap()).unwrap();
    file.write_all_at(&0_i64.to_ne_bytes(), 0).unwrap();
    let right = now();
    file.write_all_at(&seconds.to_ne_bytes(), 0).unwrap();
    let off = now().cast_signed() - right.cast_signed();
    assert!((seconds..seconds + 60).contains(&off), "the clock was {before} and is off by {off}");
}

#[tokio::test]
#[ignore = "run by replay_33 with a clock of its own"]
async fn under_a_clock_that_steps() {
    a_session_that_ended(TestAuthd::new(AuthMode::Pam)).await;
    a_session_that_ended(TestAuthd::new(AuthMode::Pam).with_hs256()).await;
    a_token_for_later().await;
}

async fn code(server: &Server, token: &str) -> String {
    let answer = server.get("/api/auth/me", Some(token)).await;
    if answer.status == 200 { "good".to_owned() } else { answer.code().to_owned() }
}

/// authd's list has a session until its tokens have expired by authd's clock, which steps as ours does.
async fn a_session_that_ended(authd: TestAuthd) {
    step(0);
    let server = Server::with(authd).await;
    let (ended, other, live) = (server.user(), server.user(), server.user());
    // One that its owner ended here, and one that authd ended by itself.
    assert_eq!(server.call(Method::POST, "/api/auth/logout", Some(&ended)).await.status, 200);
    let session = super::tokens::session_of(&other);
    news(&server, |sessions| sessions.push(session)).await;
    for (at, of_ended, of_live) in [
        (0, "TOKEN_REVOKED", "good"),
        (HOUR / 2, "TOKEN_REVOKED", "good"),
        (0, "TOKEN_REVOKED", "good"),
        (2 * HOUR, "TOKEN_EXPIRED", "TOKEN_EXPIRED"),
    ] {
        step(at);
        for token in [&ended, &other] {
            assert_eq!(code(&server, token).await, of_ended, "{at} s beside the right time");
        }
        assert_eq!(code(&server, &live).await, of_live, "{at} s beside the right time");
    }
    // Two hours ahead, authd lets go of both, and tells when something else has happened.
    news(&server, Vec::clear).await;
    news(&server, |sessions| sessions.push(SessionId::random())).await;
    for at in [0, HOUR / 2, 0] {
        step(at);
        for token in [&ended, &other] {
            assert_eq!(code(&server, token).await, "TOKEN_REVOKED", "set back to {at} s");
        }
        assert_eq!(code(&server, &live).await, "good", "nobody ended this one");
    }
    step(-DAY);
    for token in [&ended, &other] {
        assert_ne!(code(&server, token).await, "good", "a day back");
    }
    step(0);
}

/// Tells something new, and waits until the front end has asked for what comes after it.
async fn news(server: &Server, change: impl FnOnce(&mut Vec<SessionId>)) {
    let version = server.authd.announce(|news| change(&mut news.sessions));
    for _ in 0..1000 {
        if server.authd.is_followed(version) {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("the front end does not follow authd");
}

async fn a_token_for_later() {
    step(0);
    let server = Server::start(AuthMode::Pam).await;
    let in_two_hours = now() + (2 * HOUR).cast_unsigned();
    let later = server.authd.sign(&claims(Role::User, SessionId::random(), in_two_hours));
    let usual = server.user();
    for (at, of_later, of_usual) in [
        (0, "TOKEN_INVALID", "good"),
        (2 * HOUR, "good", "TOKEN_EXPIRED"),
        (HOUR / 2, "TOKEN_INVALID", "good"),
        (4 * HOUR, "TOKEN_EXPIRED", "TOKEN_EXPIRED"),
        (-DAY, "TOKEN_INVALID", "TOKEN_INVALID"),
    ] {
        step(at);
        assert_eq!(code(&server, &later).await, of_later, "{at} s beside the right time");
        assert_eq!(code(&server, &usual).await, of_usual, "{at} s beside the right time");
    }
    step(0);
}
