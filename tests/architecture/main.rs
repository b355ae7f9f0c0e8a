//! The arrows of ARCHITECTURE.md, as tests: which crate may know which, which room may name what, where
//! `unsafe` may stand, and that no two files import each other, even through others.

#![allow(clippy::unwrap_used, reason = "a test may end at any failure")]

mod documents;
mod imports;
mod licences;
mod sources;
mod trusted_base;

use serde_json::Value;
use sources::{Source, rust_sources};
use std::{collections::BTreeSet, path::PathBuf, process::Command};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn cargo(arguments: &[&str]) -> String {
    let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(arguments)
        .arg("--offline")
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The packages of the workspace.
fn metadata() -> Value {
    serde_json::from_str(&cargo(&["metadata", "--format-version", "1", "--no-deps"])).unwrap()
}

/// The names of the packages that one package needs to run (not those that only its tests need).
fn dependencies(metadata: &Value, package: &str) -> BTreeSet<String> {
    let packages = metadata["packages"].as_array().unwrap();
    let package = packages
        .iter()
        .find(|p| p["name"] == package)
        .unwrap_or_else(|| panic!("no package {package}"));
    package["dependencies"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|dependency| dependency["kind"].is_null())
        .map(|dependency| dependency["name"].as_str().unwrap().to_owned())
        .collect()
}

/// Fails with one line for each source that breaks a rule.
fn all_hold(rule: &str, broken: impl Iterator<Item = String>) {
    let broken: Vec<String> = broken.collect();
    assert!(broken.is_empty(), "{rule}:\n  {}", broken.join("\n  "));
}

fn below<'a>(sources: &'a [Source], folders: &'a [&str]) -> impl Iterator<Item = &'a Source> {
    sources.iter().filter(|source| folders.iter().any(|folder| source.path.starts_with(folder)))
}

#[test]
fn programs_know_the_shared_words_and_not_each_other() {
    let metadata = metadata();
    let ours = [
        "sdrest-proto",
        "sdrest-sandbox",
        "sdrest-api",
        "sdrest-authd",
        "sdrest-conversation",
        "sdrest-worker",
        "sdrest-ctl",
        "torch-shim",
    ];
    for (package, may) in [
        ("sdrest-proto", &[][..]),
        ("sdrest-sandbox", &["sdrest-proto"]),
        ("sdrest-api", &["sdrest-proto", "sdrest-sandbox"]),
        ("sdrest-authd", &["sdrest-proto", "sdrest-sandbox"]),
        ("sdrest-conversation", &["sdrest-proto"]),
        ("sdrest-worker", &["sdrest-proto", "sdrest-sandbox", "torch-shim"]),
        ("sdrest-ctl", &["sdrest-proto"]),
        ("sdrest-tests", &["sdrest-proto"]),
    ] {
        for dependency in dependencies(&metadata, package) {
            assert!(
                !ours.contains(&dependency.as_str()) || may.contains(&dependency.as_str()),
                "{package} must not depend on {dependency}"
            );
        }
    }
}

#[test]
fn dangerous_libraries_stay_in_their_rooms() {
    let metadata = metadata();
    for (library, rooms) in [
        ("tch", &["sdrest-worker", "torch-shim"][..]),
        ("axum", &["sdrest-api"]),
        ("sqlx", &["sdrest-api"]),
        // Only the tests hold our reading of tokens to it: it brings RSA and the NIST curves along.
        ("jsonwebtoken", &[]),
        ("ed25519-dalek", &["sdrest-api", "sdrest-authd"]),
    ] {
        for package in metadata["packages"].as_array().unwrap() {
            let name = package["name"].as_str().unwrap();
            assert!(
                !dependencies(&metadata, name).contains(library) || rooms.contains(&name),
                "{name} must not depend on {library}"
            );
        }
    }
    for runtime in ["tokio", "tarpc", "axum", "ureq", "hyper"] {
        assert!(
            !dependencies(&metadata, "sdrest-conversation").contains(runtime),
            "the conversation program uses {runtime}"
        );
    }
}

#[test]
fn the_conversation_program_keeps_a_small_tree() {
    let text = cargo(&[
        "tree",
        "-p",
        "sdrest-conversation",
        "-e",
        "normal",
        "--prefix",
        "none",
        "--no-dedupe",
    ]);
    let crates: BTreeSet<&str> =
        text.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert!(crates.len() <= 40, "{} crates: {crates:?}", crates.len());
    for name in ["tokio", "tarpc", "hyper", "mio", "socket2"] {
        assert!(!crates.contains(name), "{name} is in the tree of the conversation program");
    }
}

#[test]
fn licences_bans_and_reasons_hold() {
    let rules = licences::rules(&std::fs::read_to_string(root().join("deny.toml")).unwrap());
    let target =
        ["metadata", "--format-version", "1", "--filter-platform", "x86_64-unknown-linux-gnu"];
    let all: Value = serde_json::from_str(&cargo(&target)).unwrap();
    let packages = all["packages"].as_array().unwrap();
    assert!(packages.len() > 100);
    all_hold("licences and bans", rules.broken_by(packages));
    let ours = metadata();
    let direct: BTreeSet<String> = ours["packages"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|package| dependencies(&ours, package["name"].as_str().unwrap()))
        .filter(|name| !name.starts_with("sdrest-") && name != "torch-shim")
        .collect();
    all_hold(
        "deny.toml gives the reason for each dependency",
        direct.iter().filter(|name| !rules.explains(name)).cloned(),
    );
}

#[test]
fn rooms_of_the_front_end_name_only_what_is_theirs() {
    let sources = rust_sources(&root());
    let plain = ["sdrest-api/src/jobs", "sdrest-api/src/workers", "sdrest-api/src/images"];
    all_hold(
        "jobs, workers and images never name axum",
        below(&sources, &plain).filter(|s| s.names("axum")).map(|s| s.path.clone()),
    );
    all_hold(
        "routes never name tarpc",
        below(&sources, &["sdrest-api/src/routes"])
            .filter(|s| s.names("tarpc"))
            .map(|s| s.path.clone()),
    );
}

#[test]
fn rooms_of_the_worker_name_only_what_is_theirs() {
    let sources = rust_sources(&root());
    let dry = [
        "sdrest-worker/src/server",
        "sdrest-worker/src/sandbox",
        "sdrest-worker/src/config",
        "sdrest-worker/src/cli",
    ];
    all_hold(
        "server, sandbox, config and cli never name a tensor",
        below(&sources, &dry)
            .filter(|s| s.names("Tensor") || s.names("tch"))
            .map(|s| s.path.clone()),
    );
    all_hold(
        "models and schedulers know nothing above them",
        below(&sources, &["sdrest-worker/src/models", "sdrest-worker/src/schedulers"])
            .filter(|s| {
                ["crate::pipelines", "crate::engine", "crate::server"]
                    .iter()
                    .any(|room| s.code.contains(room))
            })
            .map(|s| s.path.clone()),
    );
    let seeds: Vec<&Source> =
        below(&sources, &["sdrest-worker/src"]).filter(|s| s.names("manual_seed")).collect();
    assert!(
        seeds.len() <= 1,
        "one file may touch torch's generator, these do: {:?}",
        seeds.iter().map(|s| &s.path).collect::<Vec<_>>()
    );
}

#[test]
fn unsafe_stands_where_the_design_allows_it_and_says_why() {
    let sources = rust_sources(&root());
    let allowed = [
        "sdrest-authd/conversation/src/pam/ffi.rs",
        "sdrest-authd/pam_oauth2_device/src/ffi.rs",
        "sdrest-worker/torch-shim/",
        "sdrest-worker/src/loaders/mapped.rs",
        "sdrest-worker/src/device.rs",
    ];
    all_hold(
        "unsafe only in the files that the design names",
        sources
            .iter()
            .filter(|s| s.names("unsafe") && !allowed.iter().any(|file| s.path.starts_with(file)))
            .map(|s| s.path.clone()),
    );
    all_hold(
        "every unsafe block has a SAFETY line",
        sources
            .iter()
            .filter(|s| s.code.matches("unsafe {").count() > s.text.matches("SAFETY:").count())
            .map(|s| s.path.clone()),
    );
}

#[test]
fn no_two_files_import_each_other() {
    let sources = rust_sources(&root());
    all_hold("import circles", imports::circles(&sources).into_iter());
}

#[test]
fn every_file_says_what_it_is_for_and_stays_readable() {
    let sources = rust_sources(&root());
    all_hold(
        "files open with //!",
        sources.iter().filter(|s| !s.text.starts_with("//!")).map(|s| s.path.clone()),
    );
    all_hold(
        "files stay under 500 lines",
        sources
            .iter()
            .filter(|s| s.text.lines().count() > 500)
            .map(|s| format!("{} ({})", s.path, s.text.lines().count())),
    );
    all_hold(
        "nothing is left to be done",
        sources
            .iter()
            .filter(|s| s.code.contains("todo!(") || s.code.contains("unimplemented!("))
            .map(|s| s.path.clone()),
    );
    all_hold(
        "no drawer of odds and ends",
        sources
            .iter()
            .filter(|s| {
                ["utils", "helpers", "common", "manager"].iter().any(|name| {
                    s.path.ends_with(&format!("/{name}.rs"))
                        || s.path.contains(&format!("/{name}/"))
                })
            })
            .map(|s| s.path.clone()),
    );
}

#[test]
fn the_two_walks_name_files_that_exist() {
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let mut named = 0;
    for word in text.split(|c: char| c.is_whitespace() || "`(),;|".contains(c)) {
        let path = word.trim_end_matches(['.', ':']);
        if path.starts_with("sdrest-") && path.ends_with(".rs") {
            named += 1;
            assert!(
                root().join(path).exists(),
                "ARCHITECTURE.md names {path}, which does not exist"
            );
        }
    }
    assert!(named >= 16, "the two walks name their files; found {named}");
}
