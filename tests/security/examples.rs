//! The service files in pam.d: each is loaded by the real libpam with the real module, taken out of its package
//! where it is not installed, and signs an account in or keeps it out. Daemons that some modules ask (nslcd,
//! winbindd) do not run here, so those examples show their other half: accounts of the host still sign in, and
//! nobody of an absent directory does.

use crate::{
    place::{Place, hostile, module_of},
    talk::{Launch, Seen, Talk, change, login},
};
use harness::{
    etc::{ALICE, EXPIRED, LOCKED, MUST_CHANGE, service},
    programs,
};
use sdrest_proto::conversation::{FromConversation, ToConversation, Verdict};
use std::{
    fs,
    path::{Path, PathBuf},
};

fn file(name: &str) -> String {
    fs::read_to_string(programs::checkout().join("pam.d").join(name)).unwrap()
}

/// Puts an example in as a service, with its modules' full paths.
fn install(place: &Place, name: &str, modules: &[(&str, &PathBuf)]) {
    let text = modules
        .iter()
        .fold(file(name), |text, (module, path)| text.replace(module, &path.display().to_string()));
    place.service("example", &text);
}

fn fault(place: &Place) -> Option<String> {
    let probe = ToConversation::Probe { service: Some("example".to_owned()) };
    match Talk::whole(place, Launch::default(), &probe).hear() {
        Ok(FromConversation::Probed { fault, .. }) => fault,
        other => panic!("{other:?}"),
    }
}

/// What every service file must do with the host's own accounts.
fn keeps_the_hosts_accounts_right(place: &Place, name: &str) {
    for (user, password, expected) in [
        (ALICE, ALICE.password, "ok"),
        (ALICE, "wrong", "AuthErr"),
        (LOCKED, LOCKED.password, "AuthErr"),
        (EXPIRED, EXPIRED.password, "AcctExpired"),
        (MUST_CHANGE, MUST_CHANGE.password, "NewAuthtokReqd"),
    ] {
        let seen = login(place, "example", user.name, &[password]);
        assert_eq!(seen.end, expected, "{name}, {}: {seen:?}", user.name);
        assert_eq!(seen.prompts.len(), 1, "{name} asks once: {seen:?}");
    }
    assert_eq!(login(place, "example", "nobody-here", &["x"]).end, "AuthErr", "{name}");
    place.write("nologin", "Back at noon.\n");
    assert_eq!(login(place, "example", ALICE.name, &[ALICE.password]).end, "AcctDenied", "{name}");
    fs::remove_file(place.path("nologin")).unwrap();
}

#[test]
fn the_shipped_files_and_those_without_a_daemon_sign_in() {
    let Some(place) = Place::new() else { return };
    for name in ["stable-diffusion-rest", "examples/warn", "examples/faillock"] {
        install(&place, name, &[]);
        // A private tally folder for the example's.
        place.edit("pam.d/example", |text| {
            text.replace("pam_faillock.so", "pam_faillock.so dir=/etc/sdrest-test/faillock")
        });
        assert_eq!(fault(&place), None, "{name}");
        keeps_the_hosts_accounts_right(&place, name);
    }
}

#[test]
fn the_example_with_pam_faillock_locks_after_five() {
    let Some(place) = Place::new() else { return };
    place.service(
        "example",
        &file("examples/faillock")
            .replace("pam_faillock.so", "pam_faillock.so dir=/etc/sdrest-test/faillock"),
    );
    for _ in 0..5 {
        assert_eq!(login(&place, "example", ALICE.name, &["wrong"]).end, "AuthErr");
    }
    let locked = login(&place, "example", ALICE.name, &[ALICE.password]);
    assert_eq!(
        (locked.end.as_str(), locked.texts.len()),
        ("AuthErr", 0),
        "locked, and silent about it"
    );
}

