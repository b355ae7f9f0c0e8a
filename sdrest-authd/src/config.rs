//! What authd is told: flags win over the configuration file (toml(5), table `[authd]`), which wins over defaults.
//! Unknown keys are errors that name the key. What a front end may know of it goes out by `describe`.

use crate::{
    cli::Cli, conversation::PASSWORD_PROMPT, peer::uid_of, roles::Roles, throttle::Policy,
};
use regex::Regex;
use sdrest_proto::authd::AuthMode;
use serde::Deserialize;
use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};
use thiserror::Error;

/// The default PAM service and realm.
const SERVICE: &str = "stable-diffusion-rest";
const DEFAULT_FILE: &str = "/etc/sdrest/sdrest.toml";
/// Tables of the file that belong to the other programs.
const OTHERS: [&str; 4] = ["api", "worker", "conversation", "serve"];

#[derive(Debug, Error)]
pub(crate) enum ConfigError {
    #[error("{path}: {cause}")]
    File { path: String, cause: String },
    #[error("`{name}` must be {bounds}, got {value}")]
    Value { name: &'static str, bounds: &'static str, value: String },
    #[error("`{name}`: {cause}")]
    User { name: &'static str, cause: String },
}

/// The table `[authd]`, each key as optional as its flag.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct FileConfig {
    socket: Option<PathBuf>,
    admin_socket: Option<PathBuf>,
    conversation_socket: Option<PathBuf>,
    state_dir: Option<PathBuf>,
    auth: Option<String>,
    pam_service_name: Option<String>,
    auth_realm: Option<String>,
    public_paths: Option<Vec<String>>,
    enable_guest_access: Option<bool>,
    jwt_expiration: Option<u64>,
    issuer: Option<String>,
    api_user: Option<String>,
    conversation_user: Option<String>,
    admin_users: Option<Vec<String>>,
    failure_floor_ms: Option<u64>,
    step_deadline_seconds: Option<u64>,
    total_deadline_seconds: Option<u64>,
    password_prompt: Option<String>,
    expose_pam_errors: Option<bool>,
    throttle: Option<bool>,
    roles: Option<Roles>,
}

#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) socket: PathBuf,
    pub(crate) admin_socket: PathBuf,
    pub(crate) conversation_socket: PathBuf,
    pub(crate) state_dir: PathBuf,
    pub(crate) mode: AuthMode,
    pub(crate) pam_service: String,
    pub(crate) realm: String,
    pub(crate) public_paths: Vec<String>,
    pub(crate) guests: bool,
    pub(crate) token_lifetime: Duration,
    pub(crate) issuer: String,
    pub(crate) api_uid: u32,
    pub(crate) conversation_uid: u32,
    pub(crate) admin_uids: Vec<u32>,
    pub(crate) failure_floor: Duration,
    pub(crate) step: Duration,
    pub(crate) total: Duration,
    pub(crate) password_prompt: Regex,
    pub(crate) expose_pam_errors: bool,
    pub(crate) throttle: Policy,
    pub(crate) roles: Roles,
}

/// Reads `--config FILE`, or the default file and the `conf.d` beside it where they exist.
fn read(named: Option<&Path>) -> Result<FileConfig, ConfigError> {
    let mut table = toml::Table::new();
    let main = named.unwrap_or(Path::new(DEFAULT_FILE));
    if named.is_some() || main.exists() {
        merge(&mut table, main)?;
    }
    if named.is_none() {
        let entries = fs::read_dir(main.with_file_name("conf.d")).into_iter().flatten().flatten();
        let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        files.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
        files.sort();
        for file in files {
            merge(&mut table, &file)?;
        }
    }
    let failed = |cause: String| ConfigError::File { path: main.display().to_string(), cause };
    if let Some(key) = table.keys().find(|key| *key != "authd" && !OTHERS.contains(&key.as_str())) {
        return Err(failed(format!("unknown key `{key}`")));
    }
    let own = table.remove("authd").unwrap_or_else(|| toml::Table::new().into());
    own.try_into().map_err(|error: toml::de::Error| failed(error.message().to_owned()))
}

