//! What the conversation program, which runs as root, consists of: few crates, none of them a runtime or a network
//! stack. It counts what `cargo tree` prints, build scripts and macros included.

use super::cargo;
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
