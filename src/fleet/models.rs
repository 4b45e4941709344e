//! Which pool serves a model name.

use std::collections::HashMap;
use std::sync::Arc;

use globset::{Glob, GlobMatcher};

use super::FleetError;

/// Patterns by precedence: exact names, then globs from the longest to the shortest, `*` last.
#[derive(Debug, Default)]
pub(super) struct ModelTable {
    exact: HashMap<Arc<str>, usize>,
    globs: Vec<(GlobMatcher, Arc<str>, usize)>,
}

impl ModelTable {
    /// Builds the table from patterns and what each stands for. Among equals the first one wins.
    pub(super) fn new(
        patterns: impl Iterator<Item = (Arc<str>, usize)>,
    ) -> Result<Self, FleetError> {
        let mut table = Self::default();
        for (pattern, pool) in patterns {
            if pattern.contains(['*', '?', '[', '{', '\\']) {
                let glob = Glob::new(&pattern).map_err(|source| FleetError::Pattern {
                    pattern: pattern.to_string(),
                    source,
                })?;
                table.globs.push((glob.compile_matcher(), pattern, pool));
            } else {
                table.exact.entry(pattern).or_insert(pool);
            }
        }
        table
            .globs
            .sort_by_key(|(_, p, _)| (&**p == "*", std::cmp::Reverse(p.len())));
        Ok(table)
    }

    /// What `model` stands for, and the pattern that says so.
    pub(super) fn resolve(&self, model: &str) -> Option<(usize, &Arc<str>)> {
        if let Some((pattern, pool)) = self.exact.get_key_value(model) {
            return Some((*pool, pattern));
        }
        let hit = self.globs.iter().find(|(glob, _, _)| glob.is_match(model));
        hit.map(|(_, pattern, pool)| (*pool, pattern))
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn table(patterns: &[&str]) -> ModelTable {
        ModelTable::new(patterns.iter().enumerate().map(|(n, p)| ((*p).into(), n))).unwrap()
    }

    #[rstest]
    #[case("qwen3-coder", Some("qwen3-coder"))]
    #[case("qwen3-coder-30b", Some("qwen3-coder-*"))]
    #[case("qwen3-4b", Some("qwen3-*"))]
    #[case("x", Some("?"))]
    #[case("org/model:Q4_K_M", Some("*"))]
    #[case("", Some("*"))]
    fn the_most_specific_pattern_wins(#[case] model: &str, #[case] pattern: Option<&str>) {
        let table = table(&["*", "qwen3-*", "?", "qwen3-coder-*", "qwen3-coder"]);
        let found = table.resolve(model).map(|(_, p)| p.to_string());
        assert_eq!(found.as_deref(), pattern);
    }

    #[test]
    fn an_unknown_model_is_nobodys() {
        let table = table(&["coder", "embed-*"]);
        assert!(table.resolve("chat").is_none());
        assert!(table.resolve("Coder").is_none(), "names are case-sensitive");
    }

    #[test]
    fn a_star_crosses_slashes() {
        let table = table(&["org/*"]);
        assert!(table.resolve("org/a/b").is_some());
    }
}
