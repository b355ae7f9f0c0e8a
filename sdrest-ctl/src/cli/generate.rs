//! The flags of `generate`: how to sign in, and the fields of a request by the names that HTTP gives them.

use super::server::{CallerArgs, ServerArgs};
use clap::Args;
use std::path::PathBuf;

#[derive(Debug, Args)]
pub(crate) struct GenerateArgs {
    /// What the picture shall show
    pub(crate) prompt: String,
    /// Where the picture goes; with several, -1, -2, … are put before the ending
    #[arg(short, long, value_name = "FILE.png")]
    pub(crate) output: PathBuf,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    #[command(flatten)]
    pub(crate) caller: CallerArgs,
    /// Use the API key in FILE instead of a sign-in (or the one in the environment's SDREST_API_KEY)
    #[arg(long, value_name = "FILE", conflicts_with_all = ["user", "password_stdin"])]
    pub(crate) api_key_file: Option<PathBuf>,
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
