//! Signing in, refreshing, signing out, and what becomes of tokens when authd comes and goes.

use super::{
    authd::SECRET,
    server::{Answer, Server},
};
use axum::{body::Body, http::Method};
use sdrest_proto::authd::AuthMode;
use serde_json::{Value, json};
use std::time::Duration;

async fn login(server: &Server, body: Value) -> Answer {
    server.post("/api/v1/auth/login", &body, None).await
}

#[tokio::test]
async fn one_password_gives_a_token_that_works() {
    let server = Server::start(AuthMode::Pam).await;
    let answer = login(&server, json!({"username": "alice", "password": "right"})).await;
    assert_eq!(answer.status, 200);
    let body = &answer.body;
    assert_eq!(
        (&body["success"], &body["token_type"], &body["token_kind"]),
        (&json!(true), &json!("Bearer"), &json!("jwt"))
    );
    assert_eq!(body["user"]["id"], "unix:1000:1");
    assert_eq!(body["user"]["username"], "alice");
    assert_eq!(body["user"]["role"], "user");
    assert!(body["user"]["permissions"].as_array().unwrap().contains(&json!("generate")));
    assert_eq!(body["expires_in"], 3600);
    assert_eq!(answer.headers["cache-control"], "no-store");
    let me = server.get("/api/auth/me", body["token"].as_str()).await;
    assert_eq!(me.body["user"]["id"], "unix:1000:1");
    assert_eq!(me.body["methods"], json!(["pam"]));
    let valid = server.get("/api/auth/validate", body["token"].as_str()).await;
    assert_eq!(valid.body["valid"], true);
}

#[tokio::test]
async fn what_is_wrong_with_a_login_is_said() {
    let server = Server::start(AuthMode::Pam).await;
    assert!(
        login(&server, json!({"username": "alice", "password": "x"}))
            .await
            .is(401, "AUTHENTICATION_FAILED")
    );
    assert!(login(&server, json!({"username": "alice"})).await.is(400, "MISSING_PASSWORD"));
    assert!(
        login(&server, json!({"username": "alice", "password": ""}))
            .await
            .is(400, "MISSING_PASSWORD")
    );
    assert!(login(&server, json!({"password": "x"})).await.is(422, "VALIDATION_FAILED"));
    assert!(
        login(&server, json!({"username": "a\u{7}", "password": "x"}))
            .await
            .is(422, "VALIDATION_FAILED")
    );
    assert!(
        login(&server, json!({"username": "alice", "password": "x\u{0}"}))
            .await
            .is(422, "VALIDATION_FAILED")
    );
    assert!(
        login(&server, json!({"username": "alice", "password": "x", "otp": 1}))
            .await
            .is(422, "VALIDATION_FAILED")
    );
    let long = login(&server, json!({"username": "alice", "password": "hunter2".repeat(80)})).await;
    assert!(long.is(422, "VALIDATION_FAILED") && !long.body.to_string().contains("hunter2"));
    let locked = login(&server, json!({"username": "locked", "password": "x"})).await;
    assert!(locked.is(429, "TOO_MANY_ATTEMPTS"));
    assert_eq!(locked.headers["retry-after"], "17");
}

