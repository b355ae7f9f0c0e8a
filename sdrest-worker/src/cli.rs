//! The worker's command line. Every flag can also stand in the `[worker]` table of the configuration file
//! under the same name with underscores; the flag wins. Nothing here opens or decides anything.

use clap::Parser;
use sdrest_proto::bounds::ModelName;
use serde::Deserialize;
use std::{fmt, path::PathBuf, str::FromStr};
use tracing::level_filters::LevelFilter;

/// Draws pictures for sdrest-api over a Unix socket, with libtorch, in a sandbox without a network.
#[derive(Debug, Parser)]
#[command(name = "sdrest-worker", version, about)]
pub struct Cli {
    /// The socket to listen on, where no service manager passes one named `worker`.
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// A folder of model folders, or one model folder; may be given several times.
    #[arg(long = "models-dir", value_name = "DIR")]
    pub models_dirs: Vec<PathBuf>,
    /// Where to compute: `cpu` or `cuda:N`.
    #[arg(long)]
    pub device: Option<DeviceChoice>,
    /// Threads of one computation on the CPU [default: the processors that this machine is configured with].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=512))]
    pub threads: Option<u16>,
    /// Who may connect besides root: a user's name or number [default: the user that runs this].
    #[arg(long, value_name = "USER")]
    pub api_user: Option<String>,
    /// A model to have in memory before the first request.
    #[arg(long, value_name = "MODEL", value_parser = parse_model)]
    pub preload: Option<ModelName>,
    /// How many models may stay in memory at once [default: 2].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub max_models: Option<u16>,
    /// The configuration file [default: /etc/sdrest/sdrest.toml, if it exists].
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Serves without a sandbox of its own, and says so in the log and in `health`.
    #[arg(long, value_name = "REASON", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub no_sandbox: Option<String>,
    /// What to log: error, warn, info, debug or trace [default: info].
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<LevelFilter>,
    /// The same as `--log-level debug`.
    #[arg(long)]
    pub verbose: bool,
    /// For tests of the other programs: plain drawings instead of a model, one step each MS milliseconds.
    #[arg(long, hide = true, value_name = "MS", num_args = 0..=1, default_missing_value = "5", require_equals = true)]
    pub fake_engine: Option<u64>,
}

fn parse_model(text: &str) -> Result<ModelName, String> {
    ModelName::try_from(text.to_owned()).map_err(|error| error.to_string())
}

/// Where the worker computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum DeviceChoice {
    Cpu,
    /// The number of a CUDA device.
    Cuda(u8),
}

impl FromStr for DeviceChoice {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "cpu" {
            return Ok(Self::Cpu);
        }
        let number = if text == "cuda" { Some("0") } else { text.strip_prefix("cuda:") };
        number
            .and_then(|digits| digits.parse().ok())
            .filter(|number| *number < 64)
            .map(Self::Cuda)
            .ok_or_else(|| {
                format!("`device` must be `cpu` or `cuda:N` with N between 0 and 63, got {text:?}")
            })
    }
}

impl TryFrom<String> for DeviceChoice {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_read_and_refused() {
        assert_eq!("cpu".parse(), Ok(DeviceChoice::Cpu));
        assert_eq!("cuda".parse(), Ok(DeviceChoice::Cuda(0)));
        assert_eq!("cuda:3".parse(), Ok(DeviceChoice::Cuda(3)));
        for wrong in ["", "gpu", "cuda:", "cuda:64", "cuda:-1", "CPU"] {
            assert!(wrong.parse::<DeviceChoice>().is_err(), "{wrong:?} was taken");
        }
    }
}
