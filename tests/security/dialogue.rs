//! Prompts, texts and answers of every order, number and size.

use crate::{
    place::{Place, hostile},
    talk::{Launch, Talk, login, sign_in},
};
use harness::etc::{ALICE, BOB, service};
use sdrest_proto::conversation::{MAX_TEXT, Verdict};

const CODES: [&str; 3] = service::ONE_TIME_CODES;
const OATH: &str =
    "auth required pam_oath.so usersfile=/etc/sdrest-test/users.oath window=10 digits=6\n";
const UNIX: &str = "auth required pam_unix.so nodelay\n";
const ACCOUNT: &str = "account required pam_unix.so\n";

fn serve_hostile(place: &Place, modes: &[&str]) -> bool {
    let Some(module) = hostile() else { return false };
    for mode in modes {
        let line =
            format!("auth required {} {mode}\naccount required pam_permit.so\n", module.display());
        place.service(mode, &line);
    }
    true
}

fn oath_is_here() -> bool {
    let here = std::path::Path::new("/usr/lib/x86_64-linux-gnu/security/pam_oath.so").exists();
    if !here {
        harness::skip("pam_oath is not installed (Debian package libpam-oath)");
    }
    here
}

/// cockpit gives the typed password to the first hidden prompt, whatever that asks; himmelblau had to work around it.
#[test]
fn replay_06_himmelblau_mfa_prompts_come_in_their_own_order_and_each_gets_its_answer() {
    let Some(place) = Place::new() else { return };
    if oath_is_here() {
        place.write("sdrest-test/users.oath", service::ONE_TIME_USERS);
        place.service("password-code", &format!("{UNIX}{OATH}{ACCOUNT}"));
        place.service("code-password", &format!("{OATH}{UNIX}{ACCOUNT}"));
        let first = login(&place, "password-code", ALICE.name, &[ALICE.password, CODES[0]]);
        assert_eq!(first.end, "ok", "{first:?}");
        assert!(first.prompts[0].contains("Password") && first.prompts[1].contains("One-time"));
        // The same code again is a replay; the password in the code's place is no code.
        assert_eq!(
            login(&place, "password-code", ALICE.name, &[ALICE.password, CODES[0]]).end,
            "AuthErr"
        );
        let turned = login(&place, "code-password", ALICE.name, &[CODES[1], ALICE.password]);
        assert_eq!(turned.end, "ok", "{turned:?}");
        assert!(turned.prompts[0].contains("One-time") && turned.prompts[1].contains("Password"));
        assert_eq!(
            login(&place, "code-password", ALICE.name, &[ALICE.password, CODES[2]]).end,
            "AuthErr"
        );
    }
    let info = login(&place, service::INFO, ALICE.name, &[ALICE.password]);
    assert_eq!(
        (info.end.as_str(), info.texts.len()),
        ("ok", 1),
        "text before the prompt: {info:?}"
    );
    place.service("silent", "auth required pam_permit.so\naccount required pam_permit.so\n");
    let none = login(&place, "silent", ALICE.name, &[]);
    assert_eq!((none.end.as_str(), none.prompts.len()), ("ok", 0));
    if serve_hostile(&place, &["steps"]) {
        let steps = login(&place, "steps", ALICE.name, &["1", "2", "3"]);
        assert_eq!(
            (steps.end.as_str(), steps.prompts),
            ("ok", vec!["one: ".into(), "two: ".into(), "three: ".into()])
        );
        assert_eq!(steps.texts, ["an error that is none"], "an error text is not yet a failure");
    }
}

/// CVE-2016-6515: a password of megabytes kept OpenSSH's crypt busy. Here what a module cannot take ends the login.
#[test]
fn replay_08_cve_2016_6515_answers_of_every_size_and_content() {
    let Some(place) = Place::new() else { return };
    let long = "x".repeat(100_000);
    let (fits, over) = (&long[..511], &long[..512]);
    for answer in
        ["", "\r", "\n", fits, over, &long, "nul\0nul", "correct horse 1\0", "correct horse 1\r"]
    {
        let seen = login(&place, service::PLAIN, ALICE.name, &[answer]);
        assert_eq!(seen.end, "AuthErr", "{} bytes", answer.len());
    }
    let hash = place.run_with("openssl", &["passwd", "-6", "-stdin"], fits);
    assert!(hash.0, "{}", hash.1);
    // crypt(3) itself takes at most 511.
    place.account("long", 3002, hash.1.trim());
    let seen = login(&place, service::PLAIN, "long", &[fits]);
    assert!(["ok", "AuthErr"].contains(&seen.end.as_str()), "{seen:?}");
}

#[test]
fn replay_07_styles_that_nobody_could_answer_and_floods_of_text_end_the_login_or_are_cut() {
    let Some(place) = Place::new() else { return };
    if !serve_hostile(&place, &["binary", "radio", "flood"]) {
        return;
    }
    assert_eq!(login(&place, "binary", ALICE.name, &["x"]).end, "AuthErr");
    assert_eq!(login(&place, "radio", ALICE.name, &["yes"]).end, "ok");
    let flood = login(&place, "flood", ALICE.name, &[]);
    assert_eq!(flood.end, "ok");
    assert!(flood.texts.iter().all(|text| text.len() <= MAX_TEXT));
    let total: usize = flood.texts.iter().map(String::len).sum();
    assert!(total <= 64 * 1024, "40 texts of 100 kB came through as {total} bytes");
}

/// OpenSSH asked ten thousand times in one connection.
#[test]
fn replay_14_cve_2015_5600_a_login_does_not_ask_for_ever() {
    let Some(place) = Place::new() else { return };
    if !serve_hostile(&place, &["forever"]) {
        return;
    }
    let seen = login(&place, "forever", ALICE.name, &["x"; 1000]);
    assert_eq!((seen.end.as_str(), seen.prompts.len()), ("AuthErr", 64));
}

/// Two conversations at once: one process each, so that nobody's answer reaches the other's module.
#[test]
fn replay_20_cve_2015_6563_two_logins_at_once_do_not_mix() {
    let Some(place) = Place::new() else { return };
    let begin = |user: &str| Talk::whole(&place, Launch::default(), &sign_in(service::PLAIN, user));
    let (mut one, mut two, mut other) = (begin(ALICE.name), begin(ALICE.name), begin(BOB.name));
    for talk in [&mut one, &mut two, &mut other] {
        assert_eq!(talk.prompted().len(), 1);
    }
    // bob's password in alice's conversation opens nothing; alice's second conversation is not disturbed.
    one.answer(&[BOB.password]);
    other.answer(&[ALICE.password]);
    two.answer(&[ALICE.password]);
    assert_eq!(other.go(&[]).end, "AuthErr");
    assert_eq!(one.go(&[]).end, "AuthErr");
    let Some(Verdict::Verified(facts)) = two.go(&[]).verdict else { panic!("alice's own") };
    assert_eq!(facts.uid, ALICE.uid);
}
