//! Runs `sdrest-probe` and finds the references. A probe that is not built fails every test and says how
//! to build it.

use crate::tensors::{self, Array, Tensors};
use std::{
    ffi::{OsStr, OsString},
    fs,
    path::{Path, PathBuf},
    process::Command,
};
use tempfile::TempDir;

/// What was recorded.
pub(crate) fn data(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/data").join(file)
}

pub(crate) fn json(file: &str) -> serde_json::Value {
    let path = data(file);
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// A model's folder by the name that the references use.
pub(crate) fn model(name: &str) -> PathBuf {
    match name {
        "demo" => harness::programs::demo_model(),
        tiny => Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/models").join(tiny),
    }
}

/// One call of the probe, being put together.
pub(crate) struct Call {
    folder: TempDir,
    arguments: Vec<OsString>,
}

impl Call {
    pub(crate) fn new(subcommand: &str) -> Self {
        Self {
            folder: TempDir::new().expect("a temporary folder"),
            arguments: vec![subcommand.into()],
        }
    }

    pub(crate) fn with(mut self, option: &str, value: impl AsRef<OsStr>) -> Self {
        self.arguments.extend([format!("--{option}").into(), value.as_ref().to_owned()]);
        self
    }

    pub(crate) fn with_tensors(self, tensors: &[(&str, &Array)]) -> Self {
        let path = self.folder.path().join("in.safetensors");
        tensors::write(&path, tensors);
        self.with("in", path)
    }

    pub(crate) fn with_text(self, text: &str) -> Self {
        let path = self.folder.path().join("in.json");
        fs::write(&path, text).expect("a file in a temporary folder");
        self.with("in", path)
    }

    /// What the probe wrote, or what it said.
    pub(crate) fn run(self) -> Result<Vec<u8>, String> {
        let out = self.folder.path().join("out");
        let program = harness::programs::find("sdrest-probe").unwrap_or_else(|e| panic!("{e}"));
        let call = self.with("out", &out);
        let answer =
            Command::new(program).args(&call.arguments).output().expect("sdrest-probe starts");
        let said = String::from_utf8_lossy(&answer.stderr).trim().to_owned();
        match answer.status.code() {
            Some(0) => fs::read(&out).map_err(|e| format!("sdrest-probe wrote nothing: {e}")),
            Some(1) => Err(said),
            other => panic!("sdrest-probe {:?} ended with {other:?}: {said}", call.arguments),
        }
    }

    /// What the probe wrote, as tensors.
    pub(crate) fn tensors(self) -> Result<Tensors, String> {
        tensors::decode(&self.run()?).map_err(|e| e.to_string())
    }
}
