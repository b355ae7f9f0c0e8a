//! Each mode: what it says of itself, whom it signs in and how, and what it says to those whom it does not.

use super::{
    authd::TestAuthd,
    server::{Answer, PROXY, Server},
};
use axum::{body::Body, http::Method};
use sdrest_api::edge::Peer;
use sdrest_proto::{authd::AuthMode, identity::Role};
use serde_json::{Value, json};
use std::sync::atomic::Ordering;

async fn login(server: &Server, body: Value) -> Answer {
    server.post("/api/auth/login", &body, None).await
}

#[tokio::test]
async fn every_mode_says_how_to_sign_in() {
    let method = |name: &str, password: bool, conversation: bool, kernel: bool| {
        json!({"name": name,
        "password": password, "conversation": conversation, "kernel": kernel})
    };
    let keys = || method("api-key", false, false, false);
    for (authd, expected, signature) in [
        (TestAuthd::new(AuthMode::None), json!([method("none", false, false, false)]), Value::Null),
        (
            TestAuthd::new(AuthMode::Jwt),
            json!([method("jwt", true, false, false), keys()]),
            json!("EdDSA"),
        ),
        (
            TestAuthd::new(AuthMode::Jwt).with_hs256(),
            json!([method("jwt", true, false, false), keys()]),
            json!("HS256"),
        ),
        (TestAuthd::new(AuthMode::ApiKey), json!([keys()]), Value::Null),
        (
            TestAuthd::new(AuthMode::Unix),
            json!([method("unix", true, true, false), keys()]),
            json!("EdDSA"),
        ),
        (
            TestAuthd::new(AuthMode::Unix).with_peers(),
            json!([method("unix", false, false, true), keys()]),
            json!("EdDSA"),
        ),
        (
            TestAuthd::new(AuthMode::Pam),
            json!([method("pam", true, true, false), keys()]),
            json!("EdDSA"),
        ),
        (
            TestAuthd::new(AuthMode::Optional),
            json!([method("pam", true, true, false), keys()]),
            json!("EdDSA"),
        ),
    ] {
        let mode = authd.description.mode;
        let server = Server::with(authd).await;
        let told = server.get("/api/auth/methods", None).await.body;
        assert_eq!(told["mode"], mode.as_str());
        assert_eq!(told["methods"], expected, "{mode:?}");
        assert_eq!(told["signature"], signature, "{mode:?}");
        assert_eq!(told["api_keys"], mode != AuthMode::None);
        assert_eq!(told["guests"], mode == AuthMode::Optional);
    }
}

#[tokio::test]
async fn a_missing_password_is_noticed_before_authd_is_asked() {
    for mode in [AuthMode::Jwt, AuthMode::Unix, AuthMode::Pam, AuthMode::Optional] {
        let server = Server::start(mode).await;
        for body in [json!({"username": "alice"}), json!({"username": "alice", "password": ""})] {
            assert!(login(&server, body).await.is(400, "MISSING_PASSWORD"), "{mode:?}");
        }
        assert!(server.authd.begun.lock().unwrap().is_empty(), "{mode:?}");
        let right = login(&server, json!({"username": "alice", "password": "right"})).await;
        let kind = if mode == AuthMode::Unix { "unix" } else { "jwt" };
        assert_eq!(right.body["token_kind"], kind, "{mode:?}");
        assert_eq!(server.get("/api/auth/me", right.body["token"].as_str()).await.status, 200);
    }
}

#[tokio::test]
async fn a_server_of_keys_signs_nobody_in_and_says_what_to_send() {
    let server = Server::start(AuthMode::ApiKey).await;
    for path in ["/api/auth/login", "/api/auth/conversations"] {
        let body = match path {
            "/api/auth/login" => json!({"username": "alice", "password": "right"}),
            _ => json!({"username": "alice"}),
        };
        let refused = server.post(path, &body, None).await;
        assert!(refused.is(400, "BAD_REQUEST"), "{refused:?}");
        let message = refused.body["error"]["message"].as_str().unwrap();
        assert!(message.contains("api-key") && message.contains("X-API-Key"), "{message}");
    }
    assert!(server.authd.begun.lock().unwrap().is_empty());
    assert!(server.get("/api/models", None).await.is(401, "AUTH_REQUIRED"));
    let token = server.authd.token(Role::Admin);
    assert!(server.get("/api/models", Some(&token)).await.is(401, "TOKEN_INVALID"));
    let key = server.authd.api_key(Role::User, sdrest_proto::api_key::Scopes::all(Role::User));
    assert_eq!(server.get("/api/models", Some(&key)).await.status, 200);
}

