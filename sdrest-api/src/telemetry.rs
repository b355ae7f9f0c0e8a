//! The log: one line an event on standard error, each within the span of its request, so that
//! `request_id` is in it. What may not be in it: passwords, tokens, prompts, answers, queries, headers.

use anyhow::Result;
use std::io::IsTerminal;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::{EnvFilter, fmt};

/// Starts to log at `level` (error, warn, info, debug or trace). Libraries are heard from `warn` on.
pub fn start(level: LevelFilter) -> Result<()> {
    let libraries = level.min(LevelFilter::WARN);
    let filter =
        EnvFilter::try_new(format!("{libraries},sdrest_api={level},sdrest_proto={level}"))?;
    fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .try_init()
        .map_err(|error| anyhow::anyhow!("the log cannot be started: {error}"))
}
