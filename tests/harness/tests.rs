//! The harness against the real programs: what every other suite takes for granted.

use crate::{
    Program, Stack,
    etc::{ALICE, BOB, service},
    is_root,
    processes::of_stack,
};
use nix::sys::signal::Signal;
use serde_json::json;
use std::time::Duration;

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";

#[test]
fn a_stack_signs_in_draws_and_leaves_nothing() {
    let mut stack = Stack::builder().auth_pam().start().unwrap();
    let (code, status) = stack.status().unwrap();
    assert_eq!(code, 0, "{status:#}");
    assert_eq!(stack.api().try_login(ALICE.name, "wrong").unwrap().code(), "AUTHENTICATION_FAILED");
    let alice = stack.api().login(ALICE.name, ALICE.password).unwrap();
    let id = alice
        .submit(&json!({ "prompt": "a red circle on a white background", "steps": 4, "seed": 1 }))
        .unwrap();
    let job = alice.wait(&id, Duration::from_secs(120)).unwrap();
    assert!(alice.picture(&job, 0).unwrap().starts_with(PNG));
    if is_root() {
        let bob = stack.api().login(BOB.name, BOB.password).unwrap();
        assert_eq!(
            bob.get(&format!("/api/v1/jobs/{id}")).unwrap().status,
            404,
            "bob sees alice's job"
        );
        let uids: Vec<u32> = [Program::Api, Program::Authd, Program::Worker]
            .map(|program| stack.process(program).unwrap().uid)
            .into();
        assert_eq!(uids, [60701, 60702, 60703], "each under its own user");
    }
    // It ends after its last word, on which the login was answered.
    stack
        .wait_until("no conversation program outlives its login", Duration::from_secs(30), || {
            stack.process(Program::Conversation).is_none().then_some(())
        })
        .unwrap();
    assert!(stack.stop().unwrap().success(), "{}", stack.log());
    assert!(!stack.log().contains(ALICE.password), "a password is in the log");
}

#[test]
fn a_killed_sdrestctl_takes_everything_with_it() {
    let mut stack = Stack::builder().pam_service(service::HANG).start().unwrap();
    let url = stack.url().to_owned();
    // The module hangs; the answer never comes.
    let login =
        std::thread::spawn(move || crate::Api::new(&url).try_login(ALICE.name, ALICE.password));
    let running = || {
        let inside = of_stack(stack.run_dir().parent()?);
        inside.iter().any(|process| process.command.iter().any(|word| word == "3600")).then_some(())
    };
    stack.wait_until("the module hangs", Duration::from_secs(30), running).unwrap();
    stack.kill(Program::Ctl, Signal::SIGKILL).unwrap();
    let status = stack.wait_end().unwrap();
    assert!(!status.success());
    let _ = login.join();
    // What died at once is started again on the same folders.
    stack.start_again().unwrap();
    stack.wait_healthy().unwrap();
    stack.stop().unwrap();
}

#[test]
fn an_accepted_job_outlives_the_end_of_everything() {
    let mut stack = Stack::builder().auth_none().start().unwrap();
    let body = json!({ "prompt": "a blue square on a white background", "steps": 60, "seed": 5 });
    let undisturbed = stack.api().submit(&body).unwrap();
    let undisturbed = stack.api().wait(&undisturbed, Duration::from_secs(120)).unwrap();
    let expected = stack.api().picture(&undisturbed, 0).unwrap();

    let jobs: Vec<String> = (0..3).map(|_| stack.api().submit(&body).unwrap()).collect();
    let worker = stack.kill(Program::Worker, Signal::SIGKILL).unwrap();
    stack.wait_for_new(Program::Worker, worker).unwrap();
    stack.kill(Program::Ctl, Signal::SIGKILL).unwrap();
    stack.wait_end().unwrap();
    stack.start_again().unwrap();
    for id in jobs {
        let job = stack.api().wait(&id, Duration::from_secs(180)).unwrap();
        assert_eq!(
            stack.api().picture(&job, 0).unwrap(),
            expected,
            "the bytes of an undisturbed run"
        );
    }
    stack.stop().unwrap();
}

#[test]
fn the_hosts_accounts_are_out_of_sight() {
    let before = std::fs::read_to_string("/etc/passwd").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let etc = crate::PrivateEtc::make(dir.path()).unwrap();
    let inside =
        etc.command("sh").args(["-c", "cat /etc/passwd; echo x >> /etc/passwd"]).output().unwrap();
    let inside = String::from_utf8_lossy(&inside.stdout);
    assert!(inside.contains("alice:") && inside.contains("sdrest-authd:"), "{inside}");
    assert_eq!(
        std::fs::read_to_string("/etc/passwd").unwrap(),
        before,
        "the host's /etc was written"
    );
}
