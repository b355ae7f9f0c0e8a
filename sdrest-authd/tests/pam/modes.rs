//! Which mode signs in how, and what each refuses. The kernel's word is taken in one mode of one build only.

use crate::{
    internal::{JWT, PASSWORD, name, sign_in, skip_if_missing, user},
    stack::{PATIENCE, PLAIN, Setup, Stack, conversation_program, login, pam_matrix},
};
use sdrest_proto::{
    authd::{AuthdClient, SignIn},
    bounds::Username,
    error::ErrorCode,
    id::RequestId,
    identity::Role,
    login::{Grant, PeerLogin},
    transport::deadline,
};
use std::{fs, os::fd::AsRawFd, path::Path};

/// An account that every Debian has.
const GAMES: (&str, u32) = ("games", 5);

async fn login_peer(client: &AuthdClient, username: &str, uid: u32) -> Result<Grant, ErrorCode> {
    let login = PeerLogin {
        uid,
        username: Username::try_from(username.to_owned()).unwrap(),
        request: RequestId::random(),
    };
    let granted = client.login_peer(deadline(PATIENCE), login).await.unwrap();
    granted.map_err(|fault| fault.code)
}

#[tokio::test]
async fn the_kernels_word_counts_for_nothing_in_other_modes() {
    skip_if_missing!();
    let permit = "auth required pam_permit.so\naccount required pam_permit.so\n";
    let services = [("sdrest", permit.to_owned())];
    for mode in ["none", "jwt", "api-key", "pam", "optional", "unix"] {
        let stack = Stack::start(&Setup { mode, services: &services, ..PLAIN }).unwrap();
        let client = stack.client().await;
        let described = client.describe(deadline(PATIENCE)).await.unwrap();
        if described.sign_in == SignIn::Peer {
            eprintln!("mode {mode}: this build has no PAM");
            continue;
        }
        let refused = login_peer(&client, GAMES.0, GAMES.1).await;
        assert_eq!(refused.err(), Some(ErrorCode::Forbidden), "{mode}");
        let no_passwords = ["none", "api-key"].contains(&mode);
        assert_eq!(described.sign_in == SignIn::No, no_passwords, "{mode}");
        if no_passwords {
            assert_eq!(login(&client, "alice", PASSWORD).await.0, "PAM_AUTH_UNAVAILABLE");
        }
        assert_eq!(described.api_keys, mode != "none");
        assert_eq!(described.guests, mode == "optional");
    }
}

#[tokio::test]
async fn the_kernels_word_signs_in_where_there_is_no_pam() {
    skip_if_missing!();
    let stack = Stack::start(&Setup { mode: "unix", ..PLAIN });
    let Some(stack) = stack.ok() else {
        eprintln!("skipped: sdrest-conversation is built with PAM");
        return;
    };
    let client = stack.client().await;
    if client.describe(deadline(PATIENCE)).await.unwrap().sign_in != SignIn::Peer {
        eprintln!("skipped: sdrest-conversation is built with PAM");
        return;
    }
    let grant = login_peer(&client, GAMES.0, GAMES.1).await.unwrap();
    assert!(grant.refresh_token.is_none() && grant.role == Role::User);
    let wrong = login_peer(&client, "daemon", GAMES.1).await;
    assert_eq!(wrong.err(), Some(ErrorCode::AuthenticationFailed));
    assert_eq!(login_peer(&client, "root", 0).await.err(), Some(ErrorCode::AuthenticationFailed));
    let claims = client
        .introspect(deadline(PATIENCE), grant.token, RequestId::random())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(claims.amr, ["peer"]);
}

