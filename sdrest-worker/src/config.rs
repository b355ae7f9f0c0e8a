//! What the worker runs with: flags over the `[worker]` table of the configuration file over defaults. Keys
//! that the worker does not know are errors that name them. No tensor is named here.

use crate::cli::{Cli, DeviceChoice};
use nix::unistd::{SysconfVar, geteuid, sysconf};
use sdrest_proto::{
    bounds::ModelName,
    configuration::{self, Configuration, ConfigurationError, Disk},
};
use serde::Deserialize;
use std::{fs, path::PathBuf};
use thiserror::Error;
use tracing::level_filters::LevelFilter;

const DEFAULT_SOCKET: &str = "/run/sdrest/worker/0.sock";
/// Where packages put models and where an administrator does; those that exist are used.
const DEFAULT_MODELS: [&str; 2] = ["/usr/share/sdrest/models", "/var/lib/sdrest-models"];

/// Why the worker cannot start as it was told to.
#[derive(Debug, Error)]
pub enum ConfigError {
    #[error(transparent)]
    File(#[from] ConfigurationError),
    #[error("`log_level` must be error, warn, info, debug or trace, got {0:?}")]
    LogLevel(String),
    #[error("`api_user` must be a user of /etc/passwd or a number, got {0:?}")]
    NoSuchUser(String),
    #[error("`{parameter}` must be between {min} and {max}, got {value}")]
    OutOfBounds { parameter: &'static str, min: u16, max: u16, value: u16 },
    #[error(
        "no models folder: give `--models-dir DIR` (none of {} exists)",
        DEFAULT_MODELS.join(", ")
    )]
    NoModels,
}

