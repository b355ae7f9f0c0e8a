//! Where the server is: as it was named, or as `serve` wrote it down in its run folder.

use crate::{cli::ServerArgs, paths, record};
use anyhow::{Result, ensure};

const DEFAULT_URL: &str = "http://127.0.0.1:8080";

/// Without a slash at the end.
pub(crate) fn url(args: &ServerArgs) -> Result<String> {
    if let Some(url) = &args.url {
        return Ok(url.trim_end_matches('/').to_owned());
    }
    let run_dir = args.run_dir.clone().unwrap_or_else(paths::default_run_dir);
    let url = record::read(&run_dir).map_or_else(|| DEFAULT_URL.to_owned(), |record| record.url);
    ensure!(
        url.starts_with("http"),
        "the server listens on {url}, which this command does not speak; give --url"
    );
    Ok(url)
}
