//! The lines of a service file (pam.d(5)): `type control module arguments`, `@include file`, continuation lines,
//! controls in brackets, `include` and `substack`, a leading `-` for a module that may be missing.

use super::error::ServiceError;

/// One line that means something.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// auth, account, password or session; nothing for `@include`.
    pub(super) phase: String,
    /// The module may be missing.
    pub(super) optional: bool,
    pub(super) target: Target,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Target {
    File(String),
    Module { name: String, arguments: Vec<String> },
}

pub(super) fn read(text: &str, path: &str) -> Result<Vec<Line>, ServiceError> {
    let joined = text.replace("\\\n", " ");
    let mut lines = Vec::new();
    for (index, line) in joined.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let bad = |problem: &str| ServiceError::BadLine {
            path: path.to_owned(),
            number: index + 1,
            problem: problem.to_owned(),
        };
        lines.push(one(line).map_err(bad)?);
    }
    Ok(lines)
}

fn one(line: &str) -> Result<Line, &'static str> {
    let mut words = words(line)?.into_iter();
    let first = words.next().unwrap_or_default();
    if first == "@include" {
        let file = words.next().ok_or("`@include` names no file")?;
        return Ok(Line { phase: String::new(), optional: false, target: Target::File(file) });
    }
    let (optional, phase) = match first.strip_prefix('-') {
        Some(rest) => (true, rest.to_ascii_lowercase()),
        None => (false, first.to_ascii_lowercase()),
    };
    if !["auth", "account", "password", "session"].contains(&phase.as_str()) {
        return Err("the first word must be auth, account, password or session");
    }
    let control =
        words.next().ok_or("a control such as `required` is missing")?.to_ascii_lowercase();
    let name = words.next().ok_or("the module is missing")?;
    let target = match control.as_str() {
        "include" | "substack" => Target::File(name),
        "required" | "requisite" | "sufficient" | "optional" => {
            Target::Module { name, arguments: words.collect() }
        }
        bracket if bracket.starts_with('[') => Target::Module { name, arguments: words.collect() },
        _ => {
            return Err(
                "the control is none of required, requisite, sufficient, optional, include, substack, […]",
            );
        }
    };
    Ok(Line { phase, optional, target })
}

/// Splits at blanks; what stands in brackets is one word.
fn words(line: &str) -> Result<Vec<String>, &'static str> {
    let mut words = Vec::new();
    let mut rest = line.trim_start();
    while !rest.is_empty() {
        let end = if rest.starts_with('[') {
            rest.find(']').ok_or("a bracket is not closed")? + 1
        } else {
            rest.find(char::is_whitespace).unwrap_or(rest.len())
        };
        let (word, tail) = rest.split_at_checked(end).ok_or("the line cannot be split")?;
        words.push(word.to_owned());
        rest = tail.trim_start();
    }
    Ok(words)
}
