//! What the administrator opened, and all the ways to spell something else.

use super::{
    authd::TestAuthd,
    server::Server,
    surface::{Operation, operations},
};
use axum::http::{Method, Uri};
use sdrest_proto::{authd::AuthMode, identity::Role};
use serde_json::json;
use std::collections::BTreeSet;

async fn with_paths(paths: &[&str]) -> Server {
    let mut authd = TestAuthd::new(AuthMode::Pam);
    authd.description.public_paths = paths.iter().map(|path| (*path).to_owned()).collect();
    Server::with(authd).await
}

/// All operations that answer to somebody who shows nothing, but for those that are open by themselves.
async fn open_to_all(server: &Server) -> BTreeSet<String> {
    let mut open = BTreeSet::new();
    for operation in operations() {
        let answer = server.call(operation.method.clone(), &operation.path, None).await;
        if operation.rule("x-access") != Some("open") && !answer.is(401, "AUTH_REQUIRED") {
            open.insert(operation.name);
        }
    }
    open
}

/// The scenarios of the authentication guides, with what each opens and nothing else.
#[tokio::test]
async fn the_guides_scenarios_open_what_they_say() {
    const ALL_READING: &[&str] = &[
        "docs",
        "health",
        "models",
        "models/directories",
        "models/types",
        "openapi.json",
        "parameters",
        "queue/status",
        "samplers",
        "schedulers",
        "status",
    ];
    let scenarios: &[(&str, &str, &[&str])] = &[
        ("the default", "/api/health,/api/status", &["health", "status"]),
        (
            "models, too",
            "/api/health,/api/status,/api/models",
            &["health", "status", "models", "models/types", "models/directories"],
        ),
        (
            "1: public documentation",
            "/api/health,/api/status,/api/docs,/api/openapi.json",
            &["health", "status", "docs", "openapi.json"],
        ),
        (
            "2: monitoring",
            "/api/health,/api/status,/api/queue/status",
            &["health", "status", "queue/status"],
        ),
        (
            "3: development",
            "/api/health,/api/status,/api/models,/api/samplers",
            &["health", "status", "models", "models/types", "models/directories", "samplers"],
        ),
        ("4: everything", "/", ALL_READING),
    ];
    for (scenario, paths, open) in scenarios {
        let server = with_paths(&paths.split(',').collect::<Vec<_>>()).await;
        let mut expected: BTreeSet<String> =
            open.iter().map(|path| format!("GET /api/v1/{path}")).collect();
        if *paths == "/" {
            expected.insert("POST /api/v1/txt2img".to_owned());
        }
        assert_eq!(open_to_all(&server).await, expected, "{scenario}");
    }
}

/// No spelling of a closed route, beside whatever is open, gets to it.
#[tokio::test]
async fn no_spelling_opens_a_closed_route() {
    let server = with_paths(&["/api/health", "/api/models", "/api/docs"]).await;
    let open = open_to_all(&server).await;
    let closed = |operation: &Operation| {
        operation.rule("x-access") != Some("open") && !open.contains(&operation.name)
    };
    let mut tried = 0;
    for operation in operations().into_iter().filter(closed) {
        let short = operation.path.trim_start_matches("/api/v1");
        for path in spellings(short) {
            // What is no target of a request at all does not get past the parser.
            if path.parse::<Uri>().is_err() {
                continue;
            }
            let answer = server.call(operation.method.clone(), &path, None).await;
            assert!(
                matches!(answer.status.as_u16(), 400 | 401 | 404 | 405),
                "{} as {path}: {answer:?}",
                operation.name
            );
            tried += 1;
        }
    }
    assert!(tried > 500, "{tried} spellings");
}

fn spellings(route: &str) -> Vec<String> {
    let mut all = Vec::new();
    for prefix in ["/api", "/api/v1"] {
        let plain = format!("{prefix}{route}");
        // The way through something open.
        for open in ["/api/health", "/api/v1/health", "/api/models", "/api/docs"] {
            for way in ["/..", "/%2e%2e", "/.%2e", "/..%2f..", "/..;", "/;/..", "%2f..", "/.", "/"]
            {
                all.push(format!("{open}{way}{route}"));
                all.push(format!("{open}{way}{plain}"));
            }
            all.push(format!("{plain}?{open}"));
            all.push(format!("{plain}?/../{open}"));
            all.push(format!("{plain};{open}"));
            all.push(format!("{plain}%3f{open}"));
            all.push(format!("{plain}%23{open}"));
            all.push(format!("{plain}#{open}"));
            all.push(format!("{plain}/..{open}"));
        }
        // The route itself, written otherwise.
        let (folder, last) = plain.rsplit_once('/').unwrap_or(("", &plain));
        all.extend([
            format!("/{plain}"),
            format!("{folder}//{last}"),
            format!("{folder}/./{last}"),
            format!("{folder}/x/../{last}"),
            format!("{folder}%2f{last}"),
            format!("{folder}%2F{last}"),
            format!("{folder}/%2e/{last}"),
            format!("{folder};x/{last}"),
            format!("{plain};x=1"),
            format!("{plain}/"),
            format!("{plain}//"),
            format!("{plain}."),
            format!("{plain}/."),
            format!("{plain}X"),
            format!("{plain}%00"),
            format!("{plain}%20"),
            format!("{plain}%0d%0a"),
            format!("{plain}.json"),
            plain.to_uppercase(),
            plain.replacen("/api", "/Api", 1),
            plain.replacen("/api", "/%61pi", 1),
            plain.replacen("/api", "/api/v2", 1),
            plain.replacen("/api", "/api/v1/v1", 1),
            plain.replacen("/api", "/api/v1/../v1", 1),
            plain.replacen("/api", "/v1/api", 1),
            plain.replacen("/api", "/api\\", 1),
        ]);
    }
    all
}

/// And what is open has one spelling at each prefix.
#[tokio::test]
async fn what_looks_like_an_open_route_is_none() {
    let server = with_paths(&["/api/models"]).await;
    for path in [
        "/api/modelsX",
        "/api/models.",
        "/api/models/",
        "/api/models/.",
        "/api/models//types",
        "/api/models/../models",
        "/api/models;x",
        "/api/models%2ftypes",
        "/api/models/types/x",
        "/API/models",
        "/api/Models",
        "/api/v1/modelsX",
        "/api/v1/models/",
        "/api/v2/models",
        "/api/models/load",
        "/api/models/refresh",
        "/models",
        "/v1/models",
    ] {
        let answer = server.get(path, None).await;
        assert!(matches!(answer.status.as_u16(), 401 | 404 | 405), "{path}: {answer:?}");
    }
    for path in ["/api/models/load", "/api/models/unload", "/api/models/refresh"] {
        let answer = server.call(Method::POST, path, None).await;
        assert!(answer.is(401, "AUTH_REQUIRED"), "managing is never public: {path}");
    }
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
