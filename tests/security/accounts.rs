//! Who gets in at all: blank passwords, missing and empty service files, account states, the account query.

use crate::{
    place::{Place, hostile},
    talk::{Launch, Seen, Talk, account, login},
};
use harness::etc::{ALICE, BOB, EXPIRED, LOCKED, MUST_CHANGE, SYSTEM, service};
use sdrest_proto::conversation::{AccountKey, FromConversation, ToConversation, Verdict};

const NULLOK: &str = "auth required pam_unix.so nodelay nullok\naccount required pam_unix.so\n";

/// pam_unix 1.5.0 compared an unknown user's password with root's, and let everybody in where root's was blank.
#[test]
fn replay_01_cve_2020_27780_a_blank_root_password_opens_no_unknown_account() {
    let Some(place) = Place::new() else { return };
    place.edit("shadow", |text| text.replace("root:*:", "root::"));
    place.service("nullok", NULLOK);
    for service in [service::SHIPPED, "nullok"] {
        for user in ["nobody-here", "root"] {
            for password in ["", "x", "root"] {
                assert_eq!(login(&place, service, user, &[password]).end, "AuthErr", "{user}");
            }
        }
    }
}

/// The guide's service file has `nullok_secure`: an account without a password is then open to the network.
#[test]
fn replay_02_guide_nullok_secure_an_account_without_a_password_stays_shut() {
    let Some(place) = Place::new() else { return };
    place.account("blank", 3001, "");
    place.service("nullok", NULLOK);
    place.service("guide", &NULLOK.replace("nullok", "try_first_pass nullok_secure"));
    for service in [service::SHIPPED, "nullok", "guide"] {
        for password in ["", "x"] {
            assert_eq!(login(&place, service, "blank", &[password]).end, "AuthErr", "{service}");
        }
    }
}

/// libpam falls back to the service `other`, which lets everybody in here, where a service or one of its phases is
/// missing; an administrator lost the content of such a file in cockpit's issue 17104.
#[test]
fn replay_03_cockpit_17104_a_lost_or_empty_service_file_lets_nobody_in() {
    let Some(place) = Place::new() else { return };
    place.service("other", "auth required pam_permit.so\naccount required pam_permit.so\n");
    place.service("empty", "");
    place.service("comment", "# auth required pam_unix.so\n");
    place.service("half", "auth required pam_permit.so\n");
    place.service("garbage", "auth\n\u{1}\u{2} required\n");
    for service in ["gone", "empty", "comment", "half", "garbage", "../pam.d/other", ""] {
        let seen = login(&place, service, ALICE.name, &[]);
        assert_eq!(seen.end, "Unavailable", "{service}");
        let probe = ToConversation::Probe { service: Some(service.to_owned()) };
        let mut talk = Talk::whole(&place, Launch::default(), &probe);
        let Ok(FromConversation::Probed { fault: Some(fault), pam: true }) = talk.hear() else {
            panic!("{service} must have a fault")
        };
        assert!(fault.contains("service") || fault.contains("/etc/pam.d/garbage"), "{fault}");
    }
    let probe = ToConversation::Probe { service: None };
    let mut talk = Talk::whole(&place, Launch::default(), &probe);
    assert!(matches!(talk.hear(), Ok(FromConversation::Probed { fault: None, pam: true })));
}

/// cockpit's testExpired and issues 17760 and 4993: each state has its word, but only after the right password.
#[test]
fn replay_11_cockpit_17760_account_states_are_told_only_after_the_right_password() {
    let Some(place) = Place::new() else { return };
    for (user, expected) in [
        (ALICE, "ok"),
        (EXPIRED, "AcctExpired"),
        (MUST_CHANGE, "NewAuthtokReqd"),
        (LOCKED, "AuthErr"),
        (SYSTEM, "AuthErr"),
    ] {
        let right = login(&place, service::SHIPPED, user.name, &[user.password]);
        assert_eq!(right.end, expected, "{}", user.name);
        let wrong = login(&place, service::SHIPPED, user.name, &["wrong"]);
        assert_eq!(wrong.end, "AuthErr", "{}", user.name);
        assert_eq!(wrong.texts, Vec::<String>::new(), "{}", user.name);
    }
}

