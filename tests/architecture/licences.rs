//! What deny.toml allows, checked without a tool that has to be installed: every package's licence, and the
//! packages that are banned by name. `cargo deny check licenses bans` reads the same file.

use serde_json::Value;
use std::collections::BTreeSet;

pub(crate) struct Rules {
    allowed: BTreeSet<String>,
    exceptions: BTreeSet<(String, String)>,
    banned: BTreeSet<String>,
    text: String,
}

pub(crate) fn rules(text: &str) -> Rules {
    let table: toml::Table = toml::from_str(text).unwrap();
    let strings = |value: &toml::Value| -> Vec<String> {
        value.as_array().unwrap().iter().map(|item| item.as_str().unwrap().to_owned()).collect()
    };
    let name = |value: &toml::Value| value["name"].as_str().unwrap().to_owned();
    let exceptions = table["licenses"]["exceptions"].as_array().unwrap();
    Rules {
        allowed: strings(&table["licenses"]["allow"]).into_iter().collect(),
        exceptions: exceptions
            .iter()
            .flat_map(|e| strings(&e["allow"]).into_iter().map(move |l| (name(e), l)))
            .collect(),
        banned: table["bans"]["deny"].as_array().unwrap().iter().map(name).collect(),
        text: text.to_owned(),
    }
}

impl Rules {
    /// One line for each package that breaks a rule.
    pub(crate) fn broken_by<'a>(
        &'a self,
        packages: &'a [Value],
    ) -> impl Iterator<Item = String> + 'a {
        packages.iter().filter_map(|package| {
            let name = package["name"].as_str()?;
            let licence = package["license"].as_str().unwrap_or("no licence");
            if self.banned.contains(name) {
                Some(format!("{name} is banned in deny.toml"))
            } else if !self.allows(name, licence) {
                Some(format!("{name} is under {licence}, which deny.toml does not allow"))
            } else {
                None
            }
        })
    }

    /// Whether deny.toml gives the reason for a dependency.
    pub(crate) fn explains(&self, package: &str) -> bool {
        self.text.lines().filter(|line| line.starts_with('#')).any(|line| {
            line.split(|c: char| !(c.is_alphanumeric() || c == '-' || c == '_'))
                .any(|word| word == package)
        })
    }

    /// SPDX: any alternative whose parts are all allowed. The old `/` means OR.
    fn allows(&self, name: &str, licence: &str) -> bool {
        licence.replace('/', " OR ").split(" OR ").any(|alternative| {
            alternative.split(" AND ").all(|part| {
                let part = part.trim_matches(['(', ')', ' ']).to_owned();
                self.allowed.contains(&part) || self.exceptions.contains(&(name.to_owned(), part))
            })
        })
    }
}
