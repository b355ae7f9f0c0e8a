//! Logins through both real programs and libpam, with service files of the test's own (pam_start_confdir) and
//! libpam-wrapper's pam_matrix. Nothing here reads the host's /etc/pam.d; the account is one of the host's, whose
//! password pam_matrix knows from a file.

use crate::stack::{
    self, PATIENCE, Setup, Stack, Talk, begin, conversation_program, left_running, login,
    pam_matrix,
};
use sdrest_proto::{
    error::ErrorCode,
    id::RequestId,
    login::{Echo, LoginState},
    secret::{BearerToken, ConversationSecret, RefreshToken},
    transport::deadline,
};
use std::{fs, os::unix::fs::PermissionsExt, time::Duration};

/// An account that every Linux has, and that is not root or nobody.
const USER: &str = "games";

/// Why the tests here cannot run, where they cannot.
fn missing() -> Option<&'static str> {
    if conversation_program().is_none() {
        Some("sdrest-conversation is not built; build the workspace first")
    } else if pam_matrix().is_none() {
        Some("pam_matrix.so is not installed (Debian package libpam-wrapper)")
    } else {
        None
    }
}

/// A service with these lines; `MATRIX` stands for pam_matrix with the test's passwords.
fn service(dir: &tempfile::TempDir, lines: &str) -> String {
    let passwords = dir.path().join("passwords");
    fs::write(&passwords, format!("{USER}:right:sdrest\n")).unwrap();
    let matrix = format!("{} passdb={}", pam_matrix().unwrap().display(), passwords.display());
    lines.replace("MATRIX", &matrix)
}

fn start(dir: &tempfile::TempDir, lines: &str, config: &str) -> Stack {
    let services = [("sdrest", service(dir, lines))];
    let setup = Setup { services: &services, config, ..stack::PLAIN };
    Stack::start(&setup).unwrap()
}

const PLAIN: &str = "auth required MATRIX\naccount required MATRIX\n";

macro_rules! skip_if_missing {
    () => {
        if let Some(why) = missing() {
            eprintln!("skipped: {why}");
            return;
        }
    };
}

#[tokio::test]
async fn one_password_gives_tokens_that_refresh_and_end() {
    skip_if_missing!();
    let dir = tempfile::tempdir().unwrap();
    let stack = start(&dir, PLAIN, "throttle = false");
    let client = stack.client().await;
    let talk = Talk::begin(&client, begin(USER, Some("right"))).await.unwrap();
    let LoginState::Succeeded(grant) = talk.end().await else { panic!("{}", stack.log()) };
    assert_eq!(grant.username.as_str(), USER);
    assert!(grant.subject.as_str().starts_with("unix:"));

    let described = client.describe(deadline(PATIENCE)).await.unwrap();
    assert_eq!(described.keys.len(), 1);
    let before = client.revocations(deadline(PATIENCE), 0, 0).await.unwrap();
    let refreshed = client
        .refresh(deadline(PATIENCE), grant.refresh_token.unwrap(), RequestId::random())
        .await
        .unwrap()
        .unwrap();
    assert_eq!((refreshed.session, &refreshed.subject), (grant.session, &grant.subject));
    // The list comes as soon as it changes.
    let waiting = client.clone();
    let news = tokio::spawn(async move {
        waiting.revocations(deadline(PATIENCE), before.version, 15_000).await
    });
    let token = BearerToken::new(refreshed.token.expose("test").to_owned());
    client.logout(deadline(PATIENCE), refreshed.token, RequestId::random()).await.unwrap().unwrap();
    let after = news.await.unwrap().unwrap();
    assert!(after.version > before.version && after.sessions == vec![grant.session]);
    let again =
        client.logout(deadline(PATIENCE), token, RequestId::random()).await.unwrap().unwrap_err();
    assert_eq!(again.code, ErrorCode::TokenRevoked);
    let dead = client
        .refresh(deadline(PATIENCE), refreshed.refresh_token.unwrap(), RequestId::random())
        .await
        .unwrap();
    assert_eq!(dead.unwrap_err().code, ErrorCode::TokenInvalid);
    let unknown = RefreshToken::new("x".repeat(43));
    let unknown = client.refresh(deadline(PATIENCE), unknown, RequestId::random()).await.unwrap();
    assert_eq!(unknown.unwrap_err().code, ErrorCode::TokenInvalid);

    let log = stack.log_with("session_revoked");
    assert!(log.contains("token_issued") && log.contains("session_revoked"), "{log}");
    for secret in ["right", grant.token.expose("test")] {
        assert!(!log.contains(secret), "a secret is in the log");
    }
}

