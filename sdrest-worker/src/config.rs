//! What the worker runs with: flags over the `[worker]` table of the configuration file over defaults. The
//! file belongs to all of sdrest; other programs' tables are left to them, but a table that no program has
//! and a key that the worker does not know are errors that name it. No tensor is named here.

use crate::cli::{Cli, DeviceChoice};
use nix::unistd::{SysconfVar, geteuid, sysconf};
use sdrest_proto::bounds::ModelName;
use serde::Deserialize;
use std::{
    fs, io,
    path::{Path, PathBuf},
};
use thiserror::Error;

const DEFAULT_FILE: &str = "/etc/sdrest/sdrest.toml";
const DEFAULT_SOCKET: &str = "/run/sdrest/worker/0.sock";
/// Where packages put models and where an administrator does; those that exist are used.
const DEFAULT_MODELS: [&str; 2] = ["/usr/share/sdrest/models", "/var/lib/sdrest/models"];
/// The tables that the programs of sdrest read.
const TABLES: [&str; 5] = ["api", "authd", "conversation", "ctl", "worker"];

/// Why the worker cannot start as it was told to.
#[derive(Debug, Error)]
pub enum ConfigError {
    #[error("cannot read {}: {source}", file.display())]
    Unreadable { file: PathBuf, source: io::Error },
    #[error("{}: {message}", file.display())]
    Wrong { file: PathBuf, message: String },
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
    /// Milliseconds a step of the drawing that stands in for a model, in tests.
    pub fake_engine: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct WorkerTable {
    socket: Option<PathBuf>,
    #[serde(default)]
    models_dirs: Vec<PathBuf>,
    device: Option<DeviceChoice>,
    threads: Option<u16>,
    api_user: Option<String>,
    preload: Option<ModelName>,
    max_models: Option<u16>,
}

impl Settings {
    /// Reads the file that `cli` names, or the default one if it is there, and puts the flags over it.
    pub fn decide(cli: Cli) -> Result<Self, ConfigError> {
        let table = read_table(cli.config.as_deref())?;
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
        Ok(Self {
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

fn read_table(named: Option<&Path>) -> Result<WorkerTable, ConfigError> {
    let file = named.unwrap_or(Path::new(DEFAULT_FILE));
    let text = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if named.is_none() && error.kind() == io::ErrorKind::NotFound => {
            return Ok(WorkerTable::default());
        }
        Err(source) => return Err(ConfigError::Unreadable { file: file.to_owned(), source }),
    };
    parse_table(&text).map_err(|message| ConfigError::Wrong { file: file.to_owned(), message })
}

fn parse_table(text: &str) -> Result<WorkerTable, String> {
    let mut tables: toml::Table =
        text.parse().map_err(|error: toml::de::Error| error.to_string())?;
    if let Some(unknown) = tables.keys().find(|name| !TABLES.contains(&name.as_str())) {
        return Err(format!("unknown table `{unknown}`; the tables are {}", TABLES.join(", ")));
    }
    match tables.remove("worker") {
        Some(table) => table
            .try_into()
            .map_err(|error: toml::de::Error| format!("[worker]: {}", error.message())),
        None => Ok(WorkerTable::default()),
    }
}

/// A user by number, or by name as /etc/passwd has it. The file is read as text: a worker loads no NSS
/// module.
fn uid_of(user: &str) -> Result<u32, ConfigError> {
    if let Ok(uid) = user.parse() {
        return Ok(uid);
    }
    let file = PathBuf::from("/etc/passwd");
    let passwd =
        fs::read_to_string(&file).map_err(|source| ConfigError::Unreadable { file, source })?;
    uid_in(&passwd, user).ok_or_else(|| ConfigError::NoSuchUser(user.to_owned()))
}

/// passwd(5): name, password, uid, and more, with colons between.
fn uid_in(passwd: &str, user: &str) -> Option<u32> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(user)).then(|| fields.nth(1)?.parse().ok()).flatten()
    })
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
    }

    #[test]
    fn users_are_found_by_name_and_by_number() {
        let passwd =
            "root:x:0:0:root:/root:/bin/sh\nsdrest-api:x:991:991::/nonexistent:/usr/sbin/nologin\n";
        assert_eq!(uid_in(passwd, "sdrest-api"), Some(991));
        assert_eq!(uid_in(passwd, "sdrest"), None);
        assert_eq!(uid_of("1234").unwrap(), 1234);
        let error = uid_of("no such user").unwrap_err();
        assert!(error.to_string().contains("no such user"), "{error}");
    }
}
