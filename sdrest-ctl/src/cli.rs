//! What can be written on the command line, and nothing of what it does. The names follow the table
//! "Commands" of the project's HTTP and command contract; what is not built yet is refused by name.

use clap::{Args, Parser, Subcommand, ValueEnum};
use sdrest_proto::authd::AuthMode;
use std::path::PathBuf;

/// Starts sdrest, looks at it, and draws pictures with it.
#[derive(Debug, Parser)]
#[command(name = "sdrestctl", version, propagate_version = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run everything on this machine in the foreground
    Serve(Box<ServeArgs>),
    /// Ask every socket for its health (exit code: 0 ok, 1 degraded, 2 down)
    #[command(visible_aliases = ["sockets", "check"])]
    Status(StatusArgs),
    /// Sign in, draw one prompt and save the picture
    Generate(Box<GenerateArgs>),
    #[command(hide = true)]
    Launch(LaunchArgs),
    #[command(hide = true)]
    LaunchConversation(LaunchConversationArgs),
    #[command(hide = true)]
    LaunchFirst(LaunchFirstArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// A folder that holds models, or is one (default: the demo model installed beside the programs)
    #[arg(long, value_name = "DIR")]
    pub(crate) models_dir: Vec<PathBuf>,
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
    /// How callers prove who they are: none or pam (default: none)
    #[arg(long, visible_alias = "auth-method", value_name = "METHOD", value_parser = auth_mode)]
    pub(crate) auth: Option<AuthMode>,
    /// The PAM service: a file of this name in /etc/pam.d
    #[arg(long, value_name = "NAME", default_value = "stable-diffusion-rest")]
    pub(crate) pam_service_name: String,
    /// Callers without credentials become guests
    #[arg(long)]
    pub(crate) enable_guest_access: bool,
    /// The realm in WWW-Authenticate
    #[arg(long, value_name = "NAME", default_value = "stable-diffusion-rest")]
    pub(crate) auth_realm: String,
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
    /// Life of an access token
    #[arg(long, value_name = "MINUTES", value_parser = clap::value_parser!(u32).range(1..=525_600))]
    pub(crate) jwt_expiration: Option<u32>,
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
    #[arg(long, hide = true)]
    pub(crate) enable_unix_auth: bool,
    /// Deprecated: use --auth pam
    #[arg(long, hide = true)]
    pub(crate) enable_pam_auth: bool,
}

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Where the sockets are (default: as for serve)
    #[arg(long, value_name = "DIR")]
    pub(crate) run_dir: Option<PathBuf>,
    /// Where the front end listens, if `serve` did not write it down in the run folder
    #[arg(long, value_name = "URL")]
    pub(crate) url: Option<String>,
    #[arg(short, long, value_enum, default_value_t = OutputFormat::Table)]
    pub(crate) output: OutputFormat,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum OutputFormat {
    Table,
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct GenerateArgs {
    /// What the picture shall show
    pub(crate) prompt: String,
    /// Where the picture goes; with several, -1, -2, … are put before the ending
    #[arg(short, long, value_name = "FILE.png")]
    pub(crate) output: PathBuf,
    /// The server (default: the one that `serve` runs here, else http://127.0.0.1:8080)
    #[arg(long)]
    pub(crate) url: Option<String>,
    /// The run folder of `serve`, to find the server by
    #[arg(long, value_name = "DIR")]
    pub(crate) run_dir: Option<PathBuf>,
    /// Who signs in (default: the name of the caller)
    #[arg(long, value_name = "NAME")]
    pub(crate) user: Option<String>,
    /// Read the answers to prompts from standard input, a line each
    #[arg(long)]
    pub(crate) password_stdin: bool,
    #[arg(long)]
    pub(crate) negative_prompt: Option<String>,
    #[arg(long)]
    pub(crate) model: Option<String>,
    #[arg(long)]
    pub(crate) steps: Option<u32>,
    #[arg(long)]
    pub(crate) width: Option<u32>,
    #[arg(long)]
    pub(crate) height: Option<u32>,
    #[arg(long)]
    pub(crate) cfg_scale: Option<f64>,
    /// -1 lets the server choose
    #[arg(long, allow_negative_numbers = true)]
    pub(crate) seed: Option<i64>,
    #[arg(long)]
    pub(crate) sampler: Option<String>,
    #[arg(long)]
    pub(crate) scheduler: Option<String>,
    #[arg(long)]
    pub(crate) batch_count: Option<u32>,
}

/// One daemon of `serve`: its listening sockets are standard input and standard output.
#[derive(Debug, Args)]
pub(crate) struct LaunchArgs {
    /// Who must still be the parent
    #[arg(long)]
    pub(crate) parent: i32,
    /// LISTEN_FDNAMES of standard input and standard output
    #[arg(long)]
    pub(crate) listen: Vec<String>,
    /// Build a file system view at this folder, and become --uid and --gid in it
    #[arg(long, requires = "uid", requires = "gid")]
    pub(crate) view: Option<PathBuf>,
    #[arg(long)]
    pub(crate) uid: Option<u32>,
    #[arg(long)]
    pub(crate) gid: Option<u32>,
    #[arg(long)]
    pub(crate) read_only: Vec<PathBuf>,
    #[arg(long)]
    pub(crate) writable: Vec<PathBuf>,
    #[arg(long)]
    pub(crate) socket: Vec<PathBuf>,
    #[arg(last = true, required = true)]
    pub(crate) program: Vec<std::ffi::OsString>,
}

/// One login: standard input is the connection.
#[derive(Debug, Args)]
pub(crate) struct LaunchConversationArgs {
    #[arg(long)]
    pub(crate) parent: i32,
    /// A folder that the login must not see; only root can hide one
    #[arg(long)]
    pub(crate) hide: Vec<PathBuf>,
    /// The longest life of the login in seconds
    #[arg(long)]
    pub(crate) seconds: u64,
    /// Use a PID namespace and a mount namespace of its own; needs root
    #[arg(long)]
    pub(crate) own_namespaces: bool,
    #[arg(last = true, required = true)]
    pub(crate) program: Vec<std::ffi::OsString>,
}

/// The first process of a login's PID namespace: standard output is a pipe that its parent holds.
#[derive(Debug, Args)]
pub(crate) struct LaunchFirstArgs {
    #[arg(long)]
    pub(crate) mount_proc: bool,
    #[arg(last = true, required = true)]
    pub(crate) program: Vec<std::ffi::OsString>,
}

fn auth_mode(text: &str) -> Result<AuthMode, String> {
    match text {
        "none" => Ok(AuthMode::None),
        "pam" => Ok(AuthMode::Pam),
        "jwt" | "api-key" | "unix" | "optional" => {
            Err(format!("`{text}` is not built yet; this version has none and pam"))
        }
        _ => {
            Err("the methods are none and pam (jwt, api-key, unix and optional are not built yet)"
                .to_owned())
        }
    }
}
