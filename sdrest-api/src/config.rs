//! Flags and the table `[api]` of the configuration file, made into settings. Unknown keys are errors that
//! name the key. Users are looked up in /etc/passwd as text: this process asks no NSS.

use crate::{cli::Cli, edge::Authority, listener::Listen};
use anyhow::{Context, Result};
use sdrest_proto::{
    configuration::{self, Configuration, Disk},
    transport::TrustedUids,
};
use serde::Deserialize;
use std::{fs, net::Ipv4Addr, path::PathBuf};
use tracing::level_filters::LevelFilter;

const PASSWD: &str = "/etc/passwd";

/// All that `main` needs.
#[derive(Debug)]
pub struct Settings {
    pub listen: Listen,
    pub authd_socket: PathBuf,
    pub authd_trusted: TrustedUids,
    pub worker_sockets: Vec<PathBuf>,
    pub worker_trusted: TrustedUids,
    pub state_dir: PathBuf,
    pub public: Option<Authority>,
    pub allowed_hosts: Vec<Authority>,
    pub allow_open: bool,
    /// The uids that connect on behalf of others.
    pub proxies: Vec<u32>,
    /// Why there is to be no sandbox.
    pub no_sandbox: Option<String>,
    pub log_level: LevelFilter,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Table {
    listen: Option<String>,
    authd_socket: Option<PathBuf>,
    authd_user: Option<String>,
    worker_socket: Vec<PathBuf>,
    worker_user: Option<String>,
    state_dir: Option<PathBuf>,
    public_url: Option<String>,
    allowed_host: Vec<String>,
    allow_open: bool,
    proxy_user: Vec<String>,
    no_sandbox: Option<String>,
    log_level: Option<String>,
}

impl Settings {
    /// Puts flags over the file over the defaults.
    pub fn load(cli: Cli) -> Result<Self> {
        let files = Configuration::read("api", cli.config.as_deref(), &DISK)?;
        let table: Table = files.settings(toml::Table::new())?;
        let passwd = fs::read_to_string(PASSWD).unwrap_or_default();
        let trusted = |user: Option<String>| trusted(user.as_deref(), &passwd);
        let listen = match (cli.listen, table.listen) {
            (Some(listen), _) => listen,
            (None, Some(text)) => text.parse().map_err(anyhow::Error::msg)?,
            (None, None) => Listen::Tcp((Ipv4Addr::LOCALHOST, 8080).into()),
        };
        let log_level = match (cli.verbose, cli.log_level, table.log_level) {
            (true, _, _) => LevelFilter::DEBUG,
            (false, Some(level), _) => level,
            (false, None, Some(text)) => text.parse().ok().with_context(|| {
                format!("`log_level` must be error, warn, info, debug or trace, got {text:?}")
            })?,
            (false, None, None) => LevelFilter::INFO,
        };
        let hosts = if cli.allowed_host.is_empty() { table.allowed_host } else { cli.allowed_host };
        let proxies = if cli.proxy_user.is_empty() { table.proxy_user } else { cli.proxy_user };
        let workers =
            if cli.worker_socket.is_empty() { table.worker_socket } else { cli.worker_socket };
        Ok(Self {
            listen,
            authd_socket: cli
                .authd_socket
                .or(table.authd_socket)
                .unwrap_or("/run/sdrest/authd.sock".into()),
            authd_trusted: trusted(cli.authd_user.or(table.authd_user))?,
            worker_sockets: if workers.is_empty() {
                vec!["/run/sdrest/worker/0.sock".into()]
            } else {
                workers
            },
            worker_trusted: trusted(cli.worker_user.or(table.worker_user))?,
            state_dir: cli.state_dir.or(table.state_dir).unwrap_or("/var/lib/sdrest/api".into()),
            public: cli.public_url.or(table.public_url).map(|url| public(&url)).transpose()?,
            allowed_hosts: hosts.iter().map(|host| allowed_host(host)).collect::<Result<_>>()?,
            allow_open: cli.allow_open || table.allow_open,
            proxies: proxies.iter().map(|user| uid_of(user, &passwd)).collect::<Result<_>>()?,
            no_sandbox: cli.no_sandbox.or(table.no_sandbox),
            log_level,
        })
    }
}

const DISK: Disk = Disk {
    text: |file| fs::read_to_string(file),
    files: |folder| fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect(),
};

fn public(url: &str) -> Result<Authority> {
    Authority::of_url(url).with_context(|| {
        format!("`--public-url` must be http:// or https:// with a host, got {url:?}")
    })
}

fn allowed_host(host: &str) -> Result<Authority> {
    Authority::parse(host)
        .with_context(|| format!("`--allowed-host` must be a host name or address, got {host:?}"))
}

/// Root, and the user that was named or else the own one.
fn trusted(user: Option<&str>, passwd: &str) -> Result<TrustedUids> {
    let uid = match user {
        None => nix::unistd::geteuid().as_raw(),
        Some(user) => uid_of(user, passwd)?,
    };
    Ok(TrustedUids::new([0, uid]))
}

fn uid_of(user: &str, passwd: &str) -> Result<u32> {
    configuration::uid_of(user, passwd)
        .with_context(|| format!("there is no user {user:?} in {PASSWD}; give its number"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn load(file: &str, flags: &[&str]) -> Result<Settings> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sdrest.toml");
        fs::write(&path, file).unwrap();
        let fixed = ["sdrest-api", "--config", path.to_str().unwrap()];
        Settings::load(Cli::parse_from(fixed.iter().chain(flags)))
    }

    #[test]
    fn flags_win_over_the_file() {
        let file = "[api]\nlisten = \"127.0.0.1:1\"\npublic_url = \"https://sd.example\"\n[worker]\nx = 1\n";
        let settings = load(file, &["--listen", "127.0.0.1:2"]).unwrap();
        assert_eq!(settings.listen.to_string(), "127.0.0.1:2");
        assert_eq!(settings.public.unwrap().host, "sd.example");
        assert_eq!(settings.log_level, LevelFilter::INFO);
    }

    #[test]
    fn unknown_keys_are_named() {
        for file in ["[api]\nlissten = \"x\"", "[apy]\n"] {
            let error = format!("{:#}", load(file, &[]).unwrap_err());
            assert!(error.contains("lissten") || error.contains("apy"), "{error}");
        }
    }

    #[test]
    fn a_user_that_is_not_there_is_named() {
        let error = load("[api]\nauthd_user = \"nobody-here\"\n", &[]).unwrap_err().to_string();
        assert!(error.contains("nobody-here"), "{error}");
        assert!(load("", &["--worker-user", "12"]).unwrap().worker_trusted.contains(12));
    }

    #[test]
    fn the_log_is_as_loud_as_the_file_or_the_flag_says() {
        let file = "[api]\nlog_level = \"trace\"\n";
        assert_eq!(load(file, &[]).unwrap().log_level, LevelFilter::TRACE);
        assert_eq!(load(file, &["--log-level", "warn"]).unwrap().log_level, LevelFilter::WARN);
        assert_eq!(load(file, &["--verbose"]).unwrap().log_level, LevelFilter::DEBUG);
        let error = load("[api]\nlog_level = \"loud\"\n", &[]).unwrap_err().to_string();
        assert!(error.contains("log_level") && error.contains("loud"), "{error}");
    }
}
