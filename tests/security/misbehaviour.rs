//! Modules that hang, crash, refuse or stay, and people who do not answer or walk away.

use crate::{
    place::{Place, hostile},
    talk::{Launch, Talk, login, sign_in, start},
};
use harness::etc::{ALICE, service};
use sdrest_proto::conversation::{Purpose, Start, ToConversation};
use std::{
    fs,
    time::{Duration, Instant},
};

fn start_within(service: &str, step_ms: u32, total_ms: u32) -> ToConversation {
    let ToConversation::Start(start) = sign_in(service, ALICE.name) else { unreachable!() };
    ToConversation::Start(Start { step_deadline_ms: step_ms, total_deadline_ms: total_ms, ..start })
}

fn stack(place: &Place, name: &str, auth: &str, account: &str) -> bool {
    let Some(module) = hostile() else { return false };
    let module = module.display();
    let password = "password required pam_deny.so\n";
    place.service(
        name,
        &format!("auth required {module} {auth}\naccount required {module} {account}\n{password}"),
    );
    true
}

/// Processes that still see this /etc.
fn left(place: &Place) -> usize {
    harness::processes::of_stack(place.etc.folder().parent().unwrap()).len()
}

#[test]
fn replay_09_a_module_that_hangs_in_any_phase_and_ignores_sigterm_is_ended() {
    let Some(place) = Place::new() else { return };
    for (name, auth, account) in [("hang-auth", "hang", "ok"), ("hang-account", "ok", "hang")] {
        if !stack(&place, name, auth, account) {
            return;
        }
        let mut talk = Talk::whole(&place, Launch::default(), &start_within(name, 500, 1000));
        assert_eq!(talk.go(&[]).end, "gone", "{name}");
        let (status, log) = talk.ended();
        assert!(!status.success() && log.contains("deadline"), "{name}: {log}");
    }
    let module = hostile().unwrap().display();
    place.service(
        "hang-chauthtok",
        &format!("auth required {module}\naccount required {module} change\npassword required {module} hang\n"),
    );
    let launch = Launch { flags: &["--change-expired"], wrapper: &[] };
    let hung = || place.read("sdrest-test/chauthtok").contains("update");
    // As long as the machine needs to get there.
    for total_deadline_ms in [1000, 5000, 25_000] {
        let ToConversation::Start(begin) =
            start("hang-chauthtok", ALICE.name, Purpose::ChangeExpired)
        else {
            unreachable!()
        };
        let begin = ToConversation::Start(Start { total_deadline_ms, ..begin });
        let mut talk = Talk::whole(&place, launch, &begin);
        assert_eq!(talk.go(&[]).end, "gone");
        assert!(!talk.ended().0.success());
        if hung() {
            break;
        }
    }
    assert!(hung(), "it hung where it was to hang");
    // pam_exec's program calls setsid and ignores SIGTERM; its child goes too.
    let mut talk = Talk::whole(&place, Launch::default(), &start_within(service::HANG, 500, 1000));
    assert_eq!(talk.go(&[ALICE.password]).end, "gone");
    talk.ended();
    assert_eq!(left(&place), 0);
}

/// OpenSSH takes a child that crashes as an attack; here it is one login without a verdict.
#[test]
fn replay_10_a_module_that_crashes_leaves_or_becomes_another_program_vouches_for_nobody() {
    let Some(place) = Place::new() else { return };
    for (name, auth, account) in [
        ("abort", "abort", "ok"),
        ("segv", "segv", "ok"),
        ("exit", "exit", "ok"),
        ("exec", "exec", "ok"),
        ("close", "close", "ok"),
        ("abort-account", "ok", "abort"),
    ] {
        if !stack(&place, name, auth, account) {
            return;
        }
        let mut talk = Talk::whole(&place, Launch::default(), &sign_in(name, ALICE.name));
        assert_eq!(talk.go(&[]).end, "gone", "{name}");
        talk.ended();
        let cores = fs::read_dir(place.etc.folder()).unwrap().flatten();
        assert!(
            cores.filter(|file| file.file_name().to_string_lossy().starts_with("core")).count()
                == 0
        );
    }
    assert_eq!(left(&place), 0);
}

/// Linux-PAM says PAM_MAXTRIES where no further try is wanted: there is one try in a login, and no other.
#[test]
fn replay_13_pam_maxtries_is_a_failure_and_the_password_is_not_asked_again() {
    let Some(place) = Place::new() else { return };
    if !stack(&place, "maxtries", "maxtries", "ok") {
        return;
    }
    let seen = login(&place, "maxtries", ALICE.name, &["one", "two"]);
    assert_eq!((seen.end.as_str(), seen.prompts.len()), ("AuthErr", 1));
    let plain = login(&place, service::PLAIN, ALICE.name, &["wrong", ALICE.password]);
    assert_eq!((plain.end.as_str(), plain.prompts.len()), ("AuthErr", 1));
}

/// sudo-rs showed on the terminal, at the timeout, what had been typed so far.
#[test]
fn replay_16_ghsa_q428_6v73_fc4q_a_timeout_ends_without_a_word_of_what_was_typed() {
    let Some(place) = Place::new() else { return };
    if !stack(&place, "steps", "steps", "ok") {
        return;
    }
    let sentinel = "sentinel-4711-password";
    let mut talk = Talk::whole(&place, Launch::default(), &start_within("steps", 20_000, 20_000));
    talk.prompted();
    talk.answer(&[sentinel]);
    assert_eq!(talk.go(&[sentinel]).end, "unanswered");
    let (_, log) = talk.ended();
    assert!(!log.contains(sentinel), "{log}");
    let mut talk = Talk::whole(&place, Launch::default(), &start_within("steps", 1500, 20_000));
    talk.prompted();
    assert!(talk.hear().is_err(), "nobody answers: the program is gone, and says nothing");
    let (status, log) = talk.ended();
    // The clock's thread and the module's both notice; either may be the one that ends the process.
    assert!(!status.success() && !log.contains("sentinel"), "{log}");
}

/// In sudo-rs, zero tries meant any number of tries.
#[test]
fn replay_18_sudo_rs_1313_a_deadline_of_zero_is_no_time_at_all() {
    let Some(place) = Place::new() else { return };
    for (step, total) in [(0, 20_000), (20_000, 0), (0, 0)] {
        let mut talk =
            Talk::whole(&place, Launch::default(), &start_within(service::PLAIN, step, total));
        let began = Instant::now();
        while talk.hear().is_ok() {}
        talk.ended();
        assert!(began.elapsed() < Duration::from_secs(10), "{step} {total}");
    }
}

#[test]
fn replay_22_somebody_who_walks_away_leaves_no_process_behind() {
    let Some(place) = Place::new() else { return };
    let descriptors = || fs::read_dir("/proc/self/fd").unwrap().count();
    let before = descriptors();
    for round in 0..40 {
        let name = if round % 2 == 0 { service::PLAIN } else { service::HANG };
        let mut talk = Talk::whole(&place, Launch::default(), &sign_in(name, ALICE.name));
        if name == service::PLAIN {
            talk.prompted();
        }
        talk.hang_up();
        let (status, log) = talk.ended();
        assert!(!status.success() || log.is_empty(), "{log}");
    }
    assert_eq!(left(&place), 0);
    // Other tests of this process open and close files of their own meanwhile.
    assert!(descriptors() < before + 30, "{before} descriptors became {}", descriptors());
}
