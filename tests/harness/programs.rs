//! Where the built programs are: beside the test that runs, else in the target folder.

use anyhow::{Result, bail};
use std::{
    env,
    path::{Path, PathBuf},
};

/// The folder of this checkout.
pub fn checkout() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests).to_owned()
}

/// A program of sdrest, built in the release profile. `SDREST_PROGRAMS` names another folder.
pub fn find(name: &str) -> Result<PathBuf> {
    let folders = folders();
    for folder in &folders {
        let path = folder.join(name);
        if path.is_file() {
            return Ok(path);
        }
    }
    let looked: Vec<String> = folders.iter().map(|folder| folder.display().to_string()).collect();
    bail!("{name} is not built (looked in {}); run: cargo build --release", looked.join(", "))
}

/// A conversation program that was built without PAM; `tests/run.py` builds it.
pub fn without_pam() -> Result<PathBuf> {
    let build = "cargo build --release -p sdrest-conversation --no-default-features --target-dir target/no-pam";
    let path = checkout().join("target/no-pam/release/sdrest-conversation");
    if path.is_file() {
        return Ok(path);
    }
    bail!("there is no build without PAM; run: {build}")
}

fn folders() -> Vec<PathBuf> {
    let mut folders = Vec::new();
    folders.extend(env::var_os("SDREST_PROGRAMS").map(PathBuf::from));
    // A test binary lies in TARGET/release/deps.
    folders
        .extend(env::current_exe().ok().and_then(|exe| Some(exe.parent()?.parent()?.to_owned())));
    folders.extend(
        env::var_os("CARGO_TARGET_DIR").map(|target| PathBuf::from(target).join("release")),
    );
    folders.push(checkout().join("target/release"));
    folders
}

/// The demo model's folder.
pub fn demo_model() -> PathBuf {
    checkout().join("sdrest-worker/demo-model")
}
