//! Every account case against real pam_unix and the shipped service file, over a made-up /etc in a private mount
//! namespace (and, without root, a user namespace): the host's /etc is neither read nor written. Each program of a
//! login runs in a PID namespace of its own, as under `sdrestctl serve`.

use crate::stack::{
    PATIENCE, PLAIN, Setup, Stack, Talk, begin, conversation_program, left_running, login,
};
use sdrest_proto::{
    error::ErrorCode, id::RequestId, login::LoginState, secret::RefreshToken, transport::deadline,
};
use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

const INSIDE: &str = "SDREST_TEST_PRIVATE_ETC";
/// Where `as_administrator` connects, and whom it trusts there.
const SOCKET: &str = "SDREST_TEST_ADMIN_SOCKET";
const TRUSTED: &str = "SDREST_TEST_ADMIN_TRUSTED";
/// SHA-512 crypt of `right horse` (crypt(5)).
const HASH: &str = "$6$sdresttest$hq2BU9cst/D7dS7da3yeWon5lvX4AFO6KE18kUi7HZXlJVerkCjYExYcJsL26PPa7bBzFGYzW7h.r5D1.k/Je.";
const SHIPPED: &str = include_str!("../../../pam.d/stable-diffusion-rest");

/// name, uid, and the fields of shadow(5) after the name: hash, last change, …, expiry.
const ACCOUNTS: [(&str, u32, &str, &str, &str); 9] = [
    ("good", 42_001, "", "19000", ""),
    ("leaver", 42_006, "", "19000", ""),
    ("changer", 42_007, "", "0", ""),
    ("renamed", 42_008, "", "19000", ""),
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
    // As shipped, but an expired password may be changed.
    let changing = "auth required pam_unix.so nodelay\naccount required pam_unix.so\n\
        password required pam_unix.so sha512\n";
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
        ("pam.d/changing", changing),
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
        service: "stable-diffusion-rest",
        config: "throttle = false\nstep_deadline_seconds = 6",
        conversation_flags: &[],
        authd_uid: account_for_authd(),
        wrapper: &wrapper,
        ..PLAIN
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

    the_account_ends(&stack).await;
    the_uid_gets_another_name(&stack).await;
    members_of_the_group_administrate(&stack);
    expired_passwords(&setup).await;

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
    assert!(took < Duration::from_secs(20), "{took:?}");
    assert_eq!(left_running("sleep 876543"), Vec::<String>::new());
    assert_eq!(left_running("/etc/hang"), Vec::<String>::new());
    assert_eq!(login(&client, "good", "right horse").await.0, "ok");
}

/// A uid that is somebody else now does not go on with the session of the one before.
async fn the_uid_gets_another_name(stack: &Stack) {
    let client = stack.client().await;
    let talk = Talk::begin(&client, begin("renamed", Some("right horse"))).await.unwrap();
    let LoginState::Succeeded(grant) = talk.end().await else { panic!("{}", stack.log()) };
    for file in ["/etc/passwd", "/etc/shadow"] {
        let text = fs::read_to_string(file).unwrap();
        fs::write(file, text.replace("renamed:", "somebody:")).unwrap();
    }
    let token = grant.refresh_token.unwrap();
    let fault = client.refresh(deadline(PATIENCE), token, RequestId::random()).await.unwrap();
    assert_eq!(fault.unwrap_err().code, ErrorCode::AccountDenied);
    assert_eq!(login(&client, "somebody", "right horse").await.0, "ok");
}

