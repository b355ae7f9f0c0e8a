//! Documents that name tests tell the truth: whatever stands in the last column of a table of a README below `tests/`
//! as `name` is a test function of this workspace.

use crate::sources::{Source, rust_sources};
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// READMEs whose tables end with a column of tests.
fn readmes(root: &Path) -> Vec<PathBuf> {
    let folders = fs::read_dir(root.join("tests")).unwrap();
    let files = folders.map(|folder| folder.unwrap().path().join("README.md"));
    files.filter(|file| file.is_file()).collect()
}

fn test_functions(sources: &[Source]) -> BTreeSet<&str> {
    sources
        .iter()
        .flat_map(|source| source.text.lines())
        .filter_map(|line| {
            let line = line.trim_start();
            let line = line.strip_prefix("async ").unwrap_or(line);
            line.strip_prefix("fn ")?.split('(').next()
        })
        .collect()
}

/// What stands between backticks in the last cell of a table's rows, where the table's last head is "test" or "tests".
fn named(text: &str) -> Vec<&str> {
    let mut names = Vec::new();
    let mut in_tests = false;
    for line in text.lines() {
        if !line.starts_with('|') {
            in_tests = false;
            continue;
        }
        let last = line.trim_end_matches('|').rsplit('|').next().unwrap_or_default().trim();
        if matches!(last, "test" | "tests") {
            in_tests = true;
        } else if in_tests {
            names.extend(last.split('`').skip(1).step_by(2));
        }
    }
    names
}

#[test]
fn tests_that_documents_name_exist() {
    let root = crate::root();
    let sources = rust_sources(&root);
    let known = test_functions(&sources);
    let mut seen = 0;
    for file in readmes(&root) {
        let text = fs::read_to_string(&file).unwrap();
        for name in named(&text) {
            seen += 1;
            let last = name.rsplit("::").next().unwrap_or(name);
            assert!(known.contains(last), "{}: there is no test {name}", file.display());
        }
    }
    assert!(seen > 0, "no table names a test any more");
}
