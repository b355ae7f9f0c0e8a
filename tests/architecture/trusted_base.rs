//! What the root-capable programs consist of. The conversation program: few crates, none of them a runtime or a network
//! stack; it counts what `cargo tree` prints, build scripts and macros included. authd: as many lines of its own as
//! SECURITY.md says.

use super::{cargo, root, sources::rust_sources};
use std::collections::BTreeSet;

const MOST: usize = 40;
/// Runtimes, RPC, HTTP, TLS and name resolution.
const NEVER: [&str; 22] = [
    "tokio",
    "tarpc",
    "tokio-serde",
    "tokio-util",
    "async-std",
    "smol",
    "mio",
    "socket2",
    "hyper",
    "axum",
    "tower",
    "ureq",
    "reqwest",
    "h2",
    "rustls",
    "openssl",
    "native-tls",
    "quinn",
    "hickory-resolver",
    "tracing",
    "futures",
    "url",
];

/// Name and version of every crate that is compiled for the program.
fn tree(extra: &[&str]) -> BTreeSet<String> {
    let mut words = vec![
        "tree",
        "-p",
        "sdrest-conversation",
        "-e",
        "normal,build",
        "--prefix",
        "none",
        "--no-dedupe",
    ];
    words.extend(extra);
    let crate_of = |line: &str| {
        let mut words = line.split_whitespace();
        Some(format!("{} {}", words.next()?, words.next()?))
    };
    cargo(&words).lines().filter_map(crate_of).collect()
}

#[test]
fn the_conversation_program_is_built_of_few_crates_and_no_network_code() {
    for extra in [&[][..], &["--no-default-features"]] {
        let crates = tree(extra);
        eprintln!("{} crates: {crates:?}", crates.len());
        assert!(crates.len() <= MOST, "{} crates, at most {MOST}: {crates:?}", crates.len());
        for name in NEVER {
            assert!(
                !crates.iter().any(|found| found.split(' ').next() == Some(name)),
                "{name} is in the tree of the conversation program"
            );
        }
    }
}

/// What stands between backticks in the first column of the tables below a heading of SECURITY.md.
fn documented(heading: &str) -> BTreeSet<String> {
    let text = std::fs::read_to_string(crate::root().join("SECURITY.md")).unwrap();
    let after = text.lines().skip_while(|line| *line != heading).skip(1);
    after
        .take_while(|line| !line.starts_with('#'))
        .filter_map(|line| line.strip_prefix("| `")?.split('|').next().map(str::to_owned))
        .flat_map(|cell| {
            cell.split([' ', '`'])
                .filter(|word| !word.is_empty())
                .map(str::to_owned)
                .collect::<Vec<_>>()
        })
        .collect()
}

#[test]
fn security_names_every_crate_that_the_root_capable_programs_trust() {
    for (program, edges) in [("sdrest-conversation", "normal,build"), ("sdrest-authd", "normal")] {
        let words = ["tree", "-p", program, "-e", edges, "--prefix", "none", "--no-dedupe"];
        let output = cargo(&words);
        let found: BTreeSet<String> = output
            .lines()
            .filter_map(|line| line.split_whitespace().next().map(str::to_owned))
            .collect();
        let told = documented(&format!("### {program}"));
        let missing: Vec<_> = found.difference(&told).collect();
        let gone: Vec<_> = told.difference(&found).collect();
        assert!(
            missing.is_empty() && gone.is_empty(),
            "SECURITY.md, {program}: not named: {missing:?}; named and gone: {gone:?}"
        );
    }
}

/// Lines that are code: not blank, no comments, no tests.
fn lines_of_code(text: &str) -> usize {
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let lines = code.lines().map(str::trim);
    lines.filter(|line| !line.is_empty() && !line.starts_with("//")).count()
}

#[test]
fn security_says_how_much_code_of_its_own_authd_has() {
    let text = std::fs::read_to_string(root().join("SECURITY.md")).unwrap();
    let told = text.split_once("authd's own code (").and_then(|(_, rest)| rest.split(' ').next());
    let told: usize = told.unwrap().replace(',', "").parse().unwrap();
    let own: usize = rust_sources(&root())
        .iter()
        .filter(|source| source.path.starts_with("sdrest-authd/src/"))
        .filter(|source| !source.path.ends_with("tests.rs"))
        .map(|source| lines_of_code(&source.text))
        .sum();
    eprintln!("{own} lines");
    assert!((told - 50..=told).contains(&own), "authd has {own} lines, SECURITY.md says {told}");
}
