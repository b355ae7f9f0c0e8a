//! Expired passwords: changed only as the continuation of the login that found them so, with real pam_unix.

use crate::{
    place::{Place, hostile},
    talk::{Launch, Talk, change, login, start},
};
use harness::etc::{ALICE, BOB, EXPIRED, MUST_CHANGE, service};
use sdrest_proto::conversation::{Purpose, Verdict};

const OLD: &str = MUST_CHANGE.password;
const NEW: &str = "a fresh Pass 77";
const USER: &str = MUST_CHANGE.name;

/// Who ends as what in a login with this password, over the shipped service file.
fn end(place: &Place, password: &str) -> String {
    login(place, service::SHIPPED, USER, &[password]).end
}

#[test]
fn replay_12_the_expired_password_is_changed_and_only_the_new_one_opens() {
    let Some(place) = Place::new() else { return };
    assert_eq!(end(&place, OLD), "NewAuthtokReqd");
    let before = place.read("shadow");
    let seen = change(&place, service::SHIPPED, USER, &[OLD, OLD, NEW, NEW]);
    let Some(Verdict::Verified(facts)) = &seen.verdict else { panic!("{seen:?}") };
    assert_eq!((facts.username.as_str(), facts.uid), (USER, MUST_CHANGE.uid));
    assert_eq!((end(&place, NEW).as_str(), end(&place, OLD).as_str()), ("ok", "AuthErr"));
    let after = place.read("shadow");
    let others = |text: &str| -> Vec<String> {
        text.lines().filter(|line| !line.starts_with(USER)).map(str::to_owned).collect()
    };
    assert_eq!(others(&before), others(&after), "nobody else's line is touched");
    let line = after.lines().find(|line| line.starts_with(USER)).unwrap();
    assert!(line.contains(":$y$"), "stored with yescrypt: {line}");
    // Nothing is left to be changed: the same verb is now an ordinary login.
    assert_eq!(change(&place, service::SHIPPED, USER, &[NEW]).end, "ok");
}

#[test]
fn replay_12_old_weak_and_mistyped_passwords_are_refused_and_the_old_one_stays() {
    let Some(place) = Place::new() else { return };
    for (what, answers) in [
        ("the same as before", vec![OLD, OLD, OLD, OLD, OLD, OLD, OLD, OLD, OLD, OLD]),
        ("too short, three times", vec![OLD, OLD, "a", "a", OLD, "b", "b", OLD, "c", "c"]),
        ("mistyped", vec![OLD, OLD, NEW, "another Pass 78", OLD, NEW, "x", OLD, NEW, "y"]),
        ("the old one wrong", vec![OLD, "wrong", "wrong", "wrong", "wrong"]),
        ("empty", vec![OLD, OLD, "", "", OLD, "", "", OLD, "", ""]),
    ] {
        let before = place.read("shadow");
        let seen = change(&place, service::SHIPPED, USER, &answers);
        assert_ne!(seen.end, "ok", "{what}: {seen:?}");
        // At most three tries, each at most the old, the new and the new again.
        assert!(seen.prompts.len() <= 1 + 3 * 6, "{what}: {seen:?}");
        assert_eq!(before, place.read("shadow"), "{what}");
        assert_eq!(end(&place, OLD), "NewAuthtokReqd", "{what}");
    }
}

#[test]
fn replay_12_whoever_walks_away_in_the_middle_keeps_the_old_password() {
    let Some(place) = Place::new() else { return };
    for answers in [&[OLD][..], &[OLD, OLD], &[OLD, OLD, NEW]] {
        let before = place.read("shadow");
        let seen = change(&place, service::SHIPPED, USER, answers);
        assert_eq!(seen.end, "unanswered", "{seen:?}");
        assert_eq!(before, place.read("shadow"));
        assert_eq!(end(&place, OLD), "NewAuthtokReqd");
    }
    assert_eq!(
        change(&place, service::SHIPPED, USER, &[OLD, OLD, NEW, NEW]).end,
        "ok",
        "no lock is left"
    );
}

#[test]
fn only_a_program_started_for_it_changes_passwords_and_only_expired_ones() {
    let Some(place) = Place::new() else { return };
    let Some(module) = hostile() else { return };
    let module = module.display();
    let first = start(service::SHIPPED, USER, Purpose::ChangeExpired);
    let refused = Talk::whole(&place, Launch::default(), &first).go(&[OLD, OLD, NEW, NEW]);
    assert_eq!((refused.end.as_str(), refused.prompts.len()), ("Unavailable", 0));
    let before = place.read("shadow");
    // A wrong password, a password that is not expired, an account that is, root.
    place.edit("shadow", |text| text.replace("root:*:19000", "root:$6$x$x:0"));
    let with_root = place.read("shadow");
    for (user, password, expected) in [
        (USER, "wrong", "AuthErr"),
        (ALICE.name, ALICE.password, "ok"),
        (EXPIRED.name, EXPIRED.password, "AcctExpired"),
        ("root", "x", "AuthErr"),
    ] {
        let seen = change(&place, service::SHIPPED, user, &[password]);
        assert_eq!((seen.end.as_str(), seen.prompts.len()), (expected, 1), "{user}");
    }
    assert_eq!(with_root, place.read("shadow"));
    place.edit("shadow", |_| before.clone());
    // Modules that try to have chauthtok called for root, a system account, or somebody else.
    for (service, auth, account) in [
        ("as-root", "become root", "change"),
        ("as-system", "become systemuser", "change"),
        ("as-other", "ok", "change-another bob"),
    ] {
        place.service(
            service,
            &format!("auth required {module} {auth}\naccount required {module} {account}\npassword required {module}\n"),
        );
        assert_eq!(change(&place, service, ALICE.name, &[]).end, "AuthErr", "{service}");
        assert_eq!(place.read("sdrest-test/chauthtok"), "", "{service} reached chauthtok");
    }
    // Without `password` lines libpam would take those of `other`.
    place.service(
        "no-password",
        "auth required pam_unix.so nodelay\naccount required pam_unix.so\n",
    );
    assert_eq!(change(&place, "no-password", USER, &[OLD]).end, "Unavailable");
    assert_eq!(login(&place, service::SHIPPED, BOB.name, &[BOB.password]).end, "ok");
}

/// A module that refuses every new password meets three tries, and one whose question nobody answers meets one.
#[test]
fn replay_13_three_tries_for_a_new_password_and_no_more() {
    let Some(place) = Place::new() else { return };
    let Some(module) = hostile() else { return };
    let module = module.display();
    place.service(
        "again",
        &format!("auth required {module}\naccount required {module} change\npassword required {module} again\n"),
    );
    let seen = change(&place, "again", ALICE.name, &["x"; 20]);
    assert_eq!((seen.end.as_str(), seen.prompts.len()), ("NewAuthtokReqd", 3));
    assert_eq!(change(&place, "again", ALICE.name, &[]).prompts.len(), 1);
}
