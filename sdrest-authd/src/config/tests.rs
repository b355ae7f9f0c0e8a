//! What wins over what, and that every mistake is named.

use super::*;
use clap::Parser;

fn load(toml: &str, flags: &[&str]) -> Result<Config, String> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sdrest.toml");
    fs::write(&file, toml).unwrap();
    let path = file.to_str().unwrap();
    let first = ["sdrest-authd", "--config", path];
    let all = first.iter().chain(flags);
    Config::load(Cli::try_parse_from(all).unwrap()).map_err(|error| error.to_string())
}

#[test]
fn flags_win_over_the_file_and_the_file_over_defaults() {
    let text = "[api]\nx = 1\n[authd]\nauth = \"none\"\njwt_expiration = 5\nroles = { operator = [\"video\"] }\n";
    let config = load(text, &["--jwt-expiration", "7", "--public-paths", "/a, /b"]).unwrap();
    assert_eq!((config.mode, config.token_lifetime.as_secs()), (AuthMode::None, 420));
    assert_eq!(config.public_paths, ["/a", "/b"]);
    assert_eq!(config.admission.roles.admin, ["sdrest-admin"]);
    assert_eq!(config.failure_floor, Duration::from_secs(2));
}

#[test]
fn a_list_of_flags_replaces_the_files_list_and_an_empty_one_is_a_choice() {
    let text = "[authd]\nadmin_users = [\"7\"]\nenable_guest_access = true\n";
    let config = load(text, &["--admin-user", "1", "--admin-user", "2"]).unwrap();
    assert_eq!((config.admin_uids, config.guests), (vec![1, 2], true));
    let config = load(text, &["--public-paths", ""]).unwrap();
    assert_eq!((config.admin_uids, config.public_paths.len()), (vec![7], 0));
    let config = load("", &["--enable-guest-access"]).unwrap();
    assert!(config.guests && config.public_paths == ["/api/health", "/api/status"]);
}

#[test]
fn every_mistake_is_named() {
    for (toml, flags, named) in [
        ("[authd]\nfoo = 1", &[][..], "foo"),
        ("[atuhd]", &[], "atuhd"),
        ("", &["--auth", "maybe"], "maybe"),
        ("[authd]\njwt_secret = \"x\"", &[], "jwt_secret"),
        ("[authd]\nauth = \"PAM\"", &[], "none, jwt, api-key, unix, pam or optional"),
        ("", &["--public-paths", "api"], "\"api\""),
        ("", &["--jwt-expiration", "0"], "`jwt-expiration` must be between 1 and 10080, got 0"),
        ("", &["--api-user", "no-such-user"], "no-such-user"),
        ("", &["--auth-realm", "a\"b"], "auth-realm"),
        ("[authd]\npassword_prompt = \"(\"", &[], "password_prompt"),
    ] {
        let error = load(toml, flags).unwrap_err();
        assert!(error.contains(named), "{error}");
    }
}

#[test]
fn what_belongs_together_comes_together() {
    let text =
        "[authd]\nauth = \"optional\"\nallow_groups = [\"staff\"]\ndeny_users = [\"mallory\"]\n";
    let config = load(text, &["--state-dir", "/a", "--jwt-secret-fd", "7"]).unwrap();
    assert!(config.guests, "optional implies guests");
    assert_eq!(
        (config.state_dir.as_path(), config.data_dir.as_path()),
        (Path::new("/a"), Path::new("/a"))
    );
    assert!(matches!(config.secret, Some(SecretSource::Descriptor(7))));
    assert!(config.admission.admits("bob", &["staff".to_owned()]));
    assert!(!config.admission.admits("mallory", &["staff".to_owned()]));
    let config = load("[authd]\nauth_data_dir = \"/b\"", &["--auth", "api-key"]).unwrap();
    assert_eq!((config.mode, config.data_dir.as_path()), (AuthMode::ApiKey, Path::new("/b")));
    assert!(!config.guests && config.secret.is_none() && config.change_socket.is_none());
}
