//! Logins of the internal user database, through both real programs: argon2 runs in the conversation program, and
//! unknown, disabled and wrong look and last alike.

use crate::stack::{PATIENCE, PLAIN, Setup, Stack, Talk, begin, conversation_program, login};
use sdrest_proto::{
    accounts::{NewUser, UserName},
    authd::{AuthMode, SignIn, UserState},
    error::ErrorCode,
    id::RequestId,
    identity::Role,
    login::{Grant, LoginState},
    secret::Answer,
    transport::deadline,
};
use std::time::Duration;

pub(crate) const JWT: Setup<'_> = Setup { mode: "jwt", ..PLAIN };
pub(crate) const PASSWORD: &str = "correct horse";

macro_rules! skip_if_missing {
    () => {
        if conversation_program().is_none() {
            eprintln!("skipped: sdrest-conversation is not built; build the workspace first");
            return;
        }
    };
}
pub(crate) use skip_if_missing;

pub(crate) fn name(text: &str) -> UserName {
    UserName::try_from(text.to_owned()).unwrap()
}

pub(crate) fn user(username: &str, role: Role) -> NewUser {
    NewUser { username: name(username), password: Answer::new(PASSWORD.to_owned()), role }
}

/// Signs in, which must succeed.
pub(crate) async fn sign_in(stack: &Stack, user: &str, password: &str) -> Grant {
    let client = stack.client().await;
    let talk = Talk::begin(&client, begin(user, Some(password))).await.unwrap();
    match talk.end().await {
        LoginState::Succeeded(grant) => grant,
        other => panic!("{other:?}; {}", stack.log()),
    }
}

/// Whatever the log's level is, each event is a line of JSON and nothing else.
#[tokio::test]
async fn the_audit_is_lines_of_json_at_any_log_level() {
    skip_if_missing!();
    let stack = Stack::start(&Setup { flags: &["--log-level", "error"], ..JWT }).unwrap();
    let (client, admin) = (stack.client().await, stack.admin().await);
    admin.add_user(deadline(PATIENCE), user("alice", Role::User)).await.unwrap().unwrap();
    assert_eq!(login(&client, "alice", "wrong").await.0, "AUTHENTICATION_FAILED");
    let log = stack.log_with("conversation_ended");
    let events: Vec<serde_json::Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}")))
        .collect();
    let names: Vec<_> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
    assert_eq!(names, ["started", "administered", "conversation_began", "conversation_ended"]);
    assert_eq!(events[3]["result"], "authentication_failed");
    assert!(events.iter().all(|event| event["time"].is_u64()), "{log}");
}

#[tokio::test]
async fn right_wrong_unknown_and_disabled() {
    skip_if_missing!();
    let stack = Stack::start(&JWT).unwrap();
    let (client, admin) = (stack.client().await, stack.admin().await);
    let described = client.describe(deadline(PATIENCE)).await.unwrap();
    assert_eq!((described.mode, described.sign_in), (AuthMode::Jwt, SignIn::Conversation));
    assert!(!described.pam && described.api_keys && described.keys.len() == 1);
    for (username, role) in [("alice", Role::Operator), ("gone", Role::User)] {
        let told = admin.add_user(deadline(PATIENCE), user(username, role)).await.unwrap().unwrap();
        assert_eq!((told.username.as_str(), told.role), (username, role));
    }
    let again = admin.add_user(deadline(PATIENCE), user("alice", Role::User)).await.unwrap();
    assert_eq!(again.unwrap_err().code, ErrorCode::Conflict);
    let mut short = user("bob", Role::User);
    short.password = Answer::new("1234567".to_owned());
    let fault = admin.add_user(deadline(PATIENCE), short).await.unwrap().unwrap_err();
    assert_eq!(fault.code, ErrorCode::ValidationFailed);
    admin
        .set_user_state(deadline(PATIENCE), name("gone"), UserState::Disabled)
        .await
        .unwrap()
        .unwrap();

    let grant = sign_in(&stack, "alice", PASSWORD).await;
    assert!(grant.subject.as_str().starts_with("internal:") && grant.role == Role::Operator);
    let claims = client.introspect(deadline(PATIENCE), grant.token, RequestId::random()).await;
    assert_eq!(claims.unwrap().unwrap().amr, ["pwd"]);
    // A name that is no internal user is not looked for elsewhere.
    for (typed, password) in [
        ("alice", "wrong"),
        ("nobody-here", PASSWORD),
        ("gone", PASSWORD),
        ("ALICE", PASSWORD),
        ("games", PASSWORD),
    ] {
        let (code, took) = login(&client, typed, password).await;
        assert_eq!(code, "AUTHENTICATION_FAILED", "{typed}");
        assert!(took >= Duration::from_millis(400), "{typed} was told after {took:?}");
    }
    let log = stack.log_with("authentication_failed");
    assert!(log.contains("\"verb\":\"add_user\"") && log.contains("\"admin_uid\":"), "{log}");
    assert!(!log.contains(PASSWORD) && !log.contains("argon2id") && !log.contains("nobody-here"));
}