/// The crate `users` put root into every list of groups.
#[test]
fn replay_59_cve_2025_5791_nobody_is_in_the_group_root_unasked() {
    let Some(place) = Place::new() else { return };
    place.edit("group", |text| format!("{text}gpu:x:3100:alice,bob\n"));
    let seen = login(&place, service::SHIPPED, ALICE.name, &[ALICE.password]);
    let Some(Verdict::Verified(facts)) = seen.verdict else { panic!("{seen:?}") };
    assert_eq!(facts.groups, ["alice", "gpu"]);
    assert_eq!((facts.uid, facts.gid), (ALICE.uid, ALICE.uid));
}

fn asked(place: &Place, who: AccountKey, service: Option<&str>, flags: &[&str]) -> Seen {
    let launch = Launch { flags, wrapper: &[] };
    Talk::whole(place, launch, &account(who, service)).go(&[])
}

#[test]
fn an_account_is_found_by_name_and_number_and_under_the_policy() {
    let Some(place) = Place::new() else { return };
    let name = |user: &str| AccountKey::Name(user.to_owned());
    for (who, flags, expected) in [
        (name("alice"), &[][..], "ok"),
        (AccountKey::Uid(ALICE.uid), &[], "ok"),
        (name("locked"), &[], "ok"),
        (name("root"), &[], "AcctDenied"),
        (AccountKey::Uid(0), &["--min-uid", "0"], "AcctDenied"),
        (name(SYSTEM.name), &[], "AcctDenied"),
        (AccountKey::Uid(SYSTEM.uid), &["--min-uid", "500"], "ok"),
        (name("nobody-here"), &[], "AcctDenied"),
        (name("../passwd"), &[], "AcctDenied"),
        (AccountKey::Uid(4_000_000), &[], "AcctDenied"),
        (name("bob"), &["--only-uid", "2002"], "ok"),
        (name("alice"), &["--only-uid", "2002"], "AcctDenied"),
    ] {
        assert_eq!(asked(&place, who.clone(), None, flags).end, expected, "{who:?} {flags:?}");
    }
}

#[test]
fn acct_mgmt_is_asked_without_a_person_and_its_refusals_are_told_apart() {
    let Some(place) = Place::new() else { return };
    let Some(module) = hostile() else { return };
    for mode in ["tell", "ask", "away", "hang", "late-rename"] {
        let line =
            format!("auth required pam_deny.so\naccount required {} {mode}\n", module.display());
        place.service(mode, &line);
    }
    for (who, service, expected) in [
        (ALICE, service::SHIPPED, "ok"),
        (LOCKED, service::SHIPPED, "ok"),
        (EXPIRED, service::SHIPPED, "AcctExpired"),
        (MUST_CHANGE, service::SHIPPED, "NewAuthtokReqd"),
        (SYSTEM, service::SHIPPED, "AcctDenied"),
        (BOB, service::DENY, "AcctDenied"),
        (BOB, "gone", "Unavailable"),
        (BOB, "tell", "ok"),
        // A module that asks where nobody is.
        (BOB, "ask", "AcctDenied"),
        // A directory that is away refuses this once, and is no word about the account.
        (BOB, "away", "Unavailable"),
        (BOB, "late-rename", "AuthErr"),
        // The deadline.
        (BOB, "hang", "gone"),
    ] {
        let seen = asked(&place, AccountKey::Uid(who.uid), Some(service), &[]);
        assert_eq!(seen.end, expected, "{} {service}", who.name);
        assert!(seen.prompts.is_empty() && seen.texts.is_empty(), "{seen:?}");
    }
}
