//! What the administrator opened, and all the ways to spell something else.

use super::{authd::TestAuthd, server::Server};
use axum::http::Method;
use sdrest_proto::{authd::AuthMode, identity::Role};
use serde_json::json;

async fn with_paths(paths: &[&str]) -> Server {
    let mut authd = TestAuthd::new(AuthMode::Pam);
    authd.description.public_paths = paths.iter().map(|path| (*path).to_owned()).collect();
    Server::with(authd).await
}

#[tokio::test]
async fn the_listed_routes_and_no_others() {
    let server = with_paths(&["/api/health", "/api/v1/models", "/api/queue"]).await;
    for path in
        ["/api/health", "/api/v1/health", "/api/models", "/api/v1/models", "/api/queue/status"]
    {
        assert_eq!(server.get(path, None).await.status, 200, "{path}");
        assert_eq!(server.call(Method::HEAD, path, None).await.status, 200, "HEAD {path}");
    }
    for path in [
        "/api/status",
        "/api/samplers",
        "/api/jobs",
        "/api/auth/me",
        "/api/version",
        "/api/openapi.json",
    ] {
        assert!(server.get(path, None).await.is(401, "AUTH_REQUIRED"), "{path}");
    }
    let job = "/api/queue/job/01234567-89ab-4cde-8f01-23456789abcd";
    assert!(
        server.get(job, None).await.is(401, "AUTH_REQUIRED"),
        "other people's work is never public"
    );
}

#[tokio::test]
async fn other_spellings_do_not_slip_through() {
    let server = with_paths(&["/api/health", "/api/models"]).await;
    for path in [
        "/api/health/../jobs",
        "/api/health/..%2fjobs",
        "/api/health%2f..%2fjobs",
        "/api/health/%2e%2e/jobs",
        "/api/health/..;/jobs",
        "/api/health;/jobs",
        "/api/health;x=/../jobs",
        "/api/health//../jobs",
        "//api/health",
        "/api//health",
        "/api//jobs",
        "/api/health/",
        "/api/healthy",
        "/api/heal",
        "/api/v1/v1/health",
        "/api/v1/../health/../jobs",
        "/API/HEALTH",
        "/api/%68ealth/../jobs",
        "/api/jobs?/api/health",
        "/api/jobs#/api/health",
        "/api/jobs%3f/api/health",
        "/api/health%00",
        "/api/jobs/%2e%2e/health",
    ] {
        let answer = server.get(path, None).await;
        assert!(matches!(answer.status.as_u16(), 401 | 404), "{path}: {answer:?}");
    }
}

#[tokio::test]
async fn reading_only_and_what_is_sent_is_checked() {
    let server = with_paths(&["/"]).await;
    assert_eq!(server.get("/api/models", None).await.status, 200);
    assert_eq!(server.get("/api/openapi.json", None).await.status, 200);
    for path in ["/api/jobs", "/api/images/01234567-89ab-4cde-8f01-23456789abcd", "/api/auth/me"] {
        assert!(server.get(path, None).await.is(401, "AUTH_REQUIRED"), "{path}");
    }
    assert!(server.call(Method::POST, "/api/auth/logout", None).await.is(401, "AUTH_REQUIRED"));
    // Generation is open with `/`, and only with it; no worker is here, so it ends there.
    assert!(
        server.post("/api/txt2img", &json!({"prompt": "x"}), None).await.is(404, "MODEL_NOT_FOUND")
    );
    let other = with_paths(&["/api", "/api/txt2img"]).await;
    assert!(
        other.post("/api/txt2img", &json!({"prompt": "x"}), None).await.is(401, "AUTH_REQUIRED")
    );
    let job = "/api/jobs/01234567-89ab-4cde-8f01-23456789abcd";
    let shown = |server| {
        let request = Server::request(Method::GET, job).header("x-sdrest-job", "something");
        Server::send(server, request.body(axum::body::Body::empty()).unwrap())
    };
    assert!(shown(&server).await.is(404, "NOT_FOUND"));
    assert!(shown(&other).await.is(401, "AUTH_REQUIRED"));
    assert!(server.get("/api/models", Some("bad")).await.is(401, "TOKEN_INVALID"));
    assert_eq!(server.get("/api/models", Some(&server.authd.token(Role::Guest))).await.status, 200);
}

#[tokio::test]
async fn guests_where_they_are_allowed() {
    let mut authd = TestAuthd::new(AuthMode::Pam);
    authd.description.guests = true;
    let server = Server::with(authd).await;
    let me = server.get("/api/auth/me", None).await;
    assert_eq!(
        (&me.body["user"]["id"], &me.body["user"]["role"]),
        (&json!("guest"), &json!("guest"))
    );
    assert_eq!(server.get("/api/models", None).await.status, 200);
    assert!(
        server.post("/api/txt2img", &json!({"prompt": "x"}), None).await.is(401, "AUTH_REQUIRED")
    );
    assert!(server.call(Method::POST, "/api/auth/logout", None).await.is(401, "AUTH_REQUIRED"));
    assert!(
        server.get("/api/models", Some("bad")).await.is(401, "TOKEN_INVALID"),
        "no guest with a bad token"
    );
}
