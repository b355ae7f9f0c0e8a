//! Where things are when nobody says so: the other programs beside this one, the demo model, and the run
//! and state folders (the XDG base directory specification where the caller is not root).

use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};

/// The folder of this program, and so of the others.
pub(crate) fn programs() -> Result<PathBuf> {
    let own = std::env::current_exe().context("the path of this program cannot be read")?;
    Ok(own.parent().context("this program has no folder")?.to_owned())
}

/// One of sdrest's programs, which must lie beside this one.
pub(crate) fn program(name: &str) -> Result<PathBuf> {
    let path = programs()?.join(name);
    if !path.is_file() {
        bail!("the program {name} is missing: it must be {}", path.display());
    }
    Ok(path)
}

/// The model that comes with sdrest: installed in PREFIX/share beside PREFIX/bin, or in the checkout that
/// holds target/release.
pub(crate) fn demo_model() -> Result<PathBuf> {
    let programs = programs()?;
    let installed = programs.join("../share/sdrest/models");
    let checkout = programs.join("../../sdrest-worker/demo-model");
    for path in [&installed, &checkout] {
        if path.is_dir() {
            return path
                .canonicalize()
                .with_context(|| format!("{} cannot be opened", path.display()));
        }
    }
    bail!(
        "no models: neither {} nor {} exists; name a folder with --models-dir",
        installed.display(),
        checkout.display()
    )
}

/// The run folder of a caller who did not name one.
pub(crate) fn default_run_dir() -> PathBuf {
    if nix::unistd::geteuid().is_root() {
        return PathBuf::from("/run/sdrest");
    }
    match absolute_from_environment("XDG_RUNTIME_DIR") {
        Some(folder) => folder.join("sdrest"),
        None => PathBuf::from(format!("/tmp/sdrest-{}", nix::unistd::geteuid())),
    }
}

/// The state folder of a caller who did not name one.
pub(crate) fn default_state_dir() -> Result<PathBuf> {
    if nix::unistd::geteuid().is_root() {
        return Ok(PathBuf::from("/var/lib/sdrest"));
    }
    if let Some(folder) = absolute_from_environment("XDG_STATE_HOME") {
        return Ok(folder.join("sdrest"));
    }
    let home = absolute_from_environment("HOME")
        .context("HOME is not set; name a folder with --state-dir")?;
    Ok(home.join(".local/state/sdrest"))
}

fn absolute_from_environment(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute())
}

/// An absolute path without symbolic links; `path` must exist.
pub(crate) fn resolve(path: &Path) -> Result<PathBuf> {
    path.canonicalize().with_context(|| format!("{} cannot be opened", path.display()))
}