/// Fedora's form needs pam_pwquality, which says why a new password is too weak.
#[test]
fn fedoras_form_signs_in_and_judges_new_passwords() {
    let Some(mut place) = Place::new() else { return };
    let Some(quality) = module_of("libpam-pwquality", "pam_pwquality.so") else { return };
    if !place.has_library("libpwquality1", "libpwquality.so.1")
        || !place.has_library("libcrack2", "libcrack.so.2")
    {
        return;
    }
    install(&place, "stable-diffusion-rest.fedora", &[("pam_pwquality.so", &quality)]);
    // cracklib's dictionary is a package of its own.
    place.write("security/pwquality.conf", "dictcheck = 0\n");
    assert_eq!(fault(&place), None);
    keeps_the_hosts_accounts_right(&place, "fedora");
    let old = MUST_CHANGE.password;
    let weak: Seen = change(
        &place,
        "example",
        MUST_CHANGE.name,
        &[old, old, "abc", "abc", old, "abc", "abc", old, "abc", "abc"],
    );
    assert_eq!(weak.end, "NewAuthtokReqd", "{weak:?}");
    assert!(weak.texts.iter().any(|text| text.contains("BAD PASSWORD")), "{weak:?}");
    let new = "Xq7-unlikely words 93";
    let changed = change(&place, "example", MUST_CHANGE.name, &[old, old, new, new]);
    assert_eq!(changed.end, "ok", "{changed:?}");
    assert_eq!(login(&place, "example", MUST_CHANGE.name, &[new]).end, "ok");
}

#[test]
fn the_example_with_a_one_time_code_asks_for_both_and_tells_neither() {
    let Some(place) = Place::new() else { return };
    let Some(oath) = module_of("libpam-oath", "pam_oath.so") else { return };
    place.write("sdrest-test/users.oath", service::ONE_TIME_USERS);
    install(
        &place,
        "examples/totp",
        &[("pam_oath.so", &oath), ("/var/lib/sdrest-oath", &PathBuf::from("/etc/sdrest-test"))],
    );
    assert_eq!(fault(&place), None);
    let codes = service::ONE_TIME_CODES;
    for (password, code, expected) in [
        ("wrong", codes[0], "AuthErr"),
        (ALICE.password, "000000", "AuthErr"),
        (ALICE.password, codes[1], "ok"),
        (ALICE.password, codes[1], "AuthErr"),
    ] {
        let seen = login(&place, "example", ALICE.name, &[password, code]);
        assert_eq!((seen.end.as_str(), seen.prompts.len()), (expected, 2), "{seen:?}");
    }
}

/// Time-based codes, as an authenticator shows them: made by oathtool from the same secret.
#[test]
fn the_example_with_a_one_time_code_takes_the_code_of_this_minute() {
    let Some(place) = Place::new() else { return };
    let Some(oath) = module_of("libpam-oath", "pam_oath.so") else { return };
    let secret = "3132333435363738393031323334353637383930";
    place.write("sdrest-test/users.oath", &format!("HOTP/T30/6 alice - {secret}\n"));
    install(
        &place,
        "examples/totp",
        &[("pam_oath.so", &oath), ("/var/lib/sdrest-oath", &PathBuf::from("/etc/sdrest-test"))],
    );
    let (here, code) = place.run("oathtool", &["--totp", secret]);
    if !here {
        return harness::skip("oathtool is not installed");
    }
    assert_eq!(login(&place, "example", ALICE.name, &[ALICE.password, code.trim()]).end, "ok");
    assert_eq!(
        login(&place, "example", ALICE.name, &[ALICE.password, code.trim()]).end,
        "AuthErr",
        "once"
    );
}

/// Whether libpam takes the module at all: PAM_MODULE_UNKNOWN stands in for one that cannot be loaded.
fn loads(place: &Place, module: &Path) -> bool {
    const MODULE_UNKNOWN: i32 = 28;
    let line = format!("auth required {}\naccount required pam_permit.so\n", module.display());
    place.service("alone", &line);
    let seen = login(place, "alone", ALICE.name, &["x"]);
    matches!(seen.verdict, Some(Verdict::Denied { pam_code, .. }) if pam_code != MODULE_UNKNOWN)
}

/// The host's accounts, over an example whose other source is away; and nobody of that source.
fn keeps_to_the_host(place: &Place) {
    assert_eq!(fault(place), None);
    for (user, password, expected) in [
        (ALICE.name, ALICE.password, "ok"),
        (ALICE.name, "wrong", "AuthErr"),
        ("nobody-here", "x", "AuthErr"),
        (LOCKED.name, LOCKED.password, "AuthErr"),
        (EXPIRED.name, EXPIRED.password, "AcctExpired"),
    ] {
        let seen = login(place, "example", user, &[password]);
        assert_eq!((seen.end.as_str(), seen.prompts.len()), (expected, 1), "{user}: {seen:?}");
    }
}

