//! The flags by which every command finds a server, and a caller says who they are.

use clap::Args;
use std::path::PathBuf;

/// Which server.
#[derive(Debug, Args)]
pub(crate) struct ServerArgs {
    /// The server, http://HOST:PORT or unix:/PATH (default: the one that `serve` or the units run here, else
    /// http://127.0.0.1:8080)
    #[arg(long, value_name = "URL", global = true)]
    pub(crate) url: Option<String>,
    /// The run folder of `serve`, to find the server and its sockets by
    #[arg(long, value_name = "DIR", global = true)]
    pub(crate) run_dir: Option<PathBuf>,
    /// Accepted as for `serve`; everything is found by the run folder
    #[arg(long, value_name = "DIR", global = true)]
    pub(crate) state_dir: Option<PathBuf>,
}

/// Where authd's admin socket is.
#[derive(Debug, Args)]
pub(crate) struct PlaceArgs {
    /// The run folder of `serve`, which holds authd-admin.sock (default: as for serve)
    #[arg(long, value_name = "DIR", global = true)]
    pub(crate) run_dir: Option<PathBuf>,
    /// Accepted as for `serve`; the socket is found by the run folder
    #[arg(long, value_name = "DIR", global = true)]
    pub(crate) state_dir: Option<PathBuf>,
}

/// Who signs in with a password.
#[derive(Debug, Args)]
pub(crate) struct CallerArgs {
    /// Who signs in (default: the name of the caller)
    #[arg(long, value_name = "NAME")]
    pub(crate) user: Option<String>,
    /// Read the answers to prompts from standard input, a line each
    #[arg(long)]
    pub(crate) password_stdin: bool,
}