/// Who is in `sdrest-admin` may use the administrators' socket, from the moment that /etc/group says so.
fn members_of_the_group_administrate(stack: &Stack) {
    if stack.uid == 0 {
        eprintln!("skipped: authd runs as the caller here");
        return;
    }
    for (path, mode) in [("", 0o711), ("authd-admin.sock", 0o666)] {
        fs::set_permissions(stack.path(path), fs::Permissions::from_mode(mode)).unwrap();
    }
    let may = |uid: u32| {
        let id = uid.to_string();
        let mut command = Command::new("setpriv");
        command.args(["--reuid", &id, "--regid", &id, "--clear-groups", "--"]);
        command.arg(std::env::current_exe().unwrap());
        command.args(["--exact", "pam_unix::as_administrator", "--ignored", "--nocapture"]);
        let socket = stack.path("authd-admin.sock");
        command.env(SOCKET, socket).env(TRUSTED, stack.uid.to_string());
        let output = command.output().unwrap();
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(told.contains("1 passed") || told.contains("1 failed"), "{told}");
        output.status.success()
    };
    let (good, system) = (42_001, 42);
    assert!(may(good), "good is in the group");
    assert!(!may(system) && !may(42_002), "others are not");
    let log = stack.log_with("uid 42002");
    assert!(log.contains("peer_refused") && log.contains("uid 42002"), "{log}");
    let group = fs::read_to_string("/etc/group").unwrap();
    fs::write("/etc/group.new", group.replace(":43000:good", ":43000:expired")).unwrap();
    fs::rename("/etc/group.new", "/etc/group").unwrap();
    assert!(may(42_002) && !may(good), "the file of now counts");
    fs::write("/etc/group", group).unwrap();
}

#[tokio::test]
#[ignore = "run by members_of_the_group_administrate, under another account"]
async fn as_administrator() {
    let socket = std::env::var_os(SOCKET).unwrap();
    let authd: u32 = std::env::var(TRUSTED).unwrap().parse().unwrap();
    let admin = crate::stack::admin_at(Path::new(&socket), authd).await;
    admin.health(deadline(PATIENCE)).await.unwrap();
}

/// The fields of an account in /etc/shadow, changed in place: what the administrator does while somebody is in.
fn in_shadow(user: &str, change: impl Fn(&mut Vec<String>)) {
    let lines: Vec<String> = fs::read_to_string("/etc/shadow")
        .unwrap()
        .lines()
        .map(|line| {
            let mut fields: Vec<String> = line.split(':').map(str::to_owned).collect();
            if fields[0] == user {
                change(&mut fields);
            }
            fields.join(":") + "\n"
        })
        .collect();
    fs::write("/etc/shadow", lines.concat()).unwrap();
}

/// An account that expires while its session lives: the next refresh ends it.
async fn the_account_ends(stack: &Stack) {
    let client = stack.client().await;
    let talk = Talk::begin(&client, begin("leaver", Some("right horse"))).await.unwrap();
    let LoginState::Succeeded(grant) = talk.end().await else { panic!("{}", stack.log()) };
    let refresh = |token| client.refresh(deadline(PATIENCE), token, RequestId::random());
    let grant = refresh(grant.refresh_token.unwrap()).await.unwrap().unwrap();
    // What nobody can say refuses this refresh only: the token is not spent.
    fs::rename("/etc/pam.d/stable-diffusion-rest", "/etc/pam.d/away").unwrap();
    let token = grant.refresh_token.unwrap();
    let copy = || RefreshToken::new(token.expose("used again in a test").to_owned());
    let fault = refresh(copy()).await.unwrap().unwrap_err();
    assert_eq!(fault.code, ErrorCode::PamAuthUnavailable);
    assert!(fault.retry_after.is_some());
    fs::rename("/etc/pam.d/away", "/etc/pam.d/stable-diffusion-rest").unwrap();
    let grant = refresh(copy()).await.unwrap().unwrap();
    in_shadow("leaver", |fields| fields[7] = "1".to_owned());
    let token = grant.refresh_token.unwrap();
    let copy = || RefreshToken::new(token.expose("used again in a test").to_owned());
    assert_eq!(refresh(copy()).await.unwrap().unwrap_err().code, ErrorCode::AccountExpired);
    assert_eq!(refresh(copy()).await.unwrap().unwrap_err().code, ErrorCode::TokenInvalid);
    let dead = client.introspect(deadline(PATIENCE), grant.token, RequestId::random()).await;
    assert_eq!(dead.unwrap().unwrap_err().code, ErrorCode::TokenRevoked);
}

