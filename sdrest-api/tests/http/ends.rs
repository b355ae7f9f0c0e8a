//! What goes on for long ends with the credential that it was begun with: streams of events and long polls. And what
//! a credential may end.

use super::{
    authd::TestAuthd,
    pictures::{Allowed, new_job},
    server::Server,
    tokens::{claims, now, session_of},
};
use axum::{
    body::{Body, BodyDataStream},
    http::Method,
};
use futures::StreamExt;
use sdrest_api::jobs::Job;
use sdrest_proto::{
    api_key::Scopes,
    authd::AuthMode,
    id::SessionId,
    identity::{Permission, Role, Subject},
};
use std::time::Duration;
use tower::ServiceExt;

/// Only there so that a failure ends.
const PATIENCE: Duration = Duration::from_secs(40);

async fn with_a_job(authd: TestAuthd) -> (Server, Job) {
    let server = Server::with(authd).await;
    let job = server.queue.submit(Allowed, new_job(Subject::unix(1000, 1))).await.unwrap();
    (server, job)
}

async fn next(events: &mut BodyDataStream) -> Option<String> {
    let piece = tokio::time::timeout(PATIENCE, events.next()).await.expect("the stream goes on");
    piece.map(|piece| String::from_utf8(piece.unwrap().to_vec()).unwrap())
}

/// The stream of a job, after its first event.
async fn watch(server: &Server, job: &Job, (header, secret): (&str, &str)) -> BodyDataStream {
    let request = Server::request(Method::GET, &format!("/api/v1/jobs/{}/events", job.id))
        .header("host", "127.0.0.1:8080")
        .header(header, secret);
    let answer = server.router().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    assert_eq!(answer.status(), 200);
    let mut events = answer.into_body().into_data_stream();
    assert!(next(&mut events).await.unwrap().contains("event: progress"));
    events
}

async fn is_told_of_the_end(mut events: BodyDataStream) {
    loop {
        let event = next(&mut events).await.unwrap();
        if event.contains("event: auth_expired") {
            assert_eq!(next(&mut events).await, None, "something came after the last word");
            return;
        }
        // The place of a job in the queue may have been told again.
        assert!(event.contains("event: progress"), "{event}");
    }
}

#[tokio::test]
async fn a_stream_ends_with_its_session() {
    let (server, job) = with_a_job(TestAuthd::new(AuthMode::Pam)).await;
    let (token, other) = (server.user(), server.user());
    let events = watch(&server, &job, ("authorization", &format!("Bearer {token}"))).await;
    let others = watch(&server, &job, ("authorization", &format!("Bearer {other}"))).await;
    server.authd.announce(|news| news.sessions.push(session_of(&token)));
    is_told_of_the_end(events).await;
    server.authd.announce(|news| news.sessions.push(session_of(&other)));
    is_told_of_the_end(others).await;
}

#[tokio::test]
async fn a_stream_ends_when_its_token_expires() {
    let (server, job) = with_a_job(TestAuthd::new(AuthMode::Pam)).await;
    let mut short = claims(Role::User, SessionId::random(), now());
    short["exp"] = (now() + 4).into();
    let token = server.authd.sign(&short);
    let events = watch(&server, &job, ("authorization", &format!("Bearer {token}"))).await;
    is_told_of_the_end(events).await;
}

#[tokio::test]
async fn a_stream_ends_with_its_key() {
    let (server, job) = with_a_job(TestAuthd::new(AuthMode::Pam)).await;
    let key = server.authd.api_key(Role::User, Scopes::all(Role::User));
    let events = watch(&server, &job, ("x-api-key", &key)).await;
    server.authd.api_keys.lock().unwrap().clear();
    server.authd.announce(|_| {});
    is_told_of_the_end(events).await;
}

/// It answers with what is known then: the credential was good when it was asked for.
#[tokio::test]
async fn a_long_poll_ends_with_its_session() {
    let (server, job) = with_a_job(TestAuthd::new(AuthMode::Pam)).await;
    let path = format!("/api/v1/jobs/{}?wait=60", job.id);
    // The credential must be looked at before it ends: where the machine was too slow for that, once more.
    let mut head_start = Duration::from_millis(100);
    loop {
        let token = server.user();
        let poll = server.get(&path, Some(&token));
        let end = async {
            tokio::time::sleep(head_start).await;
            server.authd.announce(|news| news.sessions.push(session_of(&token)));
        };
        let both = tokio::time::timeout(PATIENCE, async { tokio::join!(poll, end) }).await;
        let (answer, ()) = both.expect("it went on after its session");
        if answer.status == 200 {
            assert_eq!(answer.body["job"]["state"], "queued");
            break;
        }
        assert!(answer.is(401, "TOKEN_REVOKED"), "{answer:?}");
        head_start *= 2;
        assert!(head_start < PATIENCE / 2, "no poll begins");
    }
}

#[tokio::test]
async fn a_key_that_may_only_look_ends_no_job() {
    let (server, job) = with_a_job(TestAuthd::new(AuthMode::Pam)).await;
    let scopes = |scopes: &[Permission]| Scopes::try_from(scopes.to_vec()).unwrap();
    let looks = server.authd.api_key(Role::User, scopes(&[Permission::QueueViewOwn]));
    let generates = server.authd.api_key(Role::User, scopes(&[Permission::Generate]));
    for prefix in ["/api", "/api/v1"] {
        let path = format!("{prefix}/jobs/{}", job.id);
        let refused = server.call_with_key(Method::DELETE, &path, &looks).await;
        assert!(refused.is(403, "FORBIDDEN"), "{refused:?}");
        let seen = server.call_with_key(Method::GET, &path, &looks).await;
        assert_eq!((seen.status.as_u16(), &seen.body["job"]["state"]), (200, &"queued".into()));
    }
    // Nor does it delete a picture. There is none of this id, which is not what it is told.
    let picture = "/api/v1/images/01234567-89ab-4cde-8f01-23456789abcd";
    let refused = server.call_with_key(Method::DELETE, picture, &looks).await;
    assert!(refused.is(403, "FORBIDDEN"), "{refused:?}");
    let absent = server.call_with_key(Method::DELETE, picture, &generates).await;
    assert!(absent.is(404, "NOT_FOUND"), "{absent:?}");
    let path = format!("/api/v1/jobs/{}", job.id);
    let ended = server.call_with_key(Method::DELETE, &path, &generates).await;
    assert_eq!((ended.status.as_u16(), &ended.body["job"]["state"]), (200, &"cancelled".into()));
}
