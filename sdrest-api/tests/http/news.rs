//! What authd says later: other keys, revocations, another policy after a restart, and answers that come early.

use super::{
    authd::{SECRET, TestAuthd},
    server::Server,
    tokens::{Keys, claims, now, session_of},
};
use axum::{body::Body, http::Method};
use sdrest_proto::{authd::AuthMode, id::SessionId, identity::Role};
use serde_json::json;
use std::{sync::atomic::Ordering, time::Duration};
use tower::ServiceExt;

/// Looks until something is so; the limit is only there so that a failure ends.
async fn until(what: &str, look: impl AsyncFn() -> bool) {
    for _ in 0..1000 {
        if look().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{what} never came to pass");
}

#[tokio::test]
async fn a_rotation_of_keys_arrives_live() {
    let server = Server::start(AuthMode::Pam).await;
    let (old, new) = (server.user(), Keys::other());
    let newer = new.sign(&claims(Role::User, SessionId::random(), now()));
    assert!(server.get("/api/auth/me", Some(&newer)).await.is(401, "TOKEN_INVALID"));
    server.authd.announce(|news| news.keys.push(new.verifying()));
    until("the new key", async || server.get("/api/auth/me", Some(&newer)).await.status == 200)
        .await;
    assert_eq!(server.get("/api/auth/me", Some(&old)).await.status, 200, "both are live");
    let jwks = server.get("/.well-known/jwks.json", None).await.body;
    assert_eq!(jwks["keys"].as_array().unwrap().len(), 2, "{jwks}");
    server.authd.announce(|news| drop(news.keys.remove(0)));
    until("the end of the old key", async || {
        server.get("/api/auth/me", Some(&old)).await.is(401, "TOKEN_INVALID")
    })
    .await;
    assert_eq!(server.get("/api/auth/me", Some(&newer)).await.status, 200);
    let jwks = server.get("/api/v1/.well-known/jwks.json", None).await.body;
    assert_eq!(jwks["keys"][0]["kid"], new.verifying().kid);
}

#[tokio::test]
async fn a_list_that_is_older_than_a_logout_does_not_undo_it() {
    let server = Server::start(AuthMode::Pam).await;
    let token = server.user();
    server.authd.late_lists.store(true, Ordering::SeqCst);
    assert_eq!(server.call(Method::POST, "/api/auth/logout", Some(&token)).await.status, 200);
    assert!(server.get("/api/auth/me", Some(&token)).await.is(401, "TOKEN_REVOKED"));
    let version = server.authd.announce(|news| news.sessions.push(SessionId::random()));
    until("the news is taken in", async || server.authd.is_followed(version)).await;
    assert!(server.get("/api/auth/me", Some(&token)).await.is(401, "TOKEN_REVOKED"));
}

#[tokio::test]
async fn a_policy_that_opens_what_was_closed_is_not_taken_over() {
    let mut server = Server::start(AuthMode::Pam).await;
    let token = server.user();
    server.listening.take().unwrap().shutdown().await;
    let mut opened = server.authd.clone();
    opened.description.mode = AuthMode::None;
    let asked = || server.authd.asked.revocations.load(Ordering::SeqCst);
    let before = asked();
    server.listening = Some(opened.listen(&server.socket));
    until("the new policy", async || asked() > before).await;
    for _ in 0..20 {
        assert!(server.get("/api/jobs", None).await.is(401, "AUTH_REQUIRED"));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(server.get("/api/auth/me", Some(&token)).await.status, 200, "the older one stays");
    assert_eq!(server.get("/api/health", None).await.body["status"], "degraded");
    assert!(asked() - before < 5, "it is not asked again and again");
}

/// What such an authd takes away counts all the same.
#[tokio::test]
async fn a_policy_that_is_not_taken_over_still_revokes() {
    let mut server = Server::start(AuthMode::Pam).await;
    let (ended, live) = (server.user(), server.user());
    server.listening.take().unwrap().shutdown().await;
    let mut opened = server.authd.clone();
    opened.description.mode = AuthMode::None;
    opened.announce(|news| news.sessions.push(session_of(&ended)));
    server.listening = Some(opened.listen(&server.socket));
    until("the revocation", async || {
        server.get("/api/auth/me", Some(&ended)).await.is(401, "TOKEN_REVOKED")
    })
    .await;
    assert_eq!(server.get("/api/auth/me", Some(&live)).await.status, 200);
    assert!(server.get("/api/jobs", None).await.is(401, "AUTH_REQUIRED"), "the older one stays");
}

#[tokio::test]
async fn a_policy_that_closes_is_taken_over() {
    let mut server = Server::start(AuthMode::Optional).await;
    assert_eq!(server.get("/api/models", None).await.status, 200);
    server.listening.take().unwrap().shutdown().await;
    let mut closed = server.authd.clone();
    closed.description.mode = AuthMode::Pam;
    server.listening = Some(closed.listen(&server.socket));
    until("the new policy", async || {
        server.get("/api/models", None).await.is(401, "AUTH_REQUIRED")
    })
    .await;
}

#[tokio::test]
async fn an_answer_that_comes_early_does_not_make_a_busy_loop() {
    let server = Server::with(TestAuthd::new(AuthMode::Pam)).await;
    let begun = server.post("/api/auth/conversations", &json!({"username": "stuck"}), None).await;
    let path = format!("/api/auth/conversations/{}/events", begun.body["id"].as_str().unwrap());
    let request = Server::request(Method::GET, &path)
        .header("host", "127.0.0.1:8080")
        .header("x-sdrest-conversation", SECRET);
    let stream = server.router().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let reading = axum::body::to_bytes(stream.into_body(), 1 << 20);
    // Long enough for thousands of polls; a second apart there are two or three.
    assert!(tokio::time::timeout(Duration::from_millis(1500), reading).await.is_err());
    let polls = server.authd.asked.poll.load(Ordering::SeqCst);
    assert!((1..=4).contains(&polls), "{polls} polls");
}
