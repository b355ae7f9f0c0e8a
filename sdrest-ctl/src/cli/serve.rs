//! The flags of `serve`. Names and defaults follow the table "Commands" of the HTTP and command contract, and so
//! the guides that the project follows.

use clap::Args;
use sdrest_proto::authd::AuthMode;
use std::{ffi::OsString, fmt, path::PathBuf, str::FromStr};

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    pub(crate) models: ModelArgs,
    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1")]
    pub(crate) host: String,
    /// Port to listen on; 0 takes a free one
    #[arg(long, default_value_t = 8080)]
    pub(crate) port: u16,
    /// HOST:PORT or unix:PATH, instead of --host and --port
    #[arg(long, value_name = "ADDRESS", conflicts_with_all = ["host", "port"])]
    pub(crate) listen: Option<String>,
    /// Where the sockets go (default: /run/sdrest as root, else below XDG_RUNTIME_DIR)
    #[arg(long, value_name = "DIR")]
    pub(crate) run_dir: Option<PathBuf>,
    /// Where the store, pictures and keys go (default: /var/lib/sdrest as root, else below XDG_STATE_HOME)
    #[arg(long, value_name = "DIR")]
    pub(crate) state_dir: Option<PathBuf>,
    /// How callers prove who they are: none, jwt, api-key, unix, pam or optional (default: none)
    #[arg(long, visible_alias = "auth-method", value_name = "METHOD", value_parser = AuthMode::from_str)]
    pub(crate) auth: Option<AuthMode>,
    /// The PAM service: a file of this name in /etc/pam.d
    #[arg(long, value_name = "NAME", default_value = "stable-diffusion-rest")]
    pub(crate) pam_service_name: String,
    /// Callers without credentials become guests
    #[arg(long)]
    pub(crate) enable_guest_access: bool,
    /// The realm in WWW-Authenticate (default: stable-diffusion-rest)
    #[arg(long, value_name = "NAME")]
    pub(crate) auth_realm: Option<String>,
    /// Prefixes that need no credentials, with commas between them
    #[arg(long, value_name = "P1,P2")]
    pub(crate) public_paths: Option<String>,
    /// The address that browsers use (default: the listen address)
    #[arg(long, value_name = "URL")]
    pub(crate) public_url: Option<String>,
    /// One more Host that requests may name
    #[arg(long, value_name = "HOST")]
    pub(crate) allowed_host: Vec<String>,
    /// Allow --auth none on an address that other machines can reach
    #[arg(long)]
    pub(crate) allow_open: bool,
    /// Sign tokens by HS256 with this secret of at least 32 bytes. Every user of this machine can see a command line:
    /// use --jwt-secret-file
    #[arg(
        long,
        value_name = "SECRET",
        allow_hyphen_values = true,
        conflicts_with = "jwt_secret_file"
    )]
    pub(crate) jwt_secret: Option<SecretText>,
    /// Sign tokens by HS256 with the secret in this file, which only its owner may read
    #[arg(long, value_name = "FILE")]
    pub(crate) jwt_secret_file: Option<PathBuf>,
    /// The sealed memory that --jwt-secret was moved to
    #[arg(long, hide = true, value_parser = clap::value_parser!(i32).range(3..), conflicts_with_all = ["jwt_secret", "jwt_secret_file"])]
    pub(crate) jwt_secret_fd: Option<i32>,
    /// Where users, API keys, revocations and the signing key go (default: in the state folder)
    #[arg(long, value_name = "DIR")]
    pub(crate) auth_data_dir: Option<PathBuf>,
    /// Life of an access token
    #[arg(long, value_name = "MINUTES", value_parser = clap::value_parser!(u32).range(1..=10_080))]
    pub(crate) jwt_expiration: Option<u32>,
    /// Where the worker computes: cpu or cuda:N (default: cpu)
    #[arg(long, value_name = "DEVICE")]
    pub(crate) device: Option<String>,
    /// CPU threads of the worker (default: all cores that this command may use)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub(crate) threads: Option<u32>,
    /// Log at level debug
    #[arg(long)]
    pub(crate) verbose: bool,
    /// Write the log there instead of standard error; the file is made with mode 0600
    #[arg(long, value_name = "FILE")]
    pub(crate) log_file: Option<PathBuf>,
    /// Deprecated: use --auth unix
    #[arg(long)]
    pub(crate) enable_unix_auth: bool,
    /// Deprecated: use --auth pam
    #[arg(long)]
    pub(crate) enable_pam_auth: bool,
}

/// Where models are.
#[derive(Debug, Args)]
pub(crate) struct ModelArgs {
    /// A folder that holds models, or is one (default: the demo model installed beside the programs)
    #[arg(long, value_name = "DIR")]
    pub(crate) models_dir: Vec<PathBuf>,
    /// The folder below --models-dir in which models are looked for, or an absolute path
    #[arg(long, value_name = "DIR")]
    pub(crate) checkpoints: Option<PathBuf>,
    /// Not used yet
    #[arg(long, value_name = "DIR")]
    pub(crate) lora_dir: Option<PathBuf>,
    /// Not used yet
    #[arg(long, value_name = "DIR")]
    pub(crate) vae_dir: Option<PathBuf>,
    /// Not used yet
    #[arg(long, value_name = "DIR")]
    pub(crate) embeddings_dir: Option<PathBuf>,
    /// Not used yet
    #[arg(long, value_name = "DIR")]
    pub(crate) controlnet_dir: Option<PathBuf>,
    /// Not used yet
    #[arg(long, value_name = "DIR")]
    pub(crate) upscaler_dir: Option<PathBuf>,
}

/// A secret on a command line, until it is moved away from there. It cannot be printed.
#[derive(Clone)]
pub(crate) struct SecretText(pub(crate) OsString);

impl From<OsString> for SecretText {
    fn from(text: OsString) -> Self {
        Self(text)
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(…)")
    }
}