#[tokio::test]
async fn without_a_password_one_is_asked_for() {
    skip_if_missing!();
    let stack = Stack::start(&JWT).unwrap();
    let (client, admin) = (stack.client().await, stack.admin().await);
    admin.add_user(deadline(PATIENCE), user("alice", Role::User)).await.unwrap().unwrap();
    for (typed, answer, fine) in
        [("alice", PASSWORD, true), ("alice", "wrong", false), ("unknown", PASSWORD, false)]
    {
        let mut talk = Talk::begin(&client, begin(typed, None)).await.unwrap();
        while matches!(talk.step.state, LoginState::Running) {
            talk.poll().await.unwrap();
        }
        let LoginState::Waiting { prompts } = &talk.step.state else { panic!("{:?}", talk.step) };
        assert_eq!((prompts.len(), prompts[0].text.as_str()), (1, "Password: "));
        talk.respond(&[answer]).await.unwrap();
        match talk.end().await {
            LoginState::Succeeded(_) => assert!(fine, "{typed}"),
            LoginState::Failed(fault) => {
                assert!(!fine && fault.code == ErrorCode::AuthenticationFailed, "{typed}: {fault}");
            }
            other => panic!("{other:?}"),
        }
    }
    let fault = Talk::begin(&client, begin("alice", Some(""))).await.err().unwrap();
    assert_eq!(fault.code, ErrorCode::MissingPassword);
}

/// A disk that is full keeps the larger file from being written, which is the list of sessions.
#[tokio::test]
async fn what_was_taken_away_by_half_is_taken_away_when_it_is_asked_for_again() {
    skip_if_missing!();
    let stack = Stack::start(&JWT).unwrap();
    let (admin, client) = (stack.admin().await, stack.client().await);
    let in_the_way = stack.path("state").join("logins.json.new");
    let revoked = async |token| {
        let known = client.introspect(deadline(PATIENCE), token, RequestId::random()).await;
        known.unwrap().unwrap_err().code
    };
    admin.add_user(deadline(PATIENCE), user("alice", Role::Admin)).await.unwrap().unwrap();
    let grant = sign_in(&stack, "alice", PASSWORD).await;
    std::fs::create_dir(&in_the_way).unwrap();
    let demote = || admin.set_user_role(deadline(PATIENCE), name("alice"), Role::User);
    assert_eq!(demote().await.unwrap().unwrap_err().code, ErrorCode::Internal);
    std::fs::remove_dir(&in_the_way).unwrap();
    demote().await.unwrap().unwrap();
    assert_eq!(revoked(grant.token).await, ErrorCode::TokenRevoked);

    let grant = sign_in(&stack, "alice", PASSWORD).await;
    std::fs::create_dir(&in_the_way).unwrap();
    let remove = || admin.remove_user(deadline(PATIENCE), name("alice"));
    assert_eq!(remove().await.unwrap().unwrap_err().code, ErrorCode::Internal);
    std::fs::remove_dir(&in_the_way).unwrap();
    remove().await.unwrap().unwrap();
    assert_eq!(revoked(grant.token).await, ErrorCode::TokenRevoked);
    let log = stack.log_with("remove_user");
    assert!(log.contains("\"result\":\"INTERNAL\""), "a failure is audited, too: {log}");
}

#[tokio::test]
async fn what_an_administrator_changes_counts_at_once_and_outlives_a_restart() {
    skip_if_missing!();
    let mut stack = Stack::start(&JWT).unwrap();
    let admin = stack.admin().await;
    admin.add_user(deadline(PATIENCE), user("alice", Role::User)).await.unwrap().unwrap();
    let grant = sign_in(&stack, "alice", PASSWORD).await;
    admin.set_user_role(deadline(PATIENCE), name("alice"), Role::Admin).await.unwrap().unwrap();
    let client = stack.client().await;
    let refreshed = client
        .refresh(deadline(PATIENCE), grant.refresh_token.unwrap(), RequestId::random())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(refreshed.role, Role::Admin, "a refresh takes the role of now");
    let new = Answer::new("another horse".to_owned());
    admin.set_password(deadline(PATIENCE), name("alice"), new).await.unwrap().unwrap();
    let dead = client.introspect(deadline(PATIENCE), refreshed.token, RequestId::random()).await;
    assert_eq!(dead.unwrap().unwrap_err().code, ErrorCode::TokenRevoked);

    stack.restart(&JWT, |_| {});
    let (client, admin) = (stack.client().await, stack.admin().await);
    assert_eq!(login(&client, "alice", PASSWORD).await.0, "AUTHENTICATION_FAILED");
    let grant = sign_in(&stack, "alice", "another horse").await;
    admin
        .set_user_state(deadline(PATIENCE), name("alice"), UserState::Disabled)
        .await
        .unwrap()
        .unwrap();
    let dead = client
        .refresh(deadline(PATIENCE), grant.refresh_token.unwrap(), RequestId::random())
        .await
        .unwrap();
    assert_eq!(dead.unwrap_err().code, ErrorCode::TokenInvalid, "its session has ended");
    admin.remove_user(deadline(PATIENCE), name("alice")).await.unwrap().unwrap();
    let fault = admin.remove_user(deadline(PATIENCE), name("alice")).await.unwrap().unwrap_err();
    assert_eq!(fault.code, ErrorCode::NotFound);
    assert!(admin.list_users(deadline(PATIENCE)).await.unwrap().unwrap().is_empty());
}
