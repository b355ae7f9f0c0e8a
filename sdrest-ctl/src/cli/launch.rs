//! The hidden subcommands that `serve` calls itself by: what happens between fork and exec. Nobody else writes them.

use clap::Args;
use std::{ffi::OsString, path::PathBuf};

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
    /// Stay in the network of the caller
    #[arg(long)]
    pub(crate) keep_network: bool,
    /// A descriptor that holds a secret: the program finds it at a fixed number
    #[arg(long, value_parser = clap::value_parser!(i32).range(3..))]
    pub(crate) secret_fd: Option<i32>,
    #[arg(last = true, required = true)]
    pub(crate) program: Vec<OsString>,
}

/// One login: standard input is the connection.
#[derive(Debug, Args)]
pub(crate) struct LaunchConversationArgs {
    #[arg(long)]
    pub(crate) parent: i32,
    /// A folder or a socket that the login must not see; only root can hide one
    #[arg(long)]
    pub(crate) hide: Vec<PathBuf>,
    /// A folder that the login must not write; only root can say so
    #[arg(long)]
    pub(crate) read_only: Vec<PathBuf>,
    /// The longest life of the login in seconds
    #[arg(long)]
    pub(crate) seconds: u64,
    /// Use a PID namespace and a mount namespace of its own; needs root
    #[arg(long)]
    pub(crate) own_namespaces: bool,
    #[arg(last = true, required = true)]
    pub(crate) program: Vec<OsString>,
}

/// The first process of a login's PID namespace: standard output is a pipe that its parent holds.
#[derive(Debug, Args)]
pub(crate) struct LaunchFirstArgs {
    #[arg(long)]
    pub(crate) mount_proc: bool,
    #[arg(last = true, required = true)]
    pub(crate) program: Vec<OsString>,
}
