//! Names that are paths, flags, other people or no text at all, and modules that rename.

use crate::{
    place::{Place, hostile},
    talk::login,
};
use harness::etc::{ALICE, BOB, service};
use sdrest_proto::conversation::Verdict;

/// Path traversal through the user name; sudo-rs did the same with its timestamp files (CVE-2025-46717, 46718).
#[test]
fn replay_17_cve_2023_42456_a_name_never_becomes_a_path_a_flag_or_another_account() {
    let Some(place) = Place::new() else { return };
    place.service("permit", "auth required pam_permit.so\naccount required pam_permit.so\n");
    let long = "a".repeat(5000);
    for name in [
        "",
        "../../etc/passwd",
        "/etc/passwd",
        "-x",
        "--help",
        "alice:0",
        "alice ",
        " alice",
        "ALICE",
        "Alice",
        "alice\n",
        "alice\0",
        "alice/../bob",
        "alice,bob",
        ".",
        "..",
        "*",
        "$(id)",
        "alice\u{202e}",
        &long,
    ] {
        for service in [service::SHIPPED, "permit"] {
            let seen = login(&place, service, name, &[ALICE.password]);
            assert_eq!(seen.end, "AuthErr", "{name:?} through {service}");
        }
    }
}

/// OpenSSH's monitor took a user name from its child (CVE-2015-6563): here only PAM_USER after authenticate counts,
/// and the account database decides whether it may be.
#[test]
fn replay_05_a_module_that_renames_is_believed_as_far_as_the_account_database_goes() {
    let Some(place) = Place::new() else { return };
    let Some(module) = hostile() else { return };
    for (service, mode) in [
        ("to-bob", "become bob"),
        ("to-root", "become root"),
        ("to-system", "become systemuser"),
        ("to-nobody", "become nobody-here"),
        ("to-path", "become ../../etc/passwd"),
        ("to-bytes", "bytes"),
    ] {
        let module = module.display();
        place.service(
            service,
            &format!("auth required {module} {mode}\naccount required pam_permit.so\n"),
        );
    }
    let seen = login(&place, "to-bob", ALICE.name, &[]);
    let Some(Verdict::Verified(facts)) = seen.verdict else { panic!("{seen:?}") };
    assert_eq!((facts.username.as_str(), facts.uid), (BOB.name, BOB.uid));
    for service in ["to-root", "to-system", "to-nobody", "to-path", "to-bytes"] {
        assert_eq!(login(&place, service, ALICE.name, &[]).end, "AuthErr", "{service}");
    }
}

/// Prompts and names in another encoding.
#[test]
fn replay_19_texts_that_are_no_utf_8_are_shown_safely_and_name_nobody() {
    let Some(place) = Place::new() else { return };
    let Some(module) = hostile() else { return };
    place.service(
        "ansi",
        &format!("auth required {} ansi\naccount required pam_permit.so\n", module.display()),
    );
    let seen = login(&place, "ansi", ALICE.name, &[]);
    assert_eq!((seen.end.as_str(), seen.texts), ("ok", vec!["red caf\u{fffd}".to_owned()]));
}
