//! authd's flags, and the table [authd] of its configuration file: one list, because most of both is the same.

use crate::roles::Roles;
use clap::{Args, Parser};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Signs people in, through PAM conversations or its own user database, and issues tokens; spawns nothing and loads no PAM module itself.
#[derive(Debug, Parser)]
#[command(name = "sdrest-authd", version)]
pub(crate) struct Cli {
    /// Configuration file; its table [authd]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) settings: Settings,
    /// Callers without credentials are guests
    #[arg(long = "enable-guest-access")]
    pub(crate) guests: bool,
    /// As --jwt-secret-file, with the secret in this open descriptor
    #[arg(long, value_name = "N", conflicts_with = "jwt_secret_file")]
    pub(crate) jwt_secret_fd: Option<u32>,
    /// Run without the sandbox; the reason is logged
    #[arg(long, value_name = "REASON")]
    pub(crate) no_sandbox: Option<String>,
    /// The same as --log-level debug
    #[arg(long)]
    pub(crate) verbose: bool,
}

/// What is a flag is a key of the file too, with `_` for `-`; the last ones are keys only.
#[derive(Debug, Default, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Settings {
    /// Where the front end connects
    #[arg(long, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
    /// Where administrators connect
    #[arg(long, value_name = "PATH")]
    pub(crate) admin_socket: Option<PathBuf>,
    /// Where one conversation program is started for each connection
    #[arg(long, value_name = "PATH")]
    pub(crate) conversation_socket: Option<PathBuf>,
    /// Where one conversation program that may change an expired password is started for each connection
    #[arg(long, value_name = "PATH")]
    pub(crate) chauthtok_socket: Option<PathBuf>,
    /// Throttle, and what --auth-data-dir holds where that is not given
    #[arg(long, value_name = "DIR")]
    pub(crate) state_dir: Option<PathBuf>,
    /// Users, API keys, sessions, revocations, signing key
    #[arg(long, value_name = "DIR")]
    pub(crate) auth_data_dir: Option<PathBuf>,
    /// none, jwt, api-key, unix, pam or optional
    #[arg(long, value_name = "METHOD")]
    pub(crate) auth: Option<String>,
    /// The file in /etc/pam.d that PAM logins use
    #[arg(long, value_name = "NAME")]
    pub(crate) pam_service_name: Option<String>,
    /// The realm in WWW-Authenticate
    #[arg(long, value_name = "NAME")]
    pub(crate) auth_realm: Option<String>,
    /// Paths that answer without credentials, separated by commas
    #[arg(long, value_name = "\"P1,P2\"", value_delimiter = ',')]
    pub(crate) public_paths: Option<Vec<String>>,
    /// How long an access token lasts, in minutes
    #[arg(long, value_name = "MINUTES")]
    pub(crate) jwt_expiration: Option<u64>,
    /// Sign with HS256 and the secret in this file, at least 32 bytes
    #[arg(long, value_name = "FILE")]
    pub(crate) jwt_secret_file: Option<PathBuf>,
    /// The account of the front end, by name or number
    #[arg(long, value_name = "USER")]
    pub(crate) api_user: Option<String>,
    /// Who may be at the far end of the conversation socket, besides root
    #[arg(long, value_name = "USER")]
    pub(crate) conversation_user: Option<String>,
    /// Who may use the admin socket, besides root; may be given several times
    #[arg(long = "admin-user", value_name = "USER")]
    pub(crate) admin_users: Option<Vec<String>>,
    /// Every failed login is answered this long after the last answer, in milliseconds
    #[arg(long, value_name = "N")]
    pub(crate) failure_floor_ms: Option<u64>,
    /// error, warn, info, debug or trace [default: info]
    #[arg(long, value_name = "LEVEL")]
    pub(crate) log_level: Option<String>,

    #[arg(skip)]
    pub(crate) enable_guest_access: Option<bool>,
    #[arg(skip)]
    pub(crate) issuer: Option<String>,
    #[arg(skip)]
    pub(crate) step_deadline_seconds: Option<u64>,
    #[arg(skip)]
    pub(crate) total_deadline_seconds: Option<u64>,
    #[arg(skip)]
    pub(crate) password_prompt: Option<String>,
    #[arg(skip)]
    pub(crate) expose_pam_errors: Option<bool>,
    #[arg(skip)]
    pub(crate) throttle: Option<bool>,
    #[arg(skip)]
    pub(crate) roles: Option<Roles>,
    #[arg(skip)]
    pub(crate) allow_users: Option<Vec<String>>,
    #[arg(skip)]
    pub(crate) allow_groups: Option<Vec<String>>,
    #[arg(skip)]
    pub(crate) deny_users: Option<Vec<String>>,
    #[arg(skip)]
    pub(crate) deny_groups: Option<Vec<String>>,
}