/// A service whose passwords are these lines of pam_matrix; nothing, and the reason, where the module is missing.
fn matrix(dir: &Path, passwords: &str) -> Option<[(&'static str, String); 1]> {
    let Some(module) = pam_matrix() else {
        eprintln!("skipped: pam_matrix.so is not installed (Debian package libpam-wrapper)");
        return None;
    };
    let file = dir.join("passwords");
    fs::write(&file, passwords).unwrap();
    let matrix = format!("required {} passdb={}", module.display(), file.display());
    Some([("sdrest", format!("auth {matrix}\naccount {matrix}\n"))])
}

#[tokio::test]
async fn optional_asks_the_internal_user_first_and_pam_where_there_is_none() {
    skip_if_missing!();
    let dir = tempfile::tempdir().unwrap();
    let Some(services) = matrix(dir.path(), "games:right:sdrest\n") else { return };
    let setup = Setup { mode: "optional", services: &services, ..PLAIN };
    let stack = Stack::start(&setup).unwrap();
    let admin = stack.admin().await;
    assert!(sign_in(&stack, "games", "right").await.subject.as_str().starts_with("unix:5:"));
    admin.add_user(deadline(PATIENCE), user("games", Role::User)).await.unwrap().unwrap();
    let internal = sign_in(&stack, "games", PASSWORD).await;
    assert!(internal.subject.as_str().starts_with("internal:"), "names never merge");
    let client = stack.client().await;
    assert_eq!(login(&client, "games", "right").await.0, "AUTHENTICATION_FAILED");
    assert_eq!(login(&client, "nobody-here", "right").await.0, "AUTHENTICATION_FAILED");
    admin.remove_user(deadline(PATIENCE), name("games")).await.unwrap().unwrap();
    assert_eq!(login(&client, "games", "right").await.0, "ok");

    // Without its service file only internal users sign in.
    let stack = Stack::start(&Setup { service: "missing", ..setup }).unwrap();
    let client = stack.client().await;
    assert!(!client.describe(deadline(PATIENCE)).await.unwrap().pam);
    assert_eq!(login(&client, "games", "right").await.0, "AUTHENTICATION_FAILED");
}

#[tokio::test]
async fn allowed_and_denied_accounts_are_told_apart_only_after_the_right_password() {
    skip_if_missing!();
    let dir = tempfile::tempdir().unwrap();
    let Some(services) = matrix(dir.path(), "games:right:sdrest\ndaemon:right:sdrest\n") else {
        return;
    };
    let config = "throttle = false\nallow_groups = [\"games\"]\n";
    let setup = Setup { services: &services, config, ..PLAIN };
    let mut stack = Stack::start(&setup).unwrap();
    let client = stack.client().await;
    assert_eq!(login(&client, "daemon", "right").await.0, "ACCOUNT_DENIED");
    assert_eq!(login(&client, "daemon", "wrong").await.0, "AUTHENTICATION_FAILED");
    let grant = sign_in(&stack, "games", "right").await;
    fs::write(stack.path("sdrest.toml"), "[authd]\ndeny_users = [\"games\"]\n").unwrap();
    stack.restart(&setup, |_| {});
    let client = stack.client().await;
    let refreshed = client
        .refresh(deadline(PATIENCE), grant.refresh_token.unwrap(), RequestId::random())
        .await
        .unwrap();
    assert_eq!(refreshed.unwrap_err().code, ErrorCode::AccountDenied);
    let dead = client.introspect(deadline(PATIENCE), grant.token, RequestId::random()).await;
    assert_eq!(dead.unwrap().unwrap_err().code, ErrorCode::TokenRevoked, "its session has ended");
}

#[tokio::test]
async fn a_secret_comes_in_a_descriptor_and_is_not_left_open() {
    skip_if_missing!();
    let secret =
        nix::sys::memfd::memfd_create(c"secret", nix::sys::memfd::MFdFlags::empty()).unwrap();
    nix::unistd::write(&secret, &[7; 40]).unwrap();
    let number = secret.as_raw_fd().to_string();
    let data = tempfile::tempdir().unwrap();
    let data = data.path().join("data");
    let flags = ["--jwt-secret-fd", &number, "--auth-data-dir", data.to_str().unwrap()];
    let stack = Stack::start(&Setup { flags: &flags, ..JWT }).unwrap();
    let admin = stack.admin().await;
    admin.add_user(deadline(PATIENCE), user("alice", Role::User)).await.unwrap().unwrap();
    let grant = sign_in(&stack, "alice", PASSWORD).await;
    let header = jsonwebtoken::decode_header(grant.token.expose("test")).unwrap();
    assert_eq!(header.alg, jsonwebtoken::Algorithm::HS256);
    assert!(data.join("users.json").exists() && data.join("logins.json").exists());
    assert!(!stack.path("state/users.json").exists() && !data.join("signing-key.der").exists());
    let open = fs::read_dir(format!("/proc/{}/fd", stack.authd())).unwrap().flatten();
    let left = open.filter_map(|fd| fs::read_link(fd.path()).ok());
    assert!(left.into_iter().all(|to| !to.to_string_lossy().contains("memfd")));
}
