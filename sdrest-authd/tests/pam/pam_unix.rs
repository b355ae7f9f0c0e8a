//! Every account case against real pam_unix and the shipped service file, over a made-up /etc in a private mount
//! namespace (and, without root, a user namespace): the host's /etc is neither read nor written. Each program of a
//! login runs in a PID namespace of its own, as under `sdrestctl serve`.

use crate::stack::{Setup, Stack, Talk, begin, conversation_program, left_running, login};
use sdrest_proto::login::LoginState;
use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

const INSIDE: &str = "SDREST_TEST_PRIVATE_ETC";
/// SHA-512 crypt of `right horse` (crypt(5)).
const HASH: &str = "$6$sdresttest$hq2BU9cst/D7dS7da3yeWon5lvX4AFO6KE18kUi7HZXlJVerkCjYExYcJsL26PPa7bBzFGYzW7h.r5D1.k/Je.";
const SHIPPED: &str = include_str!("../../../pam.d/stable-diffusion-rest");

/// name, uid, and the fields of shadow(5) after the name: hash, last change, …, expiry.
const ACCOUNTS: [(&str, u32, &str, &str, &str); 6] = [
    ("good", 42_001, "", "19000", ""),
    ("expired", 42_002, "", "19000", "1"),
    ("mustchange", 42_003, "", "0", ""),
    ("locked", 42_004, "!", "19000", ""),
    ("system", 42, "", "19000", ""),
    ("root", 0, "", "19000", ""),
];