#[tokio::test]
async fn optional_makes_guests_of_those_who_show_nothing_and_of_nobody_else() {
    let server = Server::start(AuthMode::Optional).await;
    let me = server.get("/api/auth/me", None).await;
    assert_eq!(me.body["user"]["id"], "guest");
    assert_eq!(server.get("/api/models", None).await.status, 200);
    let wrong = login(&server, json!({"username": "alice", "password": "x"})).await;
    assert!(wrong.is(401, "AUTHENTICATION_FAILED"));
    for bad in ["x", "a.b.c", "sdr_nothing"] {
        assert!(server.get("/api/models", Some(bad)).await.is(401, "TOKEN_INVALID"), "{bad}");
    }
    let right = login(&server, json!({"username": "alice", "password": "right"})).await;
    let me = server.get("/api/auth/me", right.body["token"].as_str()).await;
    assert_eq!(me.body["user"]["id"], "unix:1000:1");
}

#[tokio::test]
async fn without_authentication_credentials_are_not_looked_at() {
    let server = Server::start(AuthMode::None).await;
    for (name, value) in
        [("authorization", "Basic x"), ("authorization", "Bearer x"), ("x-api-key", "sdr_x")]
    {
        let request = Server::request(Method::GET, "/api/auth/me").header(name, value);
        let me = server.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!(me.body["user"]["id"], "anonymous", "{name}: {value}");
        let request = Server::request(Method::POST, "/api/auth/logout").header(name, value);
        assert_eq!(server.send(request.body(Body::empty()).unwrap()).await.status, 200);
    }
    let refused = server.get("/api/auth/api-keys", None).await;
    assert!(refused.is(403, "FORBIDDEN"));
    assert!(refused.body["error"]["message"].as_str().unwrap().contains("no keys"));
}

async fn login_from(server: &Server, peer: Peer) -> Answer {
    let mut request = Server::request(Method::POST, "/api/auth/login")
        .header("content-type", "application/json")
        .body(Body::from(json!({"username": "me"}).to_string()))
        .unwrap();
    request.extensions_mut().insert(peer);
    server.send(request).await
}

#[tokio::test]
async fn the_kernels_word_is_for_a_local_peer_that_speaks_for_itself() {
    let server = Server::with(TestAuthd::new(AuthMode::Unix).with_peers()).await;
    let good = login_from(&server, Peer::Unix { uid: Some(1000) }).await;
    assert_eq!((good.status.as_u16(), &good.body["token_kind"]), (200, &json!("unix")));
    assert!(good.body.get("refresh_token").is_none());
    for (peer, why) in [
        (Peer::Unix { uid: Some(PROXY) }, "a proxy speaks for others"),
        (Peer::Unix { uid: Some(65_534) }, "a foreign user namespace"),
        (Peer::Unix { uid: None }, "the kernel said nothing"),
        (
            Peer::Tcp {
                remote: "127.0.0.1:1".parse().unwrap(),
                local: "127.0.0.1:8080".parse().unwrap(),
            },
            "no such socket",
        ),
        (
            Peer::Tcp {
                remote: "192.0.2.1:5000".parse().unwrap(),
                local: "192.0.2.2:8080".parse().unwrap(),
            },
            "another machine",
        ),
    ] {
        let refused = login_from(&server, peer).await;
        assert!(refused.is(401, "AUTHENTICATION_FAILED"), "{why}: {refused:?}");
    }
    assert_eq!(server.authd.peers.lock().unwrap().len(), 1, "authd heard of none of them");
    let begun = server.post("/api/auth/conversations", &json!({"username": "me"}), None).await;
    assert!(begun.is(400, "BAD_REQUEST"));
}

#[tokio::test]
async fn with_a_shared_secret_authd_verifies_and_is_asked_once() {
    let server = Server::with(TestAuthd::new(AuthMode::Jwt).with_hs256()).await;
    let asked = || server.authd.asked.introspect.load(Ordering::SeqCst);
    let token = server.user();
    for _ in 0..5 {
        assert_eq!(server.get("/api/auth/me", Some(&token)).await.status, 200);
    }
    assert_eq!(asked(), 1);
    let jwks = server.get("/.well-known/jwks.json", None).await;
    assert_eq!(jwks.body, json!({"keys": []}));
    // What cannot be one of this server's costs authd nothing.
    let foreign = TestAuthd::new(AuthMode::Jwt).token(Role::Admin);
    for bad in [foreign.as_str(), "a.b.c", "x", &format!("{token}.x")] {
        assert!(server.get("/api/auth/me", Some(bad)).await.is(401, "TOKEN_INVALID"), "{bad}");
    }
    let now = super::tokens::now();
    let session = sdrest_proto::id::SessionId::random();
    let old = server.authd.sign(&super::tokens::claims(Role::User, session, now - 7200));
    assert!(server.get("/api/auth/me", Some(&old)).await.is(401, "TOKEN_EXPIRED"));
    assert_eq!(asked(), 1);
    let claims = super::tokens::claims(Role::Admin, session, now);
    let forged = super::tokens::sign_hs256(&claims, b"another secret, with its 32 bytes");
    assert!(server.get("/api/auth/me", Some(&forged)).await.is(401, "TOKEN_INVALID"));
    assert_eq!(asked(), 2);
    assert_eq!(server.call(Method::POST, "/api/auth/logout", Some(&token)).await.status, 200);
    assert!(server.get("/api/auth/me", Some(&token)).await.is(401, "TOKEN_REVOKED"));
}
