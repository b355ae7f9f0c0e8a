//! The address of the front end, as it was written.

use crate::cli::ServeArgs;
use anyhow::{Context, Result, ensure};
use std::{net::IpAddr, path::PathBuf};

/// Where the front end listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Listen {
    Tcp { host: String, port: u16 },
    Unix(PathBuf),
}

impl Listen {
    /// Whether only this machine reaches it.
    pub(crate) fn is_local(&self) -> bool {
        match self {
            Self::Unix(_) => true,
            Self::Tcp { host, .. } => {
                host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
            }
        }
    }
}

pub(crate) fn address(args: &ServeArgs) -> Result<Listen> {
    match &args.listen {
        Some(address) => parse_listen(address),
        None => Ok(Listen::Tcp { host: args.host.clone(), port: args.port }),
    }
}

fn parse_listen(address: &str) -> Result<Listen> {
    if let Some(path) = address.strip_prefix("unix:") {
        ensure!(path.starts_with('/'), "--listen unix:PATH needs an absolute path, got {path:?}");
        return Ok(Listen::Unix(PathBuf::from(path)));
    }
    let (host, port) =
        address.rsplit_once(':').context("--listen must be HOST:PORT or unix:PATH")?;
    let port = port
        .parse()
        .with_context(|| format!("--listen: the port must be 0 to 65535, got {port:?}"))?;
    Ok(Listen::Tcp { host: host.trim_matches(['[', ']']).to_owned(), port })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        let tcp = |host: &str, port| Listen::Tcp { host: host.to_owned(), port };
        assert_eq!(parse_listen("[::1]:80").unwrap(), tcp("::1", 80));
        assert_eq!(parse_listen("localhost:0").unwrap(), tcp("localhost", 0));
        assert_eq!(parse_listen("unix:/run/x.sock").unwrap(), Listen::Unix("/run/x.sock".into()));
        for wrong in ["unix:relative", "8080", "host:99999"] {
            assert!(parse_listen(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_this_machine_is_local() {
        for local in ["127.0.0.9:1", "[::1]:1", "localhost:1", "unix:/x"] {
            assert!(parse_listen(local).unwrap().is_local(), "{local}");
        }
        for other in ["0.0.0.0:1", "[::]:1", "example.org:1"] {
            assert!(!parse_listen(other).unwrap().is_local(), "{other}");
        }
    }
}