fn make_etc(etc: &Path) {
    let (mut passwd, mut shadow, mut group) = (String::new(), String::new(), String::new());
    for (name, uid, lock, changed, expires) in ACCOUNTS {
        passwd.push_str(&format!("{name}:x:{uid}:{uid}::/nonexistent:/bin/sh\n"));
        shadow.push_str(&format!("{name}:{lock}{HASH}:{changed}:0:99999:7::{expires}:\n"));
        group.push_str(&format!("{name}:x:{uid}:\n"));
    }
    // An account without a password: PAM_DISALLOW_NULL_AUTHTOK and the missing nullok keep it out.
    passwd.push_str("empty:x:42005:42005::/nonexistent:/bin/sh\n");
    shadow.push_str("empty::19000:0:99999:7:::\n");
    group.push_str("sdrest-admin:x:43000:good\n");
    fs::create_dir_all(etc.join("pam.d")).unwrap();
    let hang = etc.join("hang");
    let script = "#!/bin/sh\ntrap '' TERM HUP INT\nsetsid sleep 876543 &\nsleep 876543\n";
    let other = "auth required pam_permit.so\naccount required pam_permit.so\n";
    // Locks after three wrong passwords, if the program kept what pam_faillock needs.
    let faillock = "auth required pam_faillock.so preauth silent deny=3 dir=/etc/tallies\n\
        auth [success=1 default=ignore] pam_unix.so nodelay\n\
        auth [default=die] pam_faillock.so authfail deny=3 dir=/etc/tallies\n\
        auth required pam_faillock.so authsucc deny=3 dir=/etc/tallies\n\
        account required pam_faillock.so\naccount required pam_unix.so\n";
    let hanging = format!(
        "auth required pam_exec.so quiet {}\naccount required pam_permit.so\n",
        "/etc/hang"
    );
    for (file, text) in [
        ("passwd", passwd.as_str()),
        ("group", &group),
        ("nsswitch.conf", "passwd: files\ngroup: files\nshadow: files\n"),
        ("login.defs", "ENCRYPT_METHOD SHA512\n"),
        ("pam.d/stable-diffusion-rest", SHIPPED),
        // What libpam would fall back to: it must never be reached.
        ("pam.d/other", other),
        ("pam.d/hanging", &hanging),
        ("pam.d/faillock", faillock),
        ("hang", script),
    ] {
        fs::write(etc.join(file), text).unwrap();
        fs::set_permissions(etc.join(file), fs::Permissions::from_mode(0o644)).unwrap();
    }
    fs::set_permissions(&hang, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(etc.join("shadow"), shadow).unwrap();
    fs::set_permissions(etc.join("shadow"), fs::Permissions::from_mode(0o640)).unwrap();
    for kept in ["ld.so.cache", "ld.so.conf"] {
        let _ = fs::copy(Path::new("/etc").join(kept), etc.join(kept));
    }
    let _ = symlink("/usr/share/zoneinfo/UTC", etc.join("localtime"));
}

#[test]
fn every_account_case_has_its_code() {
    if conversation_program().is_none() {
        eprintln!("skipped: sdrest-conversation is not built; build the workspace first");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let etc = folder.path().join("etc");
    make_etc(&etc);
    let namespaces = if nix::unistd::geteuid().is_root() { "-m" } else { "-Urm" };
    let unshare = |script: &str| {
        let mut command = Command::new("unshare");
        command.args([namespaces, "--propagation", "private", "sh", "-ec", script, "sh"]).arg(&etc);
        command
    };
    if !unshare("mount --bind \"$1\" /etc").status().is_ok_and(|status| status.success()) {
        eprintln!("skipped: this machine allows no private mount namespace");
        return;
    }
    let before = fs::read("/etc/passwd").unwrap();
    let output = unshare(
        "mount --bind \"$1\" /etc; exec \"$2\" --exact pam_unix::inside --ignored --nocapture",
    )
    .arg(std::env::current_exe().unwrap())
    .env(INSIDE, "1")
    .output()
    .unwrap();
    let told = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    eprintln!("{told}");
    assert!(output.status.success() && told.contains("1 passed"));
    assert_eq!(before, fs::read("/etc/passwd").unwrap(), "the host's /etc is untouched");
}

/// As on an installed system authd runs under an account of its own, where the test may choose one and that account
/// can reach the program.
fn account_for_authd() -> Option<u32> {
    let uid = 42_900_u32;
    let id = uid.to_string();
    let mut reach = Command::new("setpriv");
    reach.args(["--reuid", &id, "--regid", &id, "--clear-groups", "--", "test", "-x"]);
    reach.arg(env!("CARGO_BIN_EXE_sdrest-authd"));
    let reachable = reach.stderr(Stdio::null()).status().is_ok_and(|status| status.success());
    eprintln!("authd runs {}", if reachable { "under its own account" } else { "as the caller" });
    reachable.then_some(uid)
}

#[tokio::test]
#[ignore = "run by every_account_case_has_its_code, over a made-up /etc"]
async fn inside() {
    assert!(std::env::var_os(INSIDE).is_some(), "this would read the host's /etc");
    let wrapper = ["unshare", "--pid", "--fork", "--kill-child"];
    let setup = Setup {
        services: &[],
        service: "stable-diffusion-rest",
        config: "throttle = false\nstep_deadline_seconds = 2",
        conversation_flags: &[],
        authd_uid: account_for_authd(),
        wrapper: &wrapper,
    };
    let stack = Stack::start(&setup).unwrap();
    let client = stack.client().await;
    for (user, password, expected) in [
        ("good", "right horse", "ok"),
        ("good", "wrong", "AUTHENTICATION_FAILED"),
        ("nobody-here", "right horse", "AUTHENTICATION_FAILED"),
        ("locked", "right horse", "AUTHENTICATION_FAILED"),
        ("empty", "x", "AUTHENTICATION_FAILED"),
        ("root", "right horse", "AUTHENTICATION_FAILED"),
        ("system", "right horse", "AUTHENTICATION_FAILED"),
        ("expired", "right horse", "ACCOUNT_EXPIRED"),
        ("expired", "wrong", "AUTHENTICATION_FAILED"),
        ("mustchange", "right horse", "CREDENTIAL_EXPIRED"),
        ("GOOD", "right horse", "AUTHENTICATION_FAILED"),
        ("good", "", "MISSING_PASSWORD"),
        ("good", "right horse", "ok"),
    ] {
        let (code, took) = login(&client, user, password).await;
        eprintln!("{user:12} {code:22} {:4} ms", took.as_millis());
        assert_eq!(code, expected, "{user}; {}", stack.log());
        assert!(
            ["ok", "MISSING_PASSWORD"].contains(&expected) || took >= Duration::from_millis(400),
            "{took:?}"
        );
    }
    let talk = Talk::begin(&client, begin("good", Some("right horse"))).await.unwrap();
    let LoginState::Succeeded(grant) = talk.end().await else { panic!("{}", stack.log()) };
    assert_eq!((grant.subject.as_str(), grant.role.as_str()), ("unix:42001:1", "admin"));

    let locking = Stack::start(&Setup { service: "faillock", ..setup }).unwrap();
    let to_lock = locking.client().await;
    assert_eq!(login(&to_lock, "good", "right horse").await.0, "ok");
    for _ in 0..3 {
        assert_eq!(login(&to_lock, "good", "wrong").await.0, "AUTHENTICATION_FAILED");
    }
    assert_eq!(
        login(&to_lock, "good", "right horse").await.0,
        "AUTHENTICATION_FAILED",
        "pam_faillock locks"
    );

    let hanging = Stack::start(&Setup { service: "hanging", ..setup }).unwrap();
    let (code, took) = login(&hanging.client().await, "good", "right horse").await;
    eprintln!("hanging      {code:22} {:4} ms", took.as_millis());
    assert_eq!(code, "AUTH_TIMEOUT");
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert_eq!(left_running("sleep 876543"), Vec::<String>::new());
    assert_eq!(left_running("/etc/hang"), Vec::<String>::new());
    assert_eq!(login(&client, "good", "right horse").await.0, "ok");
}