/// Everything decided; nothing opened yet.
#[derive(Clone, Debug)]
pub struct Settings {
    pub socket: PathBuf,
    pub models_dirs: Vec<PathBuf>,
    pub device: DeviceChoice,
    /// Intra-op threads.
    pub threads: u16,
    /// Who may connect besides root.
    pub api_uid: u32,
    pub preload: Option<ModelName>,
    pub max_models: u16,
    pub no_sandbox: Option<String>,
    pub log_level: LevelFilter,
    /// Milliseconds a step of the drawing that stands in for a model, in tests.
    pub fake_engine: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct WorkerTable {
    socket: Option<PathBuf>,
    models_dirs: Vec<PathBuf>,
    device: Option<DeviceChoice>,
    threads: Option<u16>,
    api_user: Option<String>,
    preload: Option<ModelName>,
    max_models: Option<u16>,
    log_level: Option<String>,
}

impl Settings {
    /// Reads the file that `cli` names, or the default one if it is there, and puts the flags over it.
    pub fn decide(cli: Cli) -> Result<Self, ConfigError> {
        let files = Configuration::read("worker", cli.config.as_deref(), &DISK)?;
        let table: WorkerTable = files.settings(toml::Table::new())?;
        let flag_or_file =
            if cli.models_dirs.is_empty() { table.models_dirs } else { cli.models_dirs };
        let models_dirs = if flag_or_file.is_empty() { default_models() } else { flag_or_file };
        if models_dirs.is_empty() && cli.fake_engine.is_none() {
            return Err(ConfigError::NoModels);
        }
        let threads = match cli.threads.or(table.threads) {
            Some(threads) => within("threads", threads, 512)?,
            None => configured_processors(),
        };
        let api_uid = match cli.api_user.or(table.api_user) {
            Some(user) => uid_of(&user)?,
            None => geteuid().as_raw(),
        };
        let log_level = match (cli.verbose, cli.log_level, table.log_level) {
            (true, _, _) => LevelFilter::DEBUG,
            (false, Some(level), _) => level,
            (false, None, text) => level(text.as_deref().unwrap_or("info"))?,
        };
        Ok(Self {
            log_level,
            socket: cli.socket.or(table.socket).unwrap_or_else(|| DEFAULT_SOCKET.into()),
            models_dirs,
            device: cli.device.or(table.device).unwrap_or(DeviceChoice::Cpu),
            threads,
            api_uid,
            preload: cli.preload.or(table.preload),
            max_models: within("max_models", cli.max_models.or(table.max_models).unwrap_or(2), 64)?,
            no_sandbox: cli.no_sandbox,
            fake_engine: cli.fake_engine,
        })
    }
}

fn within(parameter: &'static str, value: u16, max: u16) -> Result<u16, ConfigError> {
    if (1..=max).contains(&value) {
        return Ok(value);
    }
    Err(ConfigError::OutOfBounds { parameter, min: 1, max, value })
}

fn default_models() -> Vec<PathBuf> {
    DEFAULT_MODELS.into_iter().map(PathBuf::from).filter(|folder| folder.is_dir()).collect()
}

/// The processors that the machine is configured with. Not those that this process may use at the moment:
/// the thread count decides the bytes of a picture, so it must not change from start to start.
fn configured_processors() -> u16 {
    let configured = sysconf(SysconfVar::_NPROCESSORS_CONF).ok().flatten().unwrap_or(1);
    u16::try_from(configured).unwrap_or(1).clamp(1, 64)
}

const DISK: Disk = Disk {
    text: |file| fs::read_to_string(file),
    files: |folder| fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect(),
};

fn level(text: &str) -> Result<LevelFilter, ConfigError> {
    text.parse().map_err(|_| ConfigError::LogLevel(text.to_owned()))
}

/// The file is read as text: a worker loads no NSS module.
fn uid_of(user: &str) -> Result<u32, ConfigError> {
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    configuration::uid_of(user, &passwd).ok_or_else(|| ConfigError::NoSuchUser(user.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[test]
    fn a_flag_wins_over_the_file_and_an_unknown_key_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("sdrest.toml");
        fs::write(
            &file,
            "[api]\nx = 1\n[worker]\nthreads = 3\nmodels_dirs = [\"/a\"]\ndevice = \"cuda:1\"\n",
        )
        .unwrap();
        let path = file.to_str().unwrap();
        let settings = Settings::decide(Cli::parse_from([
            "sdrest-worker",
            "--config",
            path,
            "--device",
            "cpu",
        ]))
        .unwrap();
        assert_eq!((settings.threads, settings.device), (3, DeviceChoice::Cpu));
        assert_eq!(settings.models_dirs, [PathBuf::from("/a")]);
        fs::write(&file, "[worker]\nthread = 3\n").unwrap();
        let error =
            Settings::decide(Cli::parse_from(["sdrest-worker", "--config", path])).unwrap_err();
        assert!(error.to_string().contains("`thread`"), "{error}");
        fs::write(&file, "[wroker]\n").unwrap();
        let error =
            Settings::decide(Cli::parse_from(["sdrest-worker", "--config", path])).unwrap_err();
        assert!(error.to_string().contains("`wroker`"), "{error}");
        fs::write(&file, "[worker]\nmodels_dirs = [\"/a\"]\nlog_level = \"trace\"\n").unwrap();
        let read = |more: &[&str]| {
            let first = ["sdrest-worker", "--config", path];
            Settings::decide(Cli::parse_from(first.iter().chain(more)))
        };
        assert_eq!(read(&[]).unwrap().log_level, LevelFilter::TRACE);
        assert_eq!(read(&["--log-level", "warn"]).unwrap().log_level, LevelFilter::WARN);
        fs::write(&file, "[worker]\nlog_level = \"loud\"\n").unwrap();
        assert!(read(&["--models-dir", "/a"]).unwrap_err().to_string().contains("loud"));
    }

    #[test]
    fn a_user_that_is_not_there_is_named() {
        assert_eq!(uid_of("1234").unwrap(), 1234);
        let error = uid_of("no such user").unwrap_err();
        assert!(error.to_string().contains("no such user"), "{error}");
    }
}
