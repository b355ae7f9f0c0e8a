//! The first frames that are a question and no login, in a build with PAM and in one without. The test plays authd over
//! a socket pair and reads nothing but the host's list of accounts.
#![allow(clippy::unwrap_used, reason = "a test fails by its panic")]

use sdrest_proto::{
    conversation::{
        AccountKey, AccountQuery, Denial, FromConversation, Purpose, Start, ToConversation,
        Verdict, read_frame, write_frame,
    },
    secret::Answer,
};
use std::{
    os::{fd::OwnedFd, unix::net::UnixStream},
    process::{Command, Stdio},
};

const PAM: bool = cfg!(feature = "pam");
/// An account that every Linux has, and that is not root or nobody.
const USER: &str = "games";

/// The one answer, or nothing where the program ends without one.
fn ask(flags: &[&str], frame: &ToConversation) -> Option<FromConversation> {
    let (mut stream, other) = UnixStream::pair().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_sdrest-conversation"))
        .args(["--authd-user", &nix::unistd::geteuid().to_string()])
        .args(flags)
        .stdin(OwnedFd::from(other))
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    write_frame(&mut stream, frame).unwrap();
    let answer = read_frame(&mut stream).ok();
    let ended = child.wait().unwrap();
    assert_eq!(ended.success(), answer.is_some());
    answer
}

fn account(who: AccountKey, service: Option<&str>) -> ToConversation {
    let service = service.map(str::to_owned);
    ToConversation::Account(AccountQuery { who, service, deadline_ms: 5000 })
}

fn denial(answer: Option<FromConversation>) -> Denial {
    match answer {
        Some(FromConversation::Verdict(Verdict::Denied { denial, .. })) => denial,
        other => panic!("{other:?} is no denial"),
    }
}

#[test]
fn a_probe_says_whether_pam_is_built_in() {
    let Some(FromConversation::Probed { fault: None, pam }) =
        ask(&[], &ToConversation::Probe { service: None })
    else {
        panic!("the program runs")
    };
    assert_eq!(pam, PAM);
    let with_service = ToConversation::Probe { service: Some("sdrest-not-there".to_owned()) };
    let Some(FromConversation::Probed { fault: Some(fault), pam }) = ask(&[], &with_service) else {
        panic!("there is no such service")
    };
    assert_eq!(pam, PAM);
    assert!(fault.contains(if PAM { "missing" } else { "built without" }), "{fault}");
}

#[test]
fn internal_passwords_need_no_pam() {
    let password = || Answer::new("correct horse".to_owned());
    let Some(FromConversation::Hashed { phc }) =
        ask(&[], &ToConversation::Hash { password: password() })
    else {
        panic!("a record")
    };
    for (text, expected) in [("correct horse", true), ("correct hors", false), ("", false)] {
        let frame =
            ToConversation::Verify { phc: phc.clone(), password: Answer::new(text.to_owned()) };
        let Some(FromConversation::Compared { matches }) = ask(&[], &frame) else {
            panic!("{text}")
        };
        assert_eq!(matches, expected, "{text:?}");
    }
    assert!(ask(&[], &ToConversation::Hash { password: Answer::new(String::new()) }).is_none());
}

#[test]
fn accounts_need_no_pam_and_their_service_does() {
    let name = |name: &str| AccountKey::Name(name.to_owned());
    let answer = ask(&["--min-uid", "1"], &account(name(USER), None));
    let Some(FromConversation::Verdict(Verdict::Verified(facts))) = answer else {
        panic!("{answer:?}")
    };
    assert_eq!(facts.username, USER);
    let by_uid = ask(&["--min-uid", "1"], &account(AccountKey::Uid(facts.uid), None));
    assert!(
        matches!(by_uid, Some(FromConversation::Verdict(Verdict::Verified(same))) if same == facts)
    );
    assert_eq!(denial(ask(&[], &account(name("root"), None))), Denial::AcctDenied);
    assert_eq!(denial(ask(&[], &account(name("no-such-account-here"), None))), Denial::AcctDenied);
    let managed = account(name(USER), Some("sdrest-not-there"));
    assert_eq!(denial(ask(&["--min-uid", "1"], &managed)), Denial::Unavailable);
}

#[test]
fn a_login_or_a_change_that_cannot_run_is_unavailable() {
    for purpose in [Purpose::SignIn, Purpose::ChangeExpired] {
        let start = ToConversation::Start(Start {
            service: "sdrest-not-there".to_owned(),
            username: USER.to_owned(),
            rhost: None,
            step_deadline_ms: 1000,
            total_deadline_ms: 5000,
            purpose,
        });
        assert_eq!(denial(ask(&["--min-uid", "1"], &start)), Denial::Unavailable);
    }
}
