//! What authd is told: flags win over the configuration file (toml(5), table `[authd]`), which wins over defaults.
//! Unknown keys are errors that name the key. What a front end may know of it goes out by `describe`.

use crate::{
    admission::Admission,
    cli::{Cli, Settings},
    conversation::PASSWORD_PROMPT,
    throttle::Policy,
};
use regex::Regex;
use sdrest_proto::{
    authd::AuthMode,
    configuration::{Configuration, ConfigurationError, Disk, uid_of},
};
use std::{
    fmt::Display,
    fs,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    time::Duration,
};
use thiserror::Error;
use tracing::Level;

/// The default PAM service and realm.
const SERVICE: &str = "stable-diffusion-rest";

#[derive(Debug, Error)]
pub(crate) enum ConfigError {
    #[error(transparent)]
    File(#[from] ConfigurationError),
    #[error("the flags cannot be read: {0}")]
    Flags(toml::ser::Error),
    #[error("`{name}` must be {bounds}, got {value}")]
    Value { name: &'static str, bounds: String, value: String },
    #[error("`{name}` must be a number or an account in /etc/passwd, got {user:?}")]
    User { name: &'static str, user: String },
}

/// Where the secret for HS256 is.
#[derive(Clone, Debug)]
pub(crate) enum SecretSource {
    File(PathBuf),
    Descriptor(u32),
}

#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) socket: PathBuf,
    pub(crate) admin_socket: PathBuf,
    pub(crate) conversation_socket: PathBuf,
    pub(crate) change_socket: Option<PathBuf>,
    pub(crate) state_dir: PathBuf,
    pub(crate) data_dir: PathBuf,
    pub(crate) mode: AuthMode,
    pub(crate) pam_service: String,
    pub(crate) realm: String,
    pub(crate) public_paths: Vec<String>,
    pub(crate) guests: bool,
    pub(crate) token_lifetime: Duration,
    /// Nothing: an Ed25519 key of our own.
    pub(crate) secret: Option<SecretSource>,
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
    pub(crate) admission: Admission,
    pub(crate) log_level: Level,
}

const DISK: Disk = Disk {
    text: |file| fs::read_to_string(file),
    files: |folder| fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect(),
};

/// The flags win over the files.
fn read(named: Option<&Path>, flags: &Settings) -> Result<Settings, ConfigError> {
    let flags = toml::Table::try_from(flags).map_err(ConfigError::Flags)?;
    Ok(Configuration::read("authd", named, &DISK)?.settings(flags)?)
}

impl Config {
    pub(crate) fn load(cli: Cli) -> Result<Self, ConfigError> {
        let set = read(cli.config.as_deref(), &cli.settings)?;
        let users = Users::read(&set)?;
        let realm = set.auth_realm.unwrap_or_else(|| SERVICE.to_owned());
        let mode = mode(set.auth.as_deref().unwrap_or("pam"))?;
        let state_dir = set.state_dir.unwrap_or_else(|| PathBuf::from("/var/lib/sdrest/authd"));
        // The descriptor is a flag: it wins over a file.
        let descriptor = cli.jwt_secret_fd.map(SecretSource::Descriptor);
        let path =
            |set: Option<PathBuf>, name| set.unwrap_or_else(|| Path::new("/run/sdrest").join(name));
        Ok(Self {
            socket: path(set.socket, "authd.sock"),
            admin_socket: path(set.admin_socket, "authd-admin.sock"),
            conversation_socket: path(set.conversation_socket, "conversation.sock"),
            change_socket: set.chauthtok_socket,
            data_dir: set.auth_data_dir.unwrap_or_else(|| state_dir.clone()),
            state_dir,
            secret: descriptor.or(set.jwt_secret_file.map(SecretSource::File)),
            // Who may come without credentials is a guest.
            guests: cli.guests
                || set.enable_guest_access.unwrap_or(false)
                || mode == AuthMode::Optional,
            mode,
            pam_service: set.pam_service_name.unwrap_or_else(|| SERVICE.to_owned()),
            issuer: set.issuer.unwrap_or_else(|| format!("urn:sdrest:{realm}")),
            realm: checked_realm(realm)?,
            public_paths: checked_paths(set.public_paths)?,
            token_lifetime: Duration::from_secs(
                60 * in_bounds("jwt-expiration", set.jwt_expiration, 60, 1..=10_080)?,
            ),
            api_uid: users.api,
            conversation_uid: users.conversation,
            admin_uids: users.admins,
            failure_floor: Duration::from_millis(in_bounds(
                "failure-floor-ms",
                set.failure_floor_ms,
                2000,
                1..=60_000,
            )?),
            step: seconds("step_deadline_seconds", set.step_deadline_seconds, 60)?,
            total: seconds("total_deadline_seconds", set.total_deadline_seconds, 180)?,
            password_prompt: pattern(set.password_prompt)?,
            expose_pam_errors: set.expose_pam_errors.unwrap_or(false),
            throttle: Policy { enabled: set.throttle.unwrap_or(true), ..Policy::default() },
            admission: Admission {
                allow_users: set.allow_users.unwrap_or_default(),
                allow_groups: set.allow_groups.unwrap_or_default(),
                deny_users: set.deny_users.unwrap_or_default(),
                deny_groups: set.deny_groups.unwrap_or_default(),
                roles: set.roles.unwrap_or_default(),
            },
            log_level: if cli.verbose { Level::DEBUG } else { level(set.log_level.as_deref())? },
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
    fn read(set: &Settings) -> Result<Self, ConfigError> {
        let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let uid = |name: &'static str, user: &str| {
            uid_of(user, &passwd).ok_or_else(|| ConfigError::User { name, user: user.to_owned() })
        };
        let named = |name, user: &Option<String>, default: u32| {
            user.as_deref().map_or(Ok(default), |user| uid(name, user))
        };
        let admins = set.admin_users.iter().flatten().map(|user| uid("admin-user", user));
        Ok(Self {
            api: named("api-user", &set.api_user, nix::unistd::geteuid().as_raw())?,
            conversation: named("conversation-user", &set.conversation_user, 0)?,
            admins: admins.collect::<Result<_, _>>()?,
        })
    }
}

fn wrong(name: &'static str, bounds: &str, value: impl Display) -> ConfigError {
    ConfigError::Value { name, bounds: bounds.to_owned(), value: value.to_string() }
}

fn pattern(configured: Option<String>) -> Result<Regex, ConfigError> {
    Regex::new(configured.as_deref().unwrap_or(PASSWORD_PROMPT))
        .map_err(|error| wrong("password_prompt", "a regular expression", error))
}

fn level(text: Option<&str>) -> Result<Level, ConfigError> {
    let (text, bounds) = (text.unwrap_or("info"), "error, warn, info, debug or trace");
    text.parse().map_err(|_| wrong("log-level", bounds, format_args!("{text:?}")))
}

fn mode(text: &str) -> Result<AuthMode, ConfigError> {
    let bounds = "none, jwt, api-key, unix, pam or optional";
    text.parse().map_err(|_| wrong("auth", bounds, format_args!("{text:?}")))
}

/// A deadline of a login.
fn seconds(name: &'static str, value: Option<u64>, default: u64) -> Result<Duration, ConfigError> {
    in_bounds(name, value, default, 1..=900).map(Duration::from_secs)
}

fn in_bounds(
    name: &'static str,
    value: Option<u64>,
    default: u64,
    bounds: RangeInclusive<u64>,
) -> Result<u64, ConfigError> {
    let value = value.unwrap_or(default);
    if bounds.contains(&value) {
        return Ok(value);
    }
    Err(wrong(name, &format!("between {} and {}", bounds.start(), bounds.end()), value))
}

/// The realm stands in a quoted string of a header (RFC 9110, section 5.6.4).
fn checked_realm(realm: String) -> Result<String, ConfigError> {
    let fits = |c| matches!(c, ' '..='~') && c != '"' && c != '\\';
    if (1..=128).contains(&realm.len()) && realm.chars().all(fits) {
        return Ok(realm);
    }
    let bounds = "1 to 128 printable ASCII characters without \" and \\";
    Err(wrong("auth-realm", bounds, format_args!("{realm:?}")))
}

fn checked_paths(paths: Option<Vec<String>>) -> Result<Vec<String>, ConfigError> {
    let paths = paths.unwrap_or_else(|| vec!["/api/health".to_owned(), "/api/status".to_owned()]);
    let paths = paths.iter().map(|path| path.trim().to_owned()).filter(|path| !path.is_empty());
    let paths: Vec<String> = paths.collect();
    match paths.iter().find(|path| !path.starts_with('/')) {
        None => Ok(paths),
        Some(bad) => {
            let bounds = "a list of paths that each begin with /";
            Err(wrong("public-paths", bounds, format_args!("{bad:?}")))
        }
    }
}

#[cfg(test)]
mod tests;
