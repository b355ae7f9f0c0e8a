//! What every answer has in common, and what is refused before any route is asked.

use super::server::{Answer, Server};
use axum::{body::Body, http::Method};
use sdrest_proto::authd::AuthMode;
use serde_json::json;

fn has_the_one_shape(answer: &Answer, status: u16, code: &str) {
    assert!(answer.is(status, code), "expected {status} {code}, got {answer:?}");
    let error = answer.body["error"].as_object().unwrap();
    assert_eq!(error.keys().collect::<Vec<_>>(), ["code", "message", "timestamp"]);
    assert!(error["timestamp"].is_u64());
    assert_eq!(answer.headers["x-request-id"].len(), 36);
    assert_eq!(answer.headers["x-content-type-options"], "nosniff");
    assert_eq!(answer.headers["cache-control"], "no-store");
}

#[tokio::test]
async fn every_error_has_the_one_shape() {
    let server = Server::start(AuthMode::Pam).await;
    let user = server.user();
    has_the_one_shape(&server.get("/nowhere", None).await, 404, "NOT_FOUND");
    has_the_one_shape(&server.get("/api/v1/nowhere", None).await, 404, "NOT_FOUND");
    has_the_one_shape(
        &server.call(Method::DELETE, "/api/health", None).await,
        405,
        "METHOD_NOT_ALLOWED",
    );
    has_the_one_shape(&server.get("/api/jobs", None).await, 401, "AUTH_REQUIRED");
    has_the_one_shape(&server.get("/api/jobs/not-an-id", Some(&user)).await, 404, "NOT_FOUND");
    has_the_one_shape(
        &server.get("/api/jobs?limit=0", Some(&user)).await,
        422,
        "VALIDATION_FAILED",
    );
    has_the_one_shape(&server.get("/api/jobs?limt=1", Some(&user)).await, 422, "VALIDATION_FAILED");
    has_the_one_shape(
        &server.get("/api/jobs?limit=1&limit=2", Some(&user)).await,
        422,
        "VALIDATION_FAILED",
    );
    has_the_one_shape(
        &server.call(Method::POST, "/api/auth/login", None).await,
        415,
        "UNSUPPORTED_MEDIA_TYPE",
    );
    has_the_one_shape(
        &server.post("/api/auth/login", &json!([]), None).await,
        422,
        "VALIDATION_FAILED",
    );
    let long = json!({"username": "a".repeat(9000)});
    has_the_one_shape(&server.post("/api/auth/login", &long, None).await, 413, "PAYLOAD_TOO_LARGE");
    let long = json!({"prompt": "a".repeat(300_000)});
    has_the_one_shape(
        &server.post("/api/txt2img", &long, Some(&user)).await,
        413,
        "PAYLOAD_TOO_LARGE",
    );
    let broken =
        Server::request(Method::POST, "/api/auth/login").header("content-type", "application/json");
    let broken = server.send(broken.body(Body::from("{\"password\":\"hunter2")).unwrap()).await;
    has_the_one_shape(&broken, 400, "BAD_REQUEST");
    assert!(!broken.body.to_string().contains("hunter2"));
}

#[tokio::test]
async fn a_uuid_is_kept_as_request_id_and_reaches_authd() {
    let server = Server::start(AuthMode::Pam).await;
    let id = "01234567-89ab-4cde-8f01-23456789abcd";
    let login = |id: &str| {
        Server::request(Method::POST, "/api/auth/login")
            .header("content-type", "application/json")
            .header("x-request-id", id)
            .body(Body::from(json!({"username": "alice", "password": "right"}).to_string()))
            .unwrap()
    };
    let answer = server.send(login(id)).await;
    assert_eq!(answer.headers["x-request-id"], id);
    let (source, request) = server.authd.begun.lock().unwrap()[0];
    assert_eq!(
        (source.unwrap().to_string().as_str(), request.to_string().as_str()),
        ("127.0.0.1", id)
    );
    for other in
        ["x", "01234567-89ab-4cde-8f01-23456789abcd, x", "{01234567-89ab-4cde-8f01-23456789ab}"]
    {
        assert_ne!(server.send(login(other)).await.headers["x-request-id"], other);
    }
}

