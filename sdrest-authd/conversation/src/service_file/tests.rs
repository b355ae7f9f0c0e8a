//! The probe against folders of service files that a test writes.

use super::{Phase, check, probe};
use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str, files: &[(&str, &str)]) -> Self {
        let dir =
            std::env::temp_dir().join(format!("sdrest-service-{}-{name}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        for (file, text) in files {
            let path = dir.join(file);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        }
        Self(dir)
    }

    fn fault(&self) -> String {
        probe("sdrest", Some(&self.0)).err().map(|error| error.to_string()).unwrap_or_default()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

const GOOD: &str = "# comment\nauth [success=1 default=ignore] \\\n  pam_permit.so nodelay\n-auth optional pam_nowhere.so\n@include shared\n";

#[test]
fn includes_are_followed_and_their_lines_count() {
    let folder =
        Folder::new("good", &[("sdrest", GOOD), ("shared", "account required pam_permit.so\n")]);
    assert_eq!(folder.fault(), "");
}

/// A name, the files, and what the fault says.
type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a str);

#[test]
fn each_fault_names_its_file_and_reason() {
    let cases: &[Case<'_>] = &[
        ("missing", &[], "missing"),
        ("include", &[("sdrest", GOOD)], "shared is missing"),
        ("empty", &[("sdrest", "")], "no `auth` line"),
        ("account", &[("sdrest", "auth required pam_permit.so")], "no `account` line"),
        (
            "module",
            &[("sdrest", "auth required pam_nowhere.so")],
            "pam_nowhere.so, which is not installed",
        ),
        ("loop", &[("sdrest", "auth include sdrest")], "includes itself"),
        ("control", &[("sdrest", "auth perhaps pam_permit.so")], "line 1"),
        ("phase", &[("sdrest", "login required pam_permit.so")], "line 1"),
        ("bracket", &[("sdrest", "auth [default=die pam_permit.so")], "bracket"),
        (
            "faillock",
            &[(
                "sdrest",
                "auth required pam_faillock.so authfail dir=/proc/nowhere\naccount required pam_permit.so",
            )],
            "/proc/nowhere",
        ),
    ];
    for (name, files, expected) in cases {
        let fault = Folder::new(name, files).fault();
        assert!(fault.contains(expected), "{name}: {fault:?}");
    }
}

#[test]
fn a_file_that_others_can_write_is_refused() {
    let folder = Folder::new("writable", &[("sdrest", GOOD)]);
    fs::set_permissions(folder.0.join("sdrest"), fs::Permissions::from_mode(0o666)).unwrap();
    assert!(folder.fault().contains("writable by others"));
    assert!(probe("Sdrest", Some(&folder.0)).unwrap_err().to_string().contains("lower-case"));
    assert!(probe("../sdrest", Some(&folder.0)).is_err());
}

#[test]
fn what_is_about_to_run_must_have_lines_of_its_own() {
    let folder =
        Folder::new("phases", &[("sdrest", "auth required pam_permit.so\n"), ("zero", "")]);
    let fault = |service: &str, phases: &[Phase]| {
        check(service, Some(&folder.0), phases).err().map(|error| error.to_string())
    };
    assert_eq!(fault("sdrest", &[Phase::Auth]), None);
    for phase in [Phase::Account, Phase::Password] {
        assert!(fault("sdrest", &[Phase::Auth, phase]).unwrap().contains(phase.word()));
    }
    assert!(fault("zero", &[Phase::Auth, Phase::Account]).unwrap().contains("no `auth` line"));
}
