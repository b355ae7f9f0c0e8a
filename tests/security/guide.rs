//! The troubleshooting commands of the guide for administrators, as pam.d/README.md gives them, each over a made-up
//! /etc with the shipped service file.

use crate::{place::Place, talk::login};
use harness::{
    etc::{ALICE, EXPIRED, LOCKED, service},
    programs, skip,
};
use std::process::Command;

fn installed(program: &str) -> bool {
    let here = Command::new("sh")
        .args(["-c", &format!("PATH=$PATH:/usr/sbin:/sbin; command -v {program} >/dev/null")])
        .status()
        .is_ok_and(|status| status.success());
    if !here {
        skip(&format!("{program} is not installed"));
    }
    here
}

fn end(place: &Place, user: harness::User) -> String {
    login(place, service::SHIPPED, user.name, &[user.password]).end
}

#[test]
fn pamtester_authenticate_and_acct_mgmt() {
    let Some(place) = Place::new() else { return };
    if !installed("pamtester") {
        return;
    }
    let answer = format!("{}\n", ALICE.password);
    let tried = |operation: &str, user: &str, input: &str| {
        place.run_with("pamtester", &[service::SHIPPED, user, operation], input)
    };
    assert!(tried("authenticate", ALICE.name, &answer).0);
    assert!(!tried("authenticate", ALICE.name, "wrong\n").0);
    assert!(tried("acct_mgmt", ALICE.name, "").0);
    let (well, told) = tried("acct_mgmt", EXPIRED.name, "");
    assert!(!well && told.contains("expired"), "{told}");
}

#[test]
fn chage_lists_and_lifts_an_expiry() {
    let Some(place) = Place::new() else { return };
    if !installed("chage") {
        return;
    }
    let (well, listed) = place.run("chage", &["-l", EXPIRED.name]);
    assert!(well && listed.contains("Account expires") && listed.contains("1970"), "{listed}");
    assert_eq!(end(&place, EXPIRED), "AcctExpired");
    let (well, told) = place.run("chage", &["-E", "-1", EXPIRED.name]);
    assert!(well, "{told}");
    assert_eq!(end(&place, EXPIRED), "ok");
}

#[test]
fn passwd_u_unlocks_an_account() {
    let Some(place) = Place::new() else { return };
    if !installed("passwd") {
        return;
    }
    assert_eq!(end(&place, LOCKED), "AuthErr");
    let (well, told) = place.run("passwd", &["-S", LOCKED.name]);
    assert!(well && told.contains(" L "), "{told}");
    let (well, told) = place.run("passwd", &["-u", LOCKED.name]);
    assert!(well, "{told}");
    assert_eq!(end(&place, LOCKED), "ok");
}

#[test]
fn ldconfig_finds_libpam_and_the_program_says_whether_it_has_it() {
    if installed("ldconfig") {
        let output = Command::new("sh")
            .args(["-c", "PATH=$PATH:/sbin:/usr/sbin; ldconfig -p | grep libpam"])
            .output()
            .unwrap();
        assert!(String::from_utf8_lossy(&output.stdout).contains("libpam.so.0"));
    }
    let help = Command::new(programs::find("sdrest-conversation").unwrap())
        .arg("--help")
        .output()
        .unwrap();
    let help = String::from_utf8_lossy(&help.stdout).into_owned();
    assert!(help.lines().any(|line| line == "pam: built in"), "{help}");
}

#[test]
fn the_files_mode_and_owner_are_checked_as_the_guide_sets_them() {
    let Some(place) = Place::new() else { return };
    assert_eq!(end(&place, ALICE), "ok");
    let file = "/etc/pam.d/stable-diffusion-rest";
    for (command, expected) in [
        (["chmod", "666", file], "Unavailable"),
        (["chmod", "644", file], "ok"),
        (["chown", "alice:alice", file], "Unavailable"),
        (["chown", "root:root", file], "ok"),
    ] {
        let (well, told) = place.run(command[0], &command[1..]);
        assert!(well, "{told}");
        assert_eq!(end(&place, ALICE), expected, "{command:?}");
    }
}
