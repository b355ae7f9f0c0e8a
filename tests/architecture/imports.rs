//! Which file imports which, inside each crate, and whether a circle closes. A `pub use` of a child module
//! is a sign on the door, not an import; `#[cfg(test)]` modules do not count.

use crate::sources::Source;
use std::collections::{BTreeMap, BTreeSet};

/// One line for each circle, naming its files.
pub(crate) fn circles(sources: &[Source]) -> Vec<String> {
    let mut found = BTreeSet::new();
    for (root, modules) in crates(sources) {
        let graph: BTreeMap<&str, BTreeSet<String>> = modules
            .iter()
            .map(|(module, source)| (module.as_str(), imports(module, source, &modules)))
            .collect();
        for start in graph.keys() {
            if let Some(circle) = path_back(&graph, start) {
                let files: BTreeSet<&str> =
                    circle.iter().map(|module| modules[*module].path.as_str()).collect();
                found.insert(format!(
                    "{root}: {}",
                    files.into_iter().collect::<Vec<_>>().join(" <-> ")
                ));
            }
        }
    }
    found.into_iter().collect()
}

/// The sources of each crate by module path ("" is the crate's root).
fn crates(sources: &[Source]) -> BTreeMap<String, BTreeMap<String, &Source>> {
    let mut crates: BTreeMap<String, BTreeMap<String, &Source>> = BTreeMap::new();
    for source in sources {
        let Some((root, file)) = source.path.rsplit_once("/src/") else { continue };
        if file.starts_with("bin/") || file == "main.rs" {
            continue;
        }
        let module = file.trim_end_matches(".rs").trim_end_matches("/mod").replace('/', "::");
        let module = if module == "lib" || module == "mod" { String::new() } else { module };
        crates.entry(root.to_owned()).or_default().insert(module, source);
    }
    crates
}

fn imports(module: &str, source: &Source, modules: &BTreeMap<String, &Source>) -> BTreeSet<String> {
    let code = source.code.split("#[cfg(test)]").next().unwrap_or_default();
    // A statement may break over lines; re-exports are left out.
    let statements: Vec<&str> =
        code.split(';').filter(|s| !s.trim_start().starts_with("pub use")).collect();
    let mut targets = BTreeSet::new();
    for statement in statements {
        for (prefix, base) in [("crate::", String::new()), ("super::", parent(module))] {
            for (at, _) in statement.match_indices(prefix) {
                if statement[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == ':')
                {
                    continue;
                }
                for path in expand(&statement[at + prefix.len()..]) {
                    let full = if base.is_empty() { path } else { format!("{base}::{path}") };
                    targets.extend(deepest(&full, modules));
                }
            }
        }
    }
    targets.remove(module);
    // The crate's root and a parent that only declares its children are not rooms.
    targets.retain(|target| !target.is_empty());
    targets
}

fn parent(module: &str) -> String {
    module.rsplit_once("::").map(|(parent, _)| parent.to_owned()).unwrap_or_default()
}

/// `a::{b, c::d}` as `a::b`, `a::c::d`.
fn expand(text: &str) -> Vec<String> {
    let head: String =
        text.chars().take_while(|c| c.is_alphanumeric() || "_:".contains(*c)).collect();
    let rest = &text[head.len()..];
    if !rest.starts_with('{') {
        return vec![head];
    }
    let mut depth = 0;
    let mut parts = vec![String::new()];
    for c in rest.chars() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => parts.push(String::new()),
            _ => {}
        }
        let outer = depth == 1 && matches!(c, '{' | ',');
        if depth == 0 {
            break;
        }
        if !outer && let Some(part) = parts.last_mut() {
            part.push(c);
        }
    }
    parts.iter().flat_map(|part| expand(part.trim())).map(|part| format!("{head}{part}")).collect()
}

/// The longest beginning of a path that is a module of this crate.
fn deepest(path: &str, modules: &BTreeMap<String, &Source>) -> Option<String> {
    let mut parts: Vec<&str> = path.split("::").filter(|part| !part.is_empty()).collect();
    while !parts.is_empty() {
        let candidate = parts.join("::");
        if modules.contains_key(&candidate) {
            return Some(candidate);
        }
        parts.pop();
    }
    None
}

/// A way from `start` back to itself, if there is one.
fn path_back<'a>(
    graph: &'a BTreeMap<&str, BTreeSet<String>>,
    start: &'a str,
) -> Option<Vec<&'a str>> {
    let mut stack = vec![vec![start]];
    let mut seen = BTreeSet::new();
    while let Some(path) = stack.pop() {
        let last = path.last()?;
        for next in graph.get(last)? {
            if next == start {
                return Some(path);
            }
            if seen.insert(next.as_str()) {
                let mut longer = path.clone();
                longer.push(next);
                stack.push(longer);
            }
        }
    }
    None
}
