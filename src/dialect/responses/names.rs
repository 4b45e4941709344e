//! Names of tools in groups, as a model calls them.

/// The name a model calls tool `name` of group `namespace` by. It depends on nothing else: the calls
/// of the history keep their names, whatever is offered now.
pub(super) fn flat(namespace: Option<&str>, name: &str) -> String {
    match namespace.filter(|group| !group.is_empty()) {
        None => name.to_owned(),
        // Codex ended the names of its groups so in earlier versions.
        Some(group) if group.ends_with("__") => format!("{group}{name}"),
        Some(group) => format!("{group}__{name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_and_a_name_become_one() {
        assert_eq!(flat(Some("mcp__echo"), "say"), "mcp__echo__say");
        assert_eq!(flat(Some("mcp__echo__"), "say"), "mcp__echo__say");
        assert_eq!(flat(Some(""), "say"), "say");
        assert_eq!(flat(None, "say"), "say");
    }
}
