//! `sdrestctl generate`: one prompt from the command line to a PNG, through the HTTP interface that everybody
//! uses: sign in (or give an API key), submit, watch, save, sign out.

mod bar;
mod job;

use crate::{
    cli::GenerateArgs,
    session::{api_key, client::Client, login, server, terminal},
};
use anyhow::{Context, Result, ensure};
use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

pub(crate) fn run(args: &GenerateArgs) -> Result<()> {
    let folder = args
        .output
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    ensure!(folder.is_dir(), "the folder {} of --output does not exist", folder.display());
    let mut client = Client::new(&server::url(&args.server)?);
    if let Some(key) = api_key::find(args.api_key_file.as_deref(), &args.caller)? {
        client.set_token(key.expose("sent to the server that it is for").to_owned());
        return draw(&client, args);
    }
    let signed_in = login::sign_in(&mut client, &args.caller)?;
    let outcome = draw(&client, args);
    if signed_in {
        login::sign_out(&client);
    }
    outcome
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
