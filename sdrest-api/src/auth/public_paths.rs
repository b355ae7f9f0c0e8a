//! The paths that the administrator opened (`--public-paths`): prefixes in whole segments.
//!
//! What is compared is never the text that a client sent but the pattern of the route that the router
//! chose for it (`/api/v1/health`), with `/api/v1` folded into `/api`. So `//`, `..`, `%2f` and `;` cannot
//! slip through: a path that is spelt so matches no route, or a route with another pattern. And a pattern
//! counts only where its rule in the table says that the route may be public at all.

/// Parsed prefixes; each is a list of segments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublicPaths(Vec<Vec<String>>);

impl PublicPaths {
    /// Takes the prefixes as authd's configuration has them. One that does not begin with `/` opens
    /// nothing.
    pub fn new<S: AsRef<str>>(prefixes: impl IntoIterator<Item = S>) -> Self {
        let parse = |prefix: S| prefix.as_ref().trim().strip_prefix('/').map(segments);
        Self(prefixes.into_iter().filter_map(parse).collect())
    }

    /// Whether the route with this pattern lies under one of the prefixes.
    pub fn open(&self, pattern: &str) -> bool {
        let Some(rest) = pattern.strip_prefix('/') else { return false };
        let pattern = segments(rest);
        self.0.iter().any(|prefix| pattern.starts_with(prefix))
    }

    /// Whether all that the others open is open here too.
    pub fn cover(&self, others: &Self) -> bool {
        others.0.iter().all(|other| self.0.iter().any(|prefix| other.starts_with(prefix)))
    }

    /// Whether `/` itself is listed: then generation is open too.
    pub fn opens_everything(&self) -> bool {
        self.0.iter().any(Vec::is_empty)
    }
}

/// Splits, and folds `api/v1` into `api`. One trailing slash means nothing in a prefix.
fn segments(path: &str) -> Vec<String> {
    let path = path.strip_suffix('/').unwrap_or(path);
    let mut segments: Vec<String> =
        if path.is_empty() { Vec::new() } else { path.split('/').map(str::to_owned).collect() };
    if segments.len() >= 2 && segments[0] == "api" && segments[1] == "v1" {
        segments.remove(1);
    }
    segments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_segments_and_both_spellings() {
        let table = [
            ("/api/health", "/api/health", true),
            ("/api/health", "/api/v1/health", true),
            ("/api/v1/health", "/api/health", true),
            ("/api/health/", "/api/v1/health", true),
            ("/api/health", "/api/healthy", false),
            ("/api/heal", "/api/health", false),
            ("/api/health", "/api/health/deep", true),
            ("/api", "/api/v1/models", true),
            ("/api/v1", "/api/models", true),
            ("/api/queue", "/api/v1/queue/status", true),
            ("/api/queue/status", "/api/v1/queue/job/{id}", false),
            ("/", "/api/v1/models", true),
            ("", "/api/v1/models", false),
            ("api/models", "/api/models", false),
            ("//api/models", "/api/models", false),
            ("/api//models", "/api/models", false),
            ("/api/v1/v1/models", "/api/v1/models", false),
            ("/api/../api/models", "/api/models", false),
            ("/api/models", "", false),
        ];
        for (prefix, pattern, expected) in table {
            assert_eq!(
                PublicPaths::new([prefix]).open(pattern),
                expected,
                "{prefix:?} on {pattern:?}"
            );
        }
    }

    #[test]
    fn what_covers_what() {
        let narrow = PublicPaths::new(["/api/health", "/api/v1/models"]);
        assert!(narrow.cover(&PublicPaths::new(["/api/models/types"])));
        assert!(narrow.cover(&PublicPaths::default()));
        assert!(!narrow.cover(&PublicPaths::new(["/api"])));
        assert!(!PublicPaths::new(["/api"]).cover(&PublicPaths::new(["/"])));
    }

    #[test]
    fn only_the_root_opens_everything() {
        assert!(PublicPaths::new(["/"]).opens_everything());
        assert!(!PublicPaths::new(["/api", "x"]).opens_everything());
        assert!(!PublicPaths::default().opens_everything());
    }
}