#[tokio::test]
async fn all_failures_look_and_last_alike() {
    skip_if_missing!();
    let dir = tempfile::tempdir().unwrap();
    let stack = start(&dir, PLAIN, "throttle = false");
    let client = stack.client().await;
    for (user, password) in
        [(USER, "wrong"), ("no-such-user", "wrong"), ("../../etc/passwd", "x"), ("root", "right")]
    {
        let (code, took) = login(&client, user, password).await;
        assert_eq!(code, "AUTHENTICATION_FAILED", "{user}");
        assert!(took >= Duration::from_millis(400), "{user} was told after {took:?}");
    }
    let fault = Talk::begin(&client, begin(USER, Some(""))).await.err().unwrap();
    assert_eq!(fault.code, ErrorCode::MissingPassword);
    let fault = Talk::begin(&client, begin(USER, Some(&"x".repeat(512)))).await.err().unwrap();
    assert_eq!(fault.code, ErrorCode::ValidationFailed);
    assert_eq!(login(&client, USER, "right").await.0, "ok");
}

#[tokio::test]
async fn a_conversation_goes_step_by_step_and_is_told_once() {
    skip_if_missing!();
    let dir = tempfile::tempdir().unwrap();
    let lines = "auth optional pam_echo.so Welcome\nauth required MATRIX\nauth required MATRIX\naccount required MATRIX\n";
    let stack = start(&dir, lines, "throttle = false");
    let client = stack.client().await;
    // The password answers the first prompt and nothing else.
    let mut talk = Talk::begin(&client, begin(USER, Some("right"))).await.unwrap();
    let LoginState::Waiting { prompts } = &talk.step.state else { panic!("{:?}", talk.step) };
    assert_eq!((prompts.len(), prompts[0].echo), (1, Echo::Off));
    assert!(
        talk.step.messages.iter().any(|message| message.text.contains("Welcome")),
        "{:?}",
        talk.step
    );
    // Out of step, wrong in number, wrong secret: the conversation stays.
    let sequence = talk.step.sequence;
    let fault = talk.respond_at(sequence + 1, &["right"]).await.unwrap_err();
    assert_eq!(fault.code, ErrorCode::ConversationOutOfStep);
    let fault = talk.respond(&["right", "again"]).await.unwrap_err();
    assert_eq!(fault.code, ErrorCode::ValidationFailed);
    let fault = talk.respond(&["nul\0"]).await.unwrap_err();
    assert_eq!(fault.code, ErrorCode::ValidationFailed);
    let mut wrong = talk.reference();
    wrong.secret = ConversationSecret::new("guess".into());
    let fault =
        client.cancel(deadline(PATIENCE), wrong, RequestId::random()).await.unwrap().unwrap_err();
    assert_eq!(fault.code, ErrorCode::ConversationGone);
    talk.respond(&["right"]).await.unwrap();
    while matches!(talk.step.state, LoginState::Running) {
        talk.poll().await.unwrap();
    }
    assert!(matches!(talk.step.state, LoginState::Succeeded(_)), "{:?}", talk.step);
    assert_eq!(talk.poll().await.unwrap_err().code, ErrorCode::ConversationGone);
    // Three wrong forms end a conversation.
    let mut talk = Talk::begin(&client, begin(USER, None)).await.unwrap();
    while matches!(talk.step.state, LoginState::Running) {
        talk.poll().await.unwrap();
    }
    for _ in 0..3 {
        assert_eq!(talk.respond(&[]).await.unwrap_err().code, ErrorCode::ValidationFailed);
    }
    assert_eq!(talk.respond(&["right"]).await.unwrap_err().code, ErrorCode::ConversationGone);
    assert!(
        left_running(&stack.dir.path().display().to_string())
            .iter()
            .all(|line| !line.contains("conversation "))
    );
}

