//! Every way in which a login ends, through real pam_unix: the right code, within its deadline, no process left
//! behind, and the next login works.

use crate::alone;
use anyhow::{Result, ensure};
use harness::{
    Program, Stack,
    etc::{ALICE, BOB, EXPIRED, LOCKED, MUST_CHANGE, SYSTEM},
    is_root, skip,
};
use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

/// Short deadlines, and a module that hangs for bob alone: it calls setsid and ignores SIGTERM.
fn with_a_module_that_hangs_for_bob(etc: &Path) -> Result<()> {
    fs::create_dir_all(etc.join("sdrest"))?;
    fs::write(
        etc.join("sdrest/sdrest.toml"),
        "[authd]\nstep_deadline_seconds = 5\ntotal_deadline_seconds = 6\nfailure_floor_ms = 300\n",
    )?;
    fs::write(
        etc.join("pam.d/sdrest-hang-for-bob"),
        "auth [success=1 default=ignore] pam_succeed_if.so quiet user != bob\n\
         auth required pam_exec.so quiet /etc/sdrest-test/hang\n\
         auth required pam_unix.so nodelay\naccount required pam_unix.so\n",
    )?;
    Ok(())
}

fn stack() -> Result<Stack> {
    Stack::builder()
        .pam_service("sdrest-hang-for-bob")
        .edit_etc(with_a_module_that_hangs_for_bob)
        .start()
}

fn nothing_of_a_login_is_left(stack: &Stack) -> Result<()> {
    stack.wait_until("the conversation is over", Duration::from_secs(30), || {
        let left = stack.processes().into_iter().any(|process| {
            process.is(Program::Conversation)
                || process.command.iter().any(|word| word.contains("sdrest-test/hang"))
        });
        (!left).then_some(())
    })
}

fn alice_still_signs_in(stack: &Stack) -> Result<()> {
    // A throttle may ask alice's neighbours to wait, never her after her own good password.
    let me = stack.api().login(ALICE.name, ALICE.password)?.get("/api/v1/auth/me")?.expect(200)?;
    ensure!(me["user"]["username"] == "alice" || me["username"] == "alice", "not alice: {me}");
    nothing_of_a_login_is_left(stack)
}

#[test]
fn each_account_state_ends_with_its_code() -> Result<()> {
    if !is_root() {
        skip("without root PAM can check one account only");
        return Ok(());
    }
    let _alone = alone();
    let mut stack = stack()?;
    let mut messages = Vec::new();
    for (name, password, status, code) in [
        (ALICE.name, "not her password", 401, "AUTHENTICATION_FAILED"),
        ("nobody-knows-me", "whatever", 401, "AUTHENTICATION_FAILED"),
        (LOCKED.name, LOCKED.password, 401, "AUTHENTICATION_FAILED"),
        (SYSTEM.name, SYSTEM.password, 401, "AUTHENTICATION_FAILED"),
        ("root", "whatever", 401, "AUTHENTICATION_FAILED"),
        (EXPIRED.name, "not the password", 401, "AUTHENTICATION_FAILED"),
        (EXPIRED.name, EXPIRED.password, 403, "ACCOUNT_EXPIRED"),
        (MUST_CHANGE.name, MUST_CHANGE.password, 403, "CREDENTIAL_EXPIRED"),
        (BOB.name, "", 400, "MISSING_PASSWORD"),
    ] {
        let answer =
            stack.wait_until("the throttle lets it through", Duration::from_secs(60), || {
                stack.api().try_login(name, password).ok().filter(|answer| answer.status != 429)
            })?;
        ensure!(
            (answer.status, answer.code().as_str()) == (status, code),
            "{name} with {password:?}: expected {status} {code}, got {} {}",
            answer.status,
            String::from_utf8_lossy(&answer.bytes)
        );
        if code == "AUTHENTICATION_FAILED" {
            messages.push(answer.json()?["error"]["message"].clone());
        }
        nothing_of_a_login_is_left(&stack)?;
    }
    messages.dedup();
    ensure!(messages.len() == 1, "failures must read alike: {messages:?}");
    alice_still_signs_in(&stack)?;
    stack.stop()?;
    Ok(())
}

#[test]
fn a_hanging_module_costs_one_login_and_leaves_nothing() -> Result<()> {
    if !is_root() {
        skip("without root PAM can check one account only");
        return Ok(());
    }
    let _alone = alone();
    let mut stack = stack()?;
    let begun = Instant::now();
    let answer = stack.api().try_login(BOB.name, BOB.password)?;
    ensure!(
        (answer.status, answer.code().as_str()) == (504, "AUTH_TIMEOUT"),
        "got {} {}",
        answer.status,
        String::from_utf8_lossy(&answer.bytes)
    );
    ensure!(begun.elapsed() < Duration::from_secs(20), "it took {:?}", begun.elapsed());
    nothing_of_a_login_is_left(&stack)?;
    alice_still_signs_in(&stack)?;
    stack.stop()?;
    Ok(())
}

#[test]
fn a_missing_service_file_stops_the_start_and_is_named() -> Result<()> {
    let _alone = alone();
    let error =
        Stack::builder().pam_service("no-such-service").start().expect_err("it must not start");
    let text = format!("{error:#}");
    ensure!(text.contains("no-such-service"), "{text}");
    Ok(())
}

#[test]
fn a_password_is_not_in_the_log() -> Result<()> {
    let _alone = alone();
    let mut stack = Stack::builder().auth_pam().argument("--verbose").start()?;
    stack.api().login(ALICE.name, ALICE.password)?;
    stack.api().try_login(ALICE.name, "sentinel-of-a-wrong-password")?;
    stack.stop()?;
    let log = stack.log();
    ensure!(!log.is_empty(), "there is no log");
    for secret in [ALICE.password, "sentinel-of-a-wrong-password"] {
        ensure!(!log.contains(secret), "the log holds a password");
    }
    Ok(())
}
