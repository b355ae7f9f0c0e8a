//! Where the server is: as it was named, or as `serve` wrote it down in its run folder, or at the socket that the
//! units make.

use crate::{
    cli::ServerArgs,
    paths,
    record::{self, Record},
};
use anyhow::{Result, ensure};
use std::path::Path;

const DEFAULT_URL: &str = "http://127.0.0.1:8080";
/// As systemd/sdrest-api.socket says; in a folder of root's that few can enter.
const UNITS_SOCKET: &str = "/run/sdrest-http/http.sock";

/// `http://HOST:PORT` or `unix:PATH`, without a slash at the end.
pub(crate) fn url(args: &ServerArgs) -> Result<String> {
    let run_dir = args.run_dir.clone().unwrap_or_else(paths::default_run_dir);
    named_or_found(args.url.as_deref(), record::read(&run_dir).as_ref())
}

/// `named` is what the caller said, `record` what `serve` did.
pub(crate) fn named_or_found(named: Option<&str>, record: Option<&Record>) -> Result<String> {
    if let Some(url) = named {
        let spoken = url.starts_with("http://") || url.starts_with("unix:/");
        ensure!(spoken, "`--url` must be http://HOST:PORT or unix:/PATH, got {url:?}");
        return Ok(url.trim_end_matches('/').to_owned());
    }
    Ok(match record {
        Some(record) => record.url.clone(),
        None if Path::new(UNITS_SOCKET).exists() => format!("unix:{UNITS_SOCKET}"),
        None => DEFAULT_URL.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_is_not_spoken_is_named() {
        for url in ["http://localhost:80", "unix:/run/x.sock"] {
            assert_eq!(named_or_found(Some(url), None).unwrap(), url);
        }
        for url in ["https://example.org", "example.org", "unix:x.sock", ""] {
            let error = named_or_found(Some(url), None).unwrap_err().to_string();
            assert!(error.contains("http://HOST:PORT or unix:/PATH"), "{error}");
            assert!(error.contains(&format!("{url:?}")), "{error}");
        }
        assert_eq!(named_or_found(Some("http://h:1/"), None).unwrap(), "http://h:1");
    }
}