#[test]
fn the_directory_example_keeps_the_hosts_accounts_and_lets_nobody_of_an_absent_directory_in() {
    let Some(place) = Place::new() else { return };
    let Some(ldap) = module_of("libpam-ldapd", "pam_ldap.so") else { return };
    // The second is a file, and no module.
    assert!(loads(&place, &ldap) && !loads(&place, Path::new("/etc/passwd")));
    install(&place, "examples/ldap", &[("pam_ldap.so", &ldap)]);
    keeps_to_the_host(&place);
}

#[test]
fn the_domain_example_keeps_the_hosts_accounts_and_lets_nobody_of_an_absent_domain_in() {
    let Some(mut place) = Place::new() else { return };
    let Some(winbind) = module_of("libpam-winbind", "pam_winbind.so") else { return };
    if !place.has_library("libtalloc2", "libtalloc.so.2")
        || !place.has_library("libbsd0", "libbsd.so.0")
    {
        return;
    }
    assert!(loads(&place, &winbind));
    install(&place, "examples/winbind", &[("pam_winbind.so", &winbind)]);
    keeps_to_the_host(&place);
}

/// The module of the device grant is not part of sdrest: a test module that shows a link, as it does, stands in for the
/// shape of the stack, and the file as it is says by name what is missing.
#[test]
fn the_device_example_names_its_missing_module_and_shows_a_link_at_once() {
    let Some(place) = Place::new() else { return };
    place.service("example", &file("examples/device-grant"));
    assert!(fault(&place).unwrap().contains("pam_oauth2_device.so, which is not installed"));
    let Some(module) = hostile() else { return };
    let stands_in = PathBuf::from(format!("{} device", module.display()));
    install(&place, "examples/device-grant", &[("pam_oauth2_device.so", &stands_in)]);
    let seen = login(&place, "example", ALICE.name, &[""]);
    assert_eq!(seen.end, "ok", "{seen:?}");
    assert!(seen.texts[0].contains("https://"), "{seen:?}");
    // The provider vouched for the name, this host does not know it.
    assert_eq!(login(&place, "example", "nobody-here", &[""]).end, "AcctDenied");
}

/// pam_google_authenticator as systemd/drop-ins/google-authenticator.conf has it: files of root's.
#[test]
fn google_authenticator_works_with_files_of_roots() {
    let Some(place) = Place::new() else { return };
    let Some(google) = module_of("libpam-google-authenticator", "pam_google_authenticator.so")
    else {
        return;
    };
    // The secret of RFC 6238 in base32, and no rate limit; mode 0600 is what the module insists on.
    place.write(
        "sdrest-test/google/alice",
        "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ\n\" WINDOW_SIZE 3\n\" DISALLOW_REUSE\n\" TOTP_AUTH\n",
    );
    for (path, mode) in [("sdrest-test/google", 0o700), ("sdrest-test/google/alice", 0o600)] {
        fs::set_permissions(place.path(path), std::os::unix::fs::PermissionsExt::from_mode(mode))
            .unwrap();
    }
    place.service(
        "example",
        &format!(
            "auth required pam_unix.so nodelay\nauth required {} secret=/etc/sdrest-test/google/${{USER}} user=root\naccount required pam_unix.so\n",
            google.display()
        ),
    );
    let (here, code) =
        place.run("oathtool", &["--totp", "--base32", "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"]);
    if !here {
        return harness::skip("oathtool is not installed");
    }
    let first = login(&place, "example", ALICE.name, &[ALICE.password, code.trim()]);
    assert_eq!(first.end, "ok", "{first:?}");
    let again = login(&place, "example", ALICE.name, &[ALICE.password, code.trim()]);
    assert_eq!(again.end, "AuthErr", "a code is good once");
}

#[test]
fn no_shipped_file_carries_the_guides_dangerous_words() {
    for entry in ["", "examples"] {
        for found in fs::read_dir(programs::checkout().join("pam.d").join(entry)).unwrap().flatten()
        {
            if found.path().is_dir() || found.file_name() == "README.md" {
                continue;
            }
            let text = fs::read_to_string(found.path()).unwrap();
            let lines = text.lines().filter(|line| !line.starts_with('#'));
            let words: Vec<&str> = lines.flat_map(str::split_whitespace).collect();
            for word in [
                "nullok",
                "nullok_secure",
                "md5",
                "sha512",
                "sufficient",
                "try_first_pass",
                "authinfo_unavail=ignore",
            ] {
                assert!(!words.contains(&word), "{:?} has {word}", found.path());
            }
            for phase in ["auth", "account", "password", "session"] {
                assert!(words.contains(&phase), "{:?} leaves {phase} to `other`", found.path());
            }
        }
    }
}