/// A later file's keys replace an earlier one's, table by table.
fn merge(into: &mut toml::Table, file: &Path) -> Result<(), ConfigError> {
    let failed = |cause: String| ConfigError::File { path: file.display().to_string(), cause };
    let text = fs::read_to_string(file).map_err(|error| failed(error.to_string()))?;
    let later: toml::Table =
        text.parse().map_err(|error: toml::de::Error| failed(error.to_string()))?;
    for (name, value) in later {
        match (into.get_mut(&name), value) {
            (Some(toml::Value::Table(before)), toml::Value::Table(after)) => before.extend(after),
            (_, value) => {
                into.insert(name, value);
            }
        }
    }
    Ok(())
}

impl Config {
    pub(crate) fn load(cli: Cli) -> Result<Self, ConfigError> {
        let file = read(cli.config.as_deref())?;
        let numbers = Numbers::read(&cli, &file)?;
        let users = Users::read(&cli, &file)?;
        let realm = cli.auth_realm.or(file.auth_realm).unwrap_or_else(|| SERVICE.to_owned());
        let public = cli.public_paths.map(|list| split(&list)).or(file.public_paths);
        let run = Path::new("/run/sdrest");
        let path = |cli: Option<PathBuf>, file: Option<PathBuf>, name| {
            cli.or(file).unwrap_or_else(|| run.join(name))
        };
        Ok(Self {
            socket: path(cli.socket, file.socket, "authd.sock"),
            admin_socket: path(cli.admin_socket, file.admin_socket, "authd-admin.sock"),
            conversation_socket: path(
                cli.conversation_socket,
                file.conversation_socket,
                "conversation.sock",
            ),
            state_dir: cli
                .state_dir
                .or(file.state_dir)
                .unwrap_or_else(|| "/var/lib/sdrest/authd".into()),
            mode: mode(cli.auth.or(file.auth).as_deref().unwrap_or("pam"))?,
            pam_service: cli
                .pam_service_name
                .or(file.pam_service_name)
                .unwrap_or_else(|| SERVICE.to_owned()),
            issuer: file.issuer.unwrap_or_else(|| format!("urn:sdrest:{realm}")),
            realm: checked_realm(realm)?,
            public_paths: checked_paths(public)?,
            guests: cli.enable_guest_access || file.enable_guest_access.unwrap_or(false),
            token_lifetime: Duration::from_secs(numbers.minutes * 60),
            api_uid: users.api,
            conversation_uid: users.conversation,
            admin_uids: users.admins,
            failure_floor: Duration::from_millis(numbers.floor),
            step: Duration::from_secs(numbers.step),
            total: Duration::from_secs(numbers.total),
            password_prompt: pattern(file.password_prompt)?,
            expose_pam_errors: file.expose_pam_errors.unwrap_or(false),
            throttle: Policy { enabled: file.throttle.unwrap_or(true), ..Policy::default() },
            roles: file.roles.unwrap_or_default(),
        })
    }
}

/// Lifetimes and deadlines, in bounds.
struct Numbers {
    minutes: u64,
    floor: u64,
    step: u64,
    total: u64,
}

impl Numbers {
    fn read(cli: &Cli, file: &FileConfig) -> Result<Self, ConfigError> {
        Ok(Self {
            minutes: in_bounds(
                "jwt-expiration",
                cli.jwt_expiration.or(file.jwt_expiration),
                60,
                (1, 10_080),
            )?,
            floor: in_bounds(
                "failure-floor-ms",
                cli.failure_floor_ms.or(file.failure_floor_ms),
                2000,
                (1, 60_000),
            )?,
            step: in_bounds("step_deadline_seconds", file.step_deadline_seconds, 60, (1, 900))?,
            total: in_bounds("total_deadline_seconds", file.total_deadline_seconds, 180, (1, 900))?,
        })
    }
}

/// Who may be at the other ends, by uid.
struct Users {
    api: u32,
    conversation: u32,
    admins: Vec<u32>,
}

