//! Flags and the table `[api]` of the configuration file, made into settings. Unknown keys are errors that
//! name the key. Users are looked up in /etc/passwd as text: this process asks no NSS.

use crate::{cli::Cli, edge::Authority, listener::Listen};
use anyhow::{Context, Result, bail};
use sdrest_proto::transport::TrustedUids;
use serde::Deserialize;
use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
};
use tracing::level_filters::LevelFilter;

const DEFAULT_FILE: &str = "/etc/sdrest/sdrest.toml";
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

/// The whole file; the tables of the other programs are theirs to check.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    api: Table,
    #[serde(default, rename = "authd")]
    _authd: toml::Table,
    #[serde(default, rename = "conversation")]
    _conversation: toml::Table,
    #[serde(default, rename = "worker")]
    _worker: toml::Table,
    #[serde(default, rename = "serve")]
    _serve: toml::Table,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Table {
    listen: Option<String>,
    authd_socket: Option<PathBuf>,
    authd_user: Option<String>,
    #[serde(default)]
    worker_socket: Vec<PathBuf>,
    worker_user: Option<String>,
    state_dir: Option<PathBuf>,
    public_url: Option<String>,
    #[serde(default)]
    allowed_host: Vec<String>,
    #[serde(default)]
    allow_open: bool,
    #[serde(default)]
    proxy_user: Vec<String>,
    no_sandbox: Option<String>,
    log_level: Option<String>,
}

impl Settings {
    /// Puts flags over the file over the defaults.
    pub fn load(cli: Cli) -> Result<Self> {
        let table = read(cli.config.as_deref())?;
        let passwd = std::fs::read_to_string(PASSWD).unwrap_or_default();
        let trusted = |user: Option<String>| trusted(user.as_deref(), &passwd);
        let listen = match (cli.listen, table.listen) {
            (Some(listen), _) => listen,
            (None, Some(text)) => text.parse().map_err(anyhow::Error::msg)?,
            (None, None) => Listen::Tcp((Ipv4Addr::LOCALHOST, 8080).into()),
        };
        let log_level = match (cli.verbose, cli.log_level, table.log_level) {
            (true, _, _) => LevelFilter::DEBUG,
            (false, Some(level), _) => level,
            (false, None, Some(text)) => {
                text.parse().with_context(|| format!("`log-level` is {text:?}"))?
            }
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

fn read(path: Option<&Path>) -> Result<Table> {
    let (path, must) = path.map_or((Path::new(DEFAULT_FILE), false), |path| (path, true));
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !must => {
            return Ok(Table::default());
        }
        Err(error) => {
            return Err(error).with_context(|| format!("{} cannot be read", path.display()));
        }
    };
    let file: File =
        toml::from_str(&text).with_context(|| format!("{} is not right", path.display()))?;
    Ok(file.api)
}

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
    if let Ok(uid) = user.parse() {
        return Ok(uid);
    }
    for line in passwd.lines() {
        let mut fields = line.split(':');
        if fields.next() == Some(user) {
            let uid = fields.nth(1).and_then(|uid| uid.parse().ok());
            return uid.with_context(|| format!("{PASSWD} has no number for the user {user:?}"));
        }
    }
    bail!("there is no user {user:?} in {PASSWD}; give its number")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn load(file: &str, flags: &[&str]) -> Result<Settings> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sdrest.toml");
        std::fs::write(&path, file).unwrap();
        let fixed = ["sdrest-api", "--config", path.to_str().unwrap()];
        Settings::load(Cli::parse_from(fixed.iter().chain(flags)))
    }

    #[test]
    fn flags_win_over_the_file() {
        let file = "[api]\nlisten = \"127.0.0.1:1\"\npublic-url = \"https://sd.example\"\n[worker]\nx = 1\n";
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
    fn users_by_name_and_number() {
        let passwd = "root:x:0:0::/:/bin/sh\nsdrest-authd:x:991:991::/:/bin/false\nodd:x:::\n";
        assert_eq!(uid_of("sdrest-authd", passwd).unwrap(), 991);
        assert_eq!(uid_of("12", passwd).unwrap(), 12);
        assert!(uid_of("odd", passwd).is_err());
        let error = uid_of("nobody-here", passwd).unwrap_err().to_string();
        assert!(error.contains("nobody-here"), "{error}");
    }
}
