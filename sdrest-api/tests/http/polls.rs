//! Long polls and repeated requests: how many one user may hold, and what a key that came before gives.

use super::{
    pictures::{Allowed, new_job},
    server::{Answer, Server},
    tokens::{claims, now},
};
use axum::{body::Body, http::Method};
use sdrest_api::jobs::{IdempotencyKey, Job, NewJob, Scope, streams::MAX_WAITS};
use sdrest_proto::{
    authd::AuthMode,
    id::{JobId, SessionId},
    identity::{Role, Subject},
};
use serde_json::json;
use sha2::{Digest, Sha256};
use std::time::Duration;
use tokio::task::JoinSet;
use tower::ServiceExt;

/// Only there so that a failure ends.
const PATIENCE: Duration = Duration::from_secs(40);
/// Polls beyond what one user may hold.
const MORE: usize = 8;

fn token_of(server: &Server, uid: u32) -> String {
    let mut claims = claims(Role::User, SessionId::random(), now());
    claims["sub"] = Subject::unix(uid, 1).as_str().into();
    server.authd.sign(&claims)
}

/// A long poll in a task of its own; gives the job's state.
fn poll(server: &Server, job: &Job, token: &str, polls: &mut JoinSet<String>) {
    let request = Server::request(Method::GET, &format!("/api/v1/jobs/{}?wait=60", job.id))
        .header("host", "127.0.0.1:8080")
        .header("authorization", format!("Bearer {token}"));
    let answer = server.router().oneshot(request.body(Body::empty()).unwrap());
    polls.spawn(async move {
        let answer = answer.await.unwrap();
        assert_eq!(answer.status(), 200);
        let body = axum::body::to_bytes(answer.into_body(), 1 << 20).await.unwrap();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        body["job"]["state"].as_str().unwrap().to_owned()
    });
}

async fn next(polls: &mut JoinSet<String>) -> String {
    let next = tokio::time::timeout(PATIENCE, polls.join_next()).await;
    next.expect("every poll is held").unwrap().unwrap()
}

/// As many polls of one user as there may be, all held.
async fn hold_all(server: &Server, job: &Job, token: &str) -> JoinSet<String> {
    let mut polls = JoinSet::new();
    for _ in 0..MAX_WAITS as usize + MORE {
        poll(server, job, token, &mut polls);
    }
    for _ in 0..MORE {
        assert_eq!(next(&mut polls).await, "queued");
    }
    polls
}

/// Behind a proxy nothing else tells one user's connections from another's.
#[tokio::test]
async fn one_user_holds_so_many_long_polls_and_the_rest_are_answered_at_once() {
    let server = Server::start(AuthMode::Pam).await;
    let job = server.queue.submit(Allowed, new_job(Subject::unix(1000, 1))).await.unwrap();
    let others = server.queue.submit(Allowed, new_job(Subject::unix(1001, 1))).await.unwrap();
    let mut held = hold_all(&server, &job, &server.user()).await;
    let mut of_another = JoinSet::new();
    poll(&server, &others, &token_of(&server, 1001), &mut of_another);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(held.try_join_next().is_none() && of_another.try_join_next().is_none());
    for job in [&job, &others] {
        server.queue.cancel(Scope::Any, job.id).await.unwrap();
    }
    for _ in 0..MAX_WAITS {
        assert_eq!(next(&mut held).await, "cancelled");
    }
    assert_eq!(next(&mut of_another).await, "cancelled");
    assert!(held.is_empty());
}

/// A job that was accepted with this key and body when there was a worker. Now there is none.
async fn accepted_earlier(server: &Server, body: &str) -> Job {
    let body_sha256 = Sha256::digest(body).into();
    let key = IdempotencyKey { key: "once".to_owned(), body_sha256 };
    let new = new_job(Subject::unix(1000, 1));
    server.queue.submit(Allowed, NewJob { idempotency_key: Some(key), ..new }).await.unwrap()
}

async fn repeat(server: &Server, token: &str, body: &str, prefer: &str) -> Answer {
    let request = Server::request(Method::POST, "/api/v1/txt2img")
        .header("content-type", "application/json")
        .header("authorization", format!("Bearer {token}"))
        .header("idempotency-key", "once")
        .header("prefer", prefer);
    let sent = server.send(request.body(Body::from(body.to_owned())).unwrap());
    tokio::time::timeout(PATIENCE, sent).await.expect("it is held")
}

#[tokio::test]
async fn a_repeated_request_gives_its_job_whatever_models_there_are() {
    let server = Server::start(AuthMode::Pam).await;
    let body = json!({"prompt": "a red circle", "model": "gone"}).to_string();
    let job = accepted_earlier(&server, &body).await;
    for prefer in ["respond-async", "wait=0"] {
        let again = repeat(&server, &server.user(), &body, prefer).await;
        assert_eq!(again.status, 202, "{again:?}");
        assert_eq!(again.body["job"]["id"], job.id.to_string());
        assert_eq!(again.headers["location"], format!("/api/v1/jobs/{}", job.id));
    }
    // Another body or another user's same key is a new request, and there is no model for that.
    let other = json!({"prompt": "a blue circle"}).to_string();
    let (own, bob) = (server.user(), token_of(&server, 1001));
    for (token, body) in [(&own, &other), (&bob, &body)] {
        let refused = repeat(&server, token, body, "wait=0").await;
        assert!(refused.is(404, "MODEL_NOT_FOUND"), "{refused:?}");
    }
    server.queue.cancel(Scope::Any, job.id).await.unwrap();
    let ended = repeat(&server, &own, &body, "wait=60").await;
    assert_eq!(ended.body["job"]["state"], "cancelled");
}

#[tokio::test]
async fn a_preference_that_there_is_no_room_for_is_not_said_to_be_applied() {
    let server = Server::start(AuthMode::Pam).await;
    let (token, body) = (server.user(), json!({"prompt": "a red circle"}).to_string());
    let job = accepted_earlier(&server, &body).await;
    let roomy = repeat(&server, &token, &body, "wait=0").await;
    assert_eq!(roomy.headers["preference-applied"], "wait=0");
    let _held = hold_all(&server, &job, &token).await;
    let full = repeat(&server, &token, &body, "wait=60").await;
    assert_eq!((full.status.as_u16(), &full.body["job"]["state"]), (202, &json!("queued")));
    assert!(!full.headers.contains_key("preference-applied"));
}

#[tokio::test]
async fn a_list_from_somebody_elses_job_on_looks_like_one_from_none() {
    let server = Server::start(AuthMode::Pam).await;
    server.queue.submit(Allowed, new_job(Subject::unix(1000, 1))).await.unwrap();
    let others = server.queue.submit(Allowed, new_job(Subject::unix(1001, 1))).await.unwrap();
    let token = server.user();
    for state in ["", "&state=queued"] {
        let from = async |id: JobId| {
            server.get(&format!("/api/v1/jobs?before={id}{state}"), Some(&token)).await
        };
        let (of_others, of_none) = (from(others.id).await, from(JobId::random()).await);
        assert_eq!((of_others.status, of_others.body), (of_none.status, of_none.body));
    }
}