impl Users {
    fn read(cli: &Cli, file: &FileConfig) -> Result<Self, ConfigError> {
        let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let uid = |name: &'static str, user: &str| {
            uid_of(user, &passwd).map_err(|cause| ConfigError::User { name, cause })
        };
        let named = |name, cli: &Option<String>, file: &Option<String>, default: u32| {
            cli.as_deref().or(file.as_deref()).map_or(Ok(default), |user| uid(name, user))
        };
        let from_file = file.admin_users.as_deref().unwrap_or_default();
        let admins = if cli.admin_user.is_empty() { from_file } else { &cli.admin_user };
        let own = nix::unistd::geteuid().as_raw();
        Ok(Self {
            api: named("api-user", &cli.api_user, &file.api_user, own)?,
            conversation: named(
                "conversation-user",
                &cli.conversation_user,
                &file.conversation_user,
                0,
            )?,
            admins: admins.iter().map(|user| uid("admin-user", user)).collect::<Result<_, _>>()?,
        })
    }
}

fn pattern(configured: Option<String>) -> Result<Regex, ConfigError> {
    Regex::new(configured.as_deref().unwrap_or(PASSWORD_PROMPT)).map_err(|error| {
        ConfigError::Value {
            name: "password_prompt",
            bounds: "a regular expression",
            value: error.to_string(),
        }
    })
}

fn mode(text: &str) -> Result<AuthMode, ConfigError> {
    match text {
        "none" => Ok(AuthMode::None),
        "pam" => Ok(AuthMode::Pam),
        other => Err(ConfigError::Value {
            name: "auth",
            bounds: "none or pam",
            value: format!("`{other}`"),
        }),
    }
}

fn in_bounds(
    name: &'static str,
    value: Option<u64>,
    default: u64,
    (low, high): (u64, u64),
) -> Result<u64, ConfigError> {
    let value = value.unwrap_or(default);
    if (low..=high).contains(&value) {
        return Ok(value);
    }
    Err(ConfigError::Value {
        name,
        bounds: "in its range",
        value: format!("{value}, not in {low} to {high}"),
    })
}

/// The realm stands in a quoted string of a header (RFC 9110, section 5.6.4).
fn checked_realm(realm: String) -> Result<String, ConfigError> {
    if (1..=128).contains(&realm.len())
        && realm.chars().all(|c| matches!(c, ' '..='~') && c != '"' && c != '\\')
    {
        return Ok(realm);
    }
    let bounds = "1 to 128 printable ASCII characters without \" and \\";
    Err(ConfigError::Value { name: "auth-realm", bounds, value: format!("{realm:?}") })
}

fn split(list: &str) -> Vec<String> {
    list.split(',').map(str::trim).filter(|path| !path.is_empty()).map(str::to_owned).collect()
}

fn checked_paths(paths: Option<Vec<String>>) -> Result<Vec<String>, ConfigError> {
    let paths = paths.unwrap_or_else(|| vec!["/api/health".to_owned(), "/api/status".to_owned()]);
    match paths.iter().find(|path| !path.starts_with('/')) {
        None => Ok(paths),
        Some(bad) => Err(ConfigError::Value {
            name: "public-paths",
            bounds: "a list of paths that each begin with /",
            value: format!("{bad:?}"),
        }),
    }
}

#[cfg(test)]
mod tests {
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
        assert_eq!(config.roles.admin, ["sdrest-admin"]);
        assert_eq!(config.failure_floor, Duration::from_secs(2));
    }

    #[test]
    fn every_mistake_is_named() {
        for (toml, flags, named) in [
            ("[authd]\nfoo = 1", &[][..], "foo"),
            ("[atuhd]", &[], "atuhd"),
            ("", &["--auth", "maybe"], "maybe"),
            ("", &["--public-paths", "api"], "\"api\""),
            ("", &["--jwt-expiration", "0"], "1 to 10080"),
            ("", &["--api-user", "no-such-user"], "no-such-user"),
            ("", &["--auth-realm", "a\"b"], "auth-realm"),
            ("[authd]\npassword_prompt = \"(\"", &[], "password_prompt"),
        ] {
            let error = load(toml, flags).unwrap_err();
            assert!(error.contains(named), "{error}");
        }
    }
}