#[tokio::test]
async fn a_stack_that_refuses_without_a_question_seems_to_ask_one() {
    skip_if_missing!();
    let dir = tempfile::tempdir().unwrap();
    let lines = "auth requisite pam_echo.so locked for ten minutes\nauth requisite pam_deny.so\naccount required pam_permit.so\n";
    let stack = start(&dir, lines, "throttle = false");
    let client = stack.client().await;
    // The text is held for a moment only; on a machine that stalls just then it is tried again.
    let mut talk = Talk::begin(&client, begin(USER, None)).await.unwrap();
    for _ in 0..4 {
        if talk.step.messages.is_empty() {
            break;
        }
        talk = Talk::begin(&client, begin(USER, None)).await.unwrap();
    }
    assert!(talk.step.messages.is_empty(), "text of a failing login is withheld: {:?}", talk.step);
    let LoginState::Waiting { prompts } = &talk.step.state else { panic!("{:?}", talk.step) };
    assert_eq!((prompts[0].text.as_str(), prompts[0].echo), ("Password: ", Echo::Off));
    talk.respond(&["anything"]).await.unwrap();
    assert!(
        matches!(talk.end().await, LoginState::Failed(fault) if fault.code == ErrorCode::AuthenticationFailed)
    );
}

#[tokio::test]
async fn a_made_up_question_times_out_like_a_real_one_and_silence_counts_as_no_failure() {
    skip_if_missing!();
    let dir = tempfile::tempdir().unwrap();
    let lines = "auth requisite pam_deny.so\naccount required pam_permit.so\n";
    let stack = start(&dir, lines, "step_deadline_seconds = 2");
    let client = stack.client().await;
    let mut silent = Vec::new();
    for _ in 0..4 {
        silent.push(Talk::begin(&client, begin(USER, None)).await.unwrap());
    }
    for mut talk in silent {
        while !matches!(talk.step.state, LoginState::Failed(_)) {
            talk.poll().await.unwrap();
        }
        let LoginState::Failed(fault) = talk.step.state else { unreachable!() };
        assert_eq!(fault.code, ErrorCode::AuthTimeout);
    }
    // Four wrong answers would have made the next wait.
    Talk::begin(&client, begin(USER, None)).await.unwrap();
}

#[tokio::test]
async fn a_module_that_hangs_costs_one_login_and_leaves_nothing() {
    skip_if_missing!();
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("hang");
    // Ignores SIGTERM, goes into a session of its own, and leaves a grandchild behind.
    fs::write(
        &script,
        "#!/bin/sh\ntrap '' TERM HUP\nsetsid sh -c \"sleep 987654\" &\nsleep 987654\n",
    )
    .unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let mark = dir.path().display().to_string();
    // `games` hangs, anybody else goes on to pam_matrix.
    let lines = format!(
        "auth required MATRIX\nauth [success=1 default=ignore] pam_succeed_if.so quiet user != {USER}\nauth required pam_exec.so quiet {}\naccount required pam_permit.so\n",
        script.display()
    );
    let stack = start(&dir, &lines, "throttle = false\nstep_deadline_seconds = 6");
    let client = stack.client().await;
    let (code, took) = login(&client, USER, "right").await;
    assert_eq!(code, "AUTH_TIMEOUT", "{}", stack.log());
    assert!(took < Duration::from_secs(20), "{took:?}");
    assert_eq!(left_running("sleep 987654"), Vec::<String>::new());
    assert_eq!(left_running(&format!("{mark}/hang")), Vec::<String>::new());
    // The next login gets its slots.
    assert_eq!(login(&client, "daemon", "wrong").await.0, "AUTHENTICATION_FAILED");
}