#[tokio::test]
async fn a_challenge_names_the_realm_and_a_bad_token() {
    let server = Server::start(AuthMode::Pam).await;
    let none = server.get("/api/auth/me", None).await;
    assert_eq!(none.headers["www-authenticate"], "Bearer realm=\"test-realm\"");
    let bad = server.get("/api/auth/me", Some("a.b.c")).await;
    assert!(bad.is(401, "TOKEN_INVALID"));
    assert_eq!(
        bad.headers["www-authenticate"],
        "Bearer realm=\"test-realm\", error=\"invalid_token\""
    );
}

#[tokio::test]
async fn a_failed_conversation_has_what_every_error_has() {
    let server = Server::start(AuthMode::Pam).await;
    let begun = server.post("/api/auth/conversations", &json!({"username": "bob"}), None).await;
    let path = format!("/api/auth/conversations/{}/answers", begun.body["id"].as_str().unwrap());
    let answers = json!([{"pid": 0, "value": "wrong"}, {"pid": 1, "value": "1"}]);
    let request = Server::request(Method::POST, &path)
        .header("content-type", "application/json")
        .header("x-sdrest-conversation", super::authd::SECRET);
    let body = json!({"seq": begun.body["seq"], "answers": answers}).to_string();
    let failed = server.send(request.body(Body::from(body)).unwrap()).await;
    has_the_one_shape(&failed, 401, "AUTHENTICATION_FAILED");
    assert_eq!(failed.body["state"], "failed");
    assert_eq!(failed.headers["www-authenticate"], "Bearer realm=\"test-realm\"");
    let begun = server.post("/api/auth/conversations", &json!({"username": "dropped"}), None).await;
    has_the_one_shape(&begun, 429, "TOO_MANY_ATTEMPTS");
    assert_eq!((&begun.body["state"], &begun.headers["retry-after"].len()), (&json!("failed"), &2));
}

#[tokio::test]
async fn a_foreign_host_is_misdirected_in_every_mode() {
    for mode in [AuthMode::None, AuthMode::Pam] {
        let server = Server::start(mode).await;
        for (host, status) in [
            ("127.0.0.1:8080", 200),
            ("localhost", 200),
            ("sd.example", 200),
            ("evil.example", 421),
            ("127.0.0.1.evil.example", 421),
            ("127.0.0.2", 421),
            ("a b", 400),
        ] {
            let request = Server::request(Method::GET, "/api/health").header("host", host);
            let answer = server.send(request.body(Body::empty()).unwrap()).await;
            assert_eq!(answer.status.as_u16(), status, "{mode:?} {host}");
        }
        let twice = Server::request(Method::GET, "/api/health")
            .header("host", "localhost")
            .header("host", "localhost");
        assert_eq!(server.send(twice.body(Body::empty()).unwrap()).await.status, 400);
        let absolute = Server::request(Method::GET, "http://evil.example/api/health")
            .header("host", "localhost");
        assert!(
            server.send(absolute.body(Body::empty()).unwrap()).await.is(421, "MISDIRECTED_REQUEST")
        );
    }
}

#[tokio::test]
async fn an_unsafe_request_from_another_site_is_refused() {
    let server = Server::start(AuthMode::None).await;
    for (name, value, refused) in [
        ("origin", "https://evil.example", true),
        ("origin", "null", true),
        ("origin", "http://127.0.0.1:8080", false),
        ("origin", "https://sd.example", false),
        ("sec-fetch-site", "cross-site", true),
        ("sec-fetch-site", "same-origin", false),
    ] {
        let request = Server::request(Method::POST, "/api/txt2img").header(name, value);
        let answer = server.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!(answer.is(403, "CROSS_SITE"), refused, "{name}: {value}: {answer:?}");
        let request = Server::request(Method::GET, "/api/health").header(name, value);
        assert_eq!(
            server.send(request.body(Body::empty()).unwrap()).await.status,
            200,
            "reading is left alone"
        );
    }
}
