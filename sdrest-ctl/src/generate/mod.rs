//! `sdrestctl generate`: one prompt from the command line to a PNG, through the HTTP interface that everybody
//! uses: sign in, submit, watch, save, sign out. A password is read without echo, sent once and kept nowhere.

mod bar;
mod client;
mod job;
mod login;
mod terminal;

use crate::{cli::GenerateArgs, paths, record};
use anyhow::{Context, Result, ensure};
use client::Client;
use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

const DEFAULT_URL: &str = "http://127.0.0.1:8080";

pub(crate) fn run(args: GenerateArgs) -> Result<()> {
    let folder = args
        .output
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    ensure!(folder.is_dir(), "the folder {} of --output does not exist", folder.display());
    let mut client = Client::new(&url(&args)?);
    let signed_in = login::sign_in(&mut client, &args)?;
    let outcome = draw(&client, &args);
    if signed_in {
        // The token expires by itself; a failed sign-out must not hide the outcome.
        if let Err(error) = client.post("/auth/logout", &serde_json::json!({})) {
            terminal::tell(&format!("sdrestctl: signing out failed: {error:#}"));
        }
    }
    outcome
}

fn url(args: &GenerateArgs) -> Result<String> {
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

fn draw(client: &Client, args: &GenerateArgs) -> Result<()> {
    job::wait_for_model(client)?;
    let begun = Instant::now();
    let mut job = job::submit(client, &job::body(args))?;
    job::watch(client, &mut job)?;
    let seconds = begun.elapsed().as_secs_f64();
    let several = job.images.len() > 1;
    for (index, image) in job.images.iter().enumerate() {
        let png = client.bytes(&image.url).context("the picture cannot be fetched")?;
        ensure!(png.starts_with(b"\x89PNG\r\n\x1a\n"), "the server's picture is not a PNG");
        let path = if several { numbered(&args.output, index + 1) } else { args.output.clone() };
        fs::write(&path, png).with_context(|| format!("{} cannot be written", path.display()))?;
        terminal::say(&format!("saved {} (seed {})", path.display(), image.seed));
    }
    terminal::say(&job.summary(seconds));
    Ok(())
}

/// `a.png` becomes `a-1.png`.
fn numbered(path: &Path, number: usize) -> PathBuf {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let ending =
        path.extension().map(|ending| format!(".{}", ending.to_string_lossy())).unwrap_or_default();
    path.with_file_name(format!("{stem}-{number}{ending}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_before_the_ending() {
        assert_eq!(numbered(Path::new("out/a.b.png"), 2), PathBuf::from("out/a.b-2.png"));
        assert_eq!(numbered(Path::new("plain"), 1), PathBuf::from("plain-1"));
    }
}