#[tokio::test]
async fn programs_end_when_authd_is_killed() {
    skip_if_missing!();
    let dir = tempfile::tempdir().unwrap();
    let mut stack = start(&dir, PLAIN, "throttle = false");
    let client = stack.client().await;
    let talk = Talk::begin(&client, begin(USER, None)).await.unwrap();
    assert!(matches!(talk.step.state, LoginState::Waiting { .. }));
    let mark = stack.path("pam.d").display().to_string();
    stack.kill();
    assert_eq!(left_running(&mark), Vec::<String>::new());
}

#[tokio::test]
async fn silent_conversations_do_not_stand_in_the_way() {
    skip_if_missing!();
    let dir = tempfile::tempdir().unwrap();
    let stack = start(&dir, PLAIN, "throttle = false");
    let client = stack.client().await;
    let mut silent = Vec::new();
    for number in 0..120_u8 {
        let mut login = begin(USER, None);
        login.source = Some(format!("198.51.100.{}", number / 2).parse().unwrap());
        silent.push(Talk::begin(&client, login).await.unwrap());
    }
    let (code, took) = login(&client, USER, "right").await;
    assert_eq!(code, "ok");
    assert!(took < Duration::from_secs(20), "{took:?}");
    let health = client.health(deadline(PATIENCE)).await.unwrap();
    let waiting =
        health.figures.iter().find(|(name, _)| name == "conversations_waiting").unwrap().1;
    assert!(waiting <= 64, "{waiting} wait");
    assert!(
        health.sandbox.closed && health.sandbox.network_denied && health.sandbox.no_new_privs,
        "{health:?}"
    );
    assert_eq!((health.sandbox.effective_capabilities, health.sandbox.seccomp), (0, 2));
}

#[tokio::test]
async fn the_throttle_delays_even_the_right_password() {
    skip_if_missing!();
    let dir = tempfile::tempdir().unwrap();
    let stack = start(&dir, PLAIN, "");
    let client = stack.client().await;
    for _ in 0..4 {
        assert_eq!(login(&client, USER, "wrong").await.0, "AUTHENTICATION_FAILED");
    }
    // Until the delay is longer than a busy machine may be silent between two calls.
    let mut delays = Vec::new();
    while delays.last().is_none_or(|delay| *delay < 7) {
        assert!(delays.len() < 20, "{delays:?}");
        let fault = match Talk::begin(&client, begin(USER, Some("wrong"))).await {
            Ok(talk) => {
                talk.end().await;
                continue;
            }
            Err(fault) => fault,
        };
        assert_eq!(fault.code, ErrorCode::TooManyAttempts);
        delays.push(fault.retry_after.unwrap());
        if let Some(delay @ ..7) = delays.last() {
            tokio::time::sleep(Duration::from_secs(u64::from(*delay))).await;
        }
    }
    assert!(delays.iter().all(|delay| (1..=16).contains(delay)), "{delays:?}");
    let fault = Talk::begin(&client, begin(USER, Some("right"))).await.err().unwrap();
    assert_eq!(fault.code, ErrorCode::TooManyAttempts);
}

#[tokio::test]
async fn guesses_at_once_meet_the_throttle_one_after_another() {
    skip_if_missing!();
    let dir = tempfile::tempdir().unwrap();
    let stack = start(&dir, PLAIN, "");
    let client = stack.client().await;
    let guesses = (0..12).map(|_| login(&client, USER, "wrong"));
    let codes: Vec<_> =
        futures::future::join_all(guesses).await.into_iter().map(|(code, _)| code).collect();
    let failed = codes.iter().filter(|code| *code == "AUTHENTICATION_FAILED").count();
    assert!(failed >= 4, "{codes:?}");
    assert!(codes.iter().any(|code| code == "TOO_MANY_ATTEMPTS"), "{codes:?}");
}

#[test]
fn authd_refuses_to_start_without_its_service_file() {
    skip_if_missing!();
    let services = [(
        "other-name",
        "auth required pam_permit.so\naccount required pam_permit.so\n".to_owned(),
    )];
    let setup = Setup { services: &services, config: "", ..stack::PLAIN };
    let log = Stack::start(&setup).err().unwrap();
    assert!(log.contains("pam.d/sdrest is missing"), "{log}");
}