/// A login that ends with an expired password goes on as its change; who walks away keeps the old password.
async fn expired_passwords(setup: &Setup<'_>) {
    let flags = ["--chauthtok-socket", "DIR/chauthtok.sock"];
    // Long enough for a busy machine; the silence below lasts as long.
    let config = "throttle = false\nstep_deadline_seconds = 6";
    let changing = Setup { service: "changing", flags: &flags, config, ..*setup };
    let stack = Stack::start(&changing).unwrap();
    let client = stack.client().await;
    let shadow = || fs::read_to_string("/etc/shadow").unwrap();
    let before = shadow();
    let asked = async |password| {
        let mut talk = Talk::begin(&client, begin("changer", password)).await.unwrap();
        while matches!(talk.step.state, LoginState::Running) {
            talk.poll().await.unwrap();
        }
        talk
    };
    let prompt = |talk: &Talk| match &talk.step.state {
        LoginState::Waiting { prompts } => prompts[0].text.clone(),
        other => panic!("{other:?}; {}", stack.log()),
    };
    // Abandoned: by a cancel, and by silence.
    let talk = asked(Some("right horse")).await;
    assert!(prompt(&talk).contains("password"), "{:?}", talk.step);
    assert!(
        talk.step.messages.iter().any(|message| message.text.contains("has expired")),
        "{:?}",
        talk.step
    );
    client
        .cancel(deadline(PATIENCE), talk.reference(), RequestId::random())
        .await
        .unwrap()
        .unwrap();
    let talk = asked(Some("right horse")).await;
    let LoginState::Waiting { .. } = talk.step.state else { panic!("{:?}", talk.step) };
    let mut silent = talk;
    while !matches!(silent.step.state, LoginState::Failed(_)) {
        silent.poll().await.unwrap();
    }
    assert_eq!(shadow(), before, "the old password is what it was");
    assert_eq!(login(&client, "changer", "wrong").await.0, "AUTHENTICATION_FAILED");

    let mut talk = asked(Some("right horse")).await;
    let mut seen = Vec::new();
    while matches!(talk.step.state, LoginState::Waiting { .. }) {
        let text = prompt(&talk);
        let answer =
            if text.to_lowercase().contains("new") { "staple battery 9" } else { "right horse" };
        seen.push(text);
        assert!(seen.len() < 8, "{seen:?}");
        talk.respond(&[answer]).await.unwrap();
        while matches!(talk.step.state, LoginState::Running) {
            talk.poll().await.unwrap();
        }
    }
    eprintln!("changer was asked {seen:?}");
    let LoginState::Succeeded(grant) = talk.step.state else {
        panic!("{:?} after {seen:?}; {}", talk.step, stack.log())
    };
    assert_eq!(grant.username.as_str(), "changer");
    assert_ne!(shadow(), before);
    assert_eq!(login(&client, "changer", "right horse").await.0, "AUTHENTICATION_FAILED");
    assert_eq!(login(&client, "changer", "staple battery 9").await.0, "ok");
    // Without a program that could change it, the password has just expired.
    let flags = ["--chauthtok-socket", "DIR/nobody-listens"];
    let without = Stack::start(&Setup { service: "changing", flags: &flags, ..*setup }).unwrap();
    let (code, _) = login(&without.client().await, "mustchange", "right horse").await;
    assert_eq!(code, "CREDENTIAL_EXPIRED");
    let log = stack.log_with("expired_password_changed");
    assert!(log.contains("expired_password_changed"), "{log}");
    assert!(!log.contains("staple") && !log.contains("right horse"), "a password is in the log");
}
