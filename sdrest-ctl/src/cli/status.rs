//! The flags of `status`, and the forms in which lists are shown.

use clap::{Args, ValueEnum};
use std::path::PathBuf;

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
