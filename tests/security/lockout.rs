//! pam_faillock fails open where the program may give the tally away but not write it afterwards, or where its folder
//! is read-only. Linux-PAM's own pull request 1016 is about guesses at once; that order is authd's, see README.md.

use crate::{
    place::Place,
    talk::{Launch, Talk, sign_in},
};
use harness::etc::{ALICE, service};
use sdrest_proto::conversation::{FromConversation, ToConversation};

/// Capabilities as the shipped unit leaves them, as a container without any does, and the combination that never locks
/// where nobody takes care.
const SANDBOXES: [(&str, &[&str]); 4] = [
    ("all", &[]),
    ("none", &["setpriv", "--bounding-set", "-all", "--inh-caps", "-all", "--no-new-privs", "--"]),
    (
        "the unit's",
        &[
            "setpriv",
            "--bounding-set",
            "-all,+audit_write,+chown,+dac_override",
            "--no-new-privs",
            "--",
        ],
    ),
    (
        "chown without dac_override",
        &["setpriv", "--bounding-set", "-all,+chown", "--no-new-privs", "--"],
    ),
];

/// Where pam_faillock of the harness's service counts.
fn tally(place: &Place) -> String {
    place.etc.pam_state().join("faillock").display().to_string()
}

fn attempt(place: &Place, wrapper: &[&str], password: &str) -> String {
    let launch = Launch { flags: &[], wrapper };
    Talk::whole(place, launch, &sign_in(service::FAILLOCK, ALICE.name)).go(&[password]).end
}

#[test]
fn replay_04_linux_pam_1016_three_wrong_passwords_lock_in_every_sandbox() {
    for (name, wrapper) in SANDBOXES {
        let Some(place) = Place::new() else { return };
        assert_eq!(attempt(&place, wrapper, ALICE.password), "ok", "{name}");
        for _ in 0..3 {
            assert_eq!(attempt(&place, wrapper, "wrong"), "AuthErr", "{name}");
        }
        assert_eq!(attempt(&place, wrapper, ALICE.password), "AuthErr", "{name}: locked");
        // And the administrator's own tool opens it again.
        let tally = tally(&place);
        let (went_well, told) =
            place.run("faillock", &["--dir", &tally, "--user", ALICE.name, "--reset"]);
        assert!(went_well, "{told}");
        assert_eq!(attempt(&place, wrapper, ALICE.password), "ok", "{name}: unlocked");
    }
}

#[test]
fn replay_04_a_tally_folder_that_cannot_be_written_is_found_before_anybody_signs_in() {
    let Some(place) = Place::new() else { return };
    let probe = ToConversation::Probe { service: Some(service::FAILLOCK.to_owned()) };
    let folder = tally(&place);
    let read_only = [
        "sh",
        "-ec",
        "mount --bind \"$0\" \"$0\"; mount -o remount,bind,ro \"$0\"; exec \"$@\"",
        folder.as_str(),
    ];
    for (wrapper, faulty) in [(&[][..], false), (&read_only[..], true)] {
        let mut talk = Talk::whole(&place, Launch { flags: &[], wrapper }, &probe);
        let Ok(FromConversation::Probed { fault, .. }) = talk.hear() else { panic!("a probe") };
        assert_eq!(fault.is_some(), faulty, "{fault:?}");
        if let Some(fault) = fault {
            assert!(fault.contains("nobody would ever be locked out"), "{fault}");
        }
    }
}