#[tokio::test]
async fn a_module_that_works_for_a_while_is_waited_for() {
    let server = Server::start(AuthMode::Pam).await;
    let answer = login(&server, json!({"username": "slow", "password": "x"})).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[tokio::test]
async fn more_than_a_password_goes_on_as_a_conversation() {
    let server = Server::start(AuthMode::Pam).await;
    let answer = login(&server, json!({"username": "bob", "password": "right"})).await;
    assert_eq!(
        (answer.status.as_u16(), &answer.body["code"]),
        (202, &json!("CONVERSATION_REQUIRED"))
    );
    let prompts = json!([
        {"pid": 0, "style": "echo_off", "text": "Password: "}, {"pid": 1, "style": "echo_on", "text": "Code: "},
    ]);
    assert_eq!(answer.body["prompts"], prompts);
    assert_eq!(answer.body["state"], "waiting");
    let done = answer_prompts(&server, &answer.body, SECRET, "123456").await;
    assert_eq!((done.status.as_u16(), &done.body["state"]), (200, &json!("succeeded")));
    assert_eq!(server.get("/api/auth/me", done.body["token"].as_str()).await.status, 200);
}

async fn answer_prompts(server: &Server, step: &Value, secret: &str, code: &str) -> Answer {
    let path = format!("/api/v1/auth/conversations/{}/answers", step["id"].as_str().unwrap());
    // In another order than they were asked.
    let answers = json!([{"pid": 1, "value": code}, {"pid": 0, "value": "right"}]);
    let request = Server::request(Method::POST, &path)
        .header("content-type", "application/json")
        .header("x-sdrest-conversation", secret);
    let body = json!({"seq": step["seq"], "answers": answers}).to_string();
    server.send(request.body(Body::from(body)).unwrap()).await
}

#[tokio::test]
async fn a_conversation_shows_what_is_said_and_ends_once() {
    let server = Server::start(AuthMode::Pam).await;
    let begun = server.post("/api/auth/conversations", &json!({"username": "bob"}), None).await;
    assert_eq!((begun.status.as_u16(), &begun.body["secret"]), (201, &json!(SECRET)));
    assert_eq!(begun.body["messages"], json!([{"seq": 1, "style": "info", "text": "Welcome"}]));
    assert_eq!(
        (&begun.body["expires_in"], &begun.body["step_expires_in"]),
        (&json!(180), &json!(60))
    );
    assert!(
        answer_prompts(&server, &begun.body, "another secret", "1")
            .await
            .is(410, "CONVERSATION_GONE")
    );
    let wrong = answer_prompts(&server, &begun.body, SECRET, "1").await;
    assert!(wrong.is(401, "AUTHENTICATION_FAILED"));
    assert_eq!(wrong.body["state"], "failed");
    assert!(answer_prompts(&server, &begun.body, SECRET, "1").await.is(410, "CONVERSATION_GONE"));
}

#[tokio::test]
async fn a_conversation_needs_its_secret_and_can_be_given_up() {
    let server = Server::start(AuthMode::Pam).await;
    let begun = server.post("/api/auth/conversations", &json!({"username": "bob"}), None).await;
    let path = format!("/api/auth/conversations/{}", begun.body["id"].as_str().unwrap());
    assert!(server.get(&path, None).await.is(401, "AUTH_REQUIRED"));
    assert!(server.get(&format!("{path}/events"), None).await.is(401, "AUTH_REQUIRED"));
    let delete = || Server::request(Method::DELETE, &path).header("x-sdrest-conversation", SECRET);
    assert_eq!(server.send(delete().body(Body::empty()).unwrap()).await.status, 204);
    assert!(server.send(delete().body(Body::empty()).unwrap()).await.is(410, "CONVERSATION_GONE"));
}

#[tokio::test]
async fn answers_are_one_for_each_prompt() {
    let server = Server::start(AuthMode::Pam).await;
    let path = "/api/auth/conversations/01234567-89ab-4cde-8f01-23456789abcd/answers";
    for body in [
        json!({"seq": 1, "answers": [{"pid": 1, "value": "x"}]}),
        json!({"seq": 1, "answers": [{"pid": 0, "value": "x"}, {"pid": 0, "value": "y"}]}),
        json!({"seq": 1, "answers": [{"pid": 0}]}),
        json!({"seq": 1, "answers": [{"pid": 0, "value": "x".repeat(512)}]}),
        json!({"answers": []}),
    ] {
        let request = Server::request(Method::POST, path)
            .header("content-type", "application/json")
            .header("x-sdrest-conversation", SECRET);
        let answer = server.send(request.body(Body::from(body.to_string())).unwrap()).await;
        assert!(answer.is(422, "VALIDATION_FAILED"), "{body}: {answer:?}");
    }
}

#[tokio::test]
async fn refresh_and_logout() {
    let server = Server::start(AuthMode::Pam).await;
    let refreshed =
        server.post("/api/auth/refresh", &json!({"refresh_token": "refresh-1"}), None).await;
    assert_eq!(refreshed.status, 200);
    let token = refreshed.body["token"].as_str().unwrap();
    assert!(
        server
            .post("/api/auth/refresh", &json!({"refresh_token": "x"}), None)
            .await
            .is(401, "TOKEN_REVOKED")
    );
    let other = server.user();
    assert_eq!(
        server.call(Method::POST, "/api/auth/logout", Some(token)).await.body,
        json!({"success": true})
    );
    assert!(server.get("/api/auth/me", Some(token)).await.is(401, "TOKEN_REVOKED"));
    assert_eq!(
        server.get("/api/auth/me", Some(&other)).await.status,
        200,
        "another session goes on"
    );
    assert!(server.call(Method::POST, "/api/auth/logout", None).await.is(401, "AUTH_REQUIRED"));
}

/// Looks until the health is as expected; the limit is only there so that a failure ends.
async fn until_health(server: &Server, expected: &str) {
    for _ in 0..600 {
        if server.get("/api/health", None).await.body["status"] == expected {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("health never became {expected}");
}

#[tokio::test]
async fn tokens_go_on_without_authd_and_it_is_found_again() {
    let mut server = Server::start(AuthMode::Pam).await;
    let token = server.user();
    server.listening.take().unwrap().shutdown().await;
    until_health(&server, "degraded").await;
    assert_eq!(server.get("/api/auth/me", Some(&token)).await.status, 200);
    let refused = login(&server, json!({"username": "alice", "password": "right"})).await;
    assert!(refused.is(503, "PAM_AUTH_UNAVAILABLE"));
    assert!(refused.body["error"]["message"].as_str().unwrap().contains("PAM_NOT_AVAILABLE"));
    assert!(refused.headers.contains_key("retry-after"));
    server.listening = Some(server.authd.listen(&server.socket));
    until_health(&server, "ok").await;
    assert_eq!(login(&server, json!({"username": "alice", "password": "right"})).await.status, 200);
}

/// authd restarts, or this process stood still for longer than a deadline: nobody who signs in meanwhile sees it.
#[tokio::test]
async fn a_login_waits_a_moment_for_an_authd_that_comes_back() {
    let mut server = Server::start(AuthMode::Pam).await;
    server.listening.take().unwrap().shutdown().await;
    until_health(&server, "degraded").await;
    let body = json!({"username": "alice", "password": "right"});
    let (authd, socket) = (server.authd.clone(), server.socket.clone());
    let comes_back = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        authd.listen(&socket)
    };
    let (answer, _listening) = tokio::join!(login(&server, body), comes_back);
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[tokio::test]
async fn without_authentication_everybody_is_anonymous() {
    let server = Server::start(AuthMode::None).await;
    let me = server.get("/api/auth/me", None).await;
    assert_eq!(me.body["user"]["id"], "anonymous");
    let permissions = me.body["user"]["permissions"].as_array().unwrap().clone();
    assert!(
        permissions.contains(&json!("generate")) && permissions.contains(&json!("models_manage"))
    );
    for not in ["keys_own", "keys_any", "users_view"] {
        assert!(!permissions.contains(&json!(not)), "{not}");
    }
    assert!(
        login(&server, json!({"username": "alice", "password": "right"}))
            .await
            .is(400, "BAD_REQUEST")
    );
    assert_eq!(server.get("/api/auth/methods", None).await.body["mode"], "none");
}
