//! Which folders the worker looks for models in: --models-dir, or the --checkpoints folder below it. The other folders
//! of the guides' command lines are checked, and it is said that nothing uses them yet.

use crate::{cli::ModelArgs, paths};
use anyhow::{Context, Result, ensure};
use std::{
    fs,
    path::{Path, PathBuf},
};

pub(crate) fn folders(args: &ModelArgs, notes: &mut Vec<String>) -> Result<Vec<PathBuf>> {
    let roots: Vec<PathBuf> =
        args.models_dir.iter().map(|path| existing(path, "--models-dir")).collect::<Result<_>>()?;
    for (flag, folder, what) in unused(args) {
        if let Some(folder) = folder {
            let found = below(&roots, folder, flag)?;
            let names: Vec<String> = found.iter().map(|path| path.display().to_string()).collect();
            notes.push(format!("{flag} {}: not used yet, {what}", names.join(", ")));
        }
    }
    match &args.checkpoints {
        Some(folder) => below(&roots, folder, "--checkpoints"),
        None if roots.is_empty() => Ok(vec![paths::demo_model()?]),
        None => Ok(roots),
    }
}

fn unused(args: &ModelArgs) -> [(&'static str, &Option<PathBuf>, &'static str); 5] {
    [
        ("--lora-dir", &args.lora_dir, "LoRA weights are not built in this version"),
        ("--vae-dir", &args.vae_dir, "separate VAEs are not built in this version"),
        (
            "--embeddings-dir",
            &args.embeddings_dir,
            "textual inversion is not built in this version",
        ),
        ("--controlnet-dir", &args.controlnet_dir, "ControlNet is not built in this version"),
        ("--upscaler-dir", &args.upscaler_dir, "upscalers are not built in this version"),
    ]
}

/// An absolute folder as it is; another one below each models folder that has it, of which one must.
fn below(roots: &[PathBuf], folder: &Path, flag: &str) -> Result<Vec<PathBuf>> {
    if folder.is_absolute() {
        return Ok(vec![existing(folder, flag)?]);
    }
    ensure!(
        !roots.is_empty(),
        "{flag} {} is relative to --models-dir, which is not given; give it, or an absolute path",
        folder.display()
    );
    let found: Vec<&PathBuf> = roots.iter().filter(|root| root.join(folder).is_dir()).collect();
    if found.is_empty()
        && let Some(root) = roots.first()
    {
        return Ok(vec![existing(&root.join(folder), flag)?]);
    }
    found.into_iter().map(|root| existing(&root.join(folder), flag)).collect()
}

fn existing(path: &Path, flag: &str) -> Result<PathBuf> {
    let resolved = paths::resolve(path).with_context(|| flag.to_owned())?;
    let found = fs::metadata(&resolved).with_context(|| format!("{flag} {}", path.display()))?;
    ensure!(found.is_dir(), "{flag} {} is not a folder", path.display());
    Ok(resolved)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        models: ModelArgs,
    }

    fn given(words: &[&str]) -> (Result<Vec<PathBuf>>, Vec<String>) {
        let line = Line::try_parse_from(std::iter::once(&"x").chain(words)).unwrap();
        let mut notes = Vec::new();
        (folders(&line.models, &mut notes), notes)
    }

    #[test]
    fn checkpoints_are_looked_for_below_the_models_folder() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        fs::create_dir(root.join("checkpoints")).unwrap();
        fs::create_dir(root.join("lora")).unwrap();
        let name = root.to_str().unwrap();
        let (found, notes) =
            given(&["--models-dir", name, "--checkpoints", "checkpoints", "--lora-dir", "lora"]);
        assert_eq!(found.unwrap(), [root.join("checkpoints")]);
        assert!(notes.len() == 1 && notes[0].contains("--lora-dir"), "{notes:?}");
        let absolute = root.join("lora");
        let (found, _) = given(&["--checkpoints", absolute.to_str().unwrap()]);
        assert_eq!(found.unwrap(), [absolute]);
    }

    #[test]
    fn a_folder_that_is_not_there_is_refused_by_its_flag() {
        let dir = tempfile::tempdir().unwrap();
        let name = dir.path().to_str().unwrap();
        for (words, expected) in [
            (&["--models-dir", "/no/such"][..], "--models-dir"),
            (&["--models-dir", name, "--checkpoints", "gone"], "--checkpoints"),
            (&["--models-dir", name, "--vae-dir", "gone"], "--vae-dir"),
            (&["--checkpoints", "relative"], "relative to --models-dir"),
        ] {
            let error = format!("{:#}", given(words).0.unwrap_err());
            assert!(error.contains(expected), "{error}");
        }
    }
}
