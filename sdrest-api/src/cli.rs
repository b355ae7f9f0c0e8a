//! The flags of `sdrest-api`. A flag wins over the configuration file; what neither says has the default
//! that `config` gives.

use crate::listener::Listen;
use clap::Parser;
use std::path::PathBuf;
use tracing::level_filters::LevelFilter;

/// The HTTP front end of sdrest. It holds no key and reads no model; authd and the workers do.
#[derive(Debug, Parser)]
#[command(name = "sdrest-api", version, max_term_width = 100)]
pub struct Cli {
    /// Where to listen: ADDRESS:PORT or unix:PATH [default: 127.0.0.1:8080]; a socket that is handed over
    /// as `http` wins
    #[arg(long, value_name = "WHERE")]
    pub listen: Option<Listen>,
    /// The socket of authd [default: /run/sdrest/authd.sock]
    #[arg(long, value_name = "PATH")]
    pub authd_socket: Option<PathBuf>,
    /// Who may be at the other end of it, besides root: a name or a number [default: the own user]
    #[arg(long, value_name = "USER")]
    pub authd_user: Option<String>,
    /// The socket of a worker; repeatable [default: /run/sdrest/worker/0.sock]
    #[arg(long, value_name = "PATH")]
    pub worker_socket: Vec<PathBuf>,
    /// Who may be at the other end of those, besides root [default: the own user]
    #[arg(long, value_name = "USER")]
    pub worker_user: Option<String>,
    /// Where jobs and pictures are kept [default: /var/lib/sdrest/api]
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// The address that users type, where a proxy stands in front
    #[arg(long, value_name = "URL")]
    pub public_url: Option<String>,
    /// Another name that this server answers to; repeatable
    #[arg(long, value_name = "HOST")]
    pub allowed_host: Vec<String>,
    /// Who connects on behalf of others: its connections sign nobody in by the kernel's word; repeatable
    #[arg(long, value_name = "USER")]
    pub proxy_user: Vec<String>,
    /// Serve without authentication on an address that others can reach
    #[arg(long)]
    pub allow_open: bool,
    /// A configuration file with a table [api] [default: /etc/sdrest/sdrest.toml, if it is there]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Run without a sandbox, for this reason
    #[arg(long, value_name = "REASON")]
    pub no_sandbox: Option<String>,
    /// error, warn, info, debug or trace [default: info]
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<LevelFilter>,
    /// The same as --log-level debug
    #[arg(long)]
    pub verbose: bool,
}
