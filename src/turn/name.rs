//! Names of tools, as far as they tell what a tool is for.

/// The name without its server (`mcp__files__read` keeps it, `files.read` does not) and punctuation,
/// lower-case: `apply_patch`, `applyPatch` and `functions.ApplyPatch` are one.
pub fn folded_name(name: &str) -> String {
    let tail = name.rsplit(['.', '/', ':']).next().unwrap_or(name);
    tail.chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|c| c.to_ascii_lowercase())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::folded_name;

    #[test]
    fn spellings_of_one_tool_are_one() {
        for name in [
            "apply_patch",
            "applyPatch",
            "functions.ApplyPatch",
            "files/apply-patch",
        ] {
            assert_eq!(folded_name(name), "applypatch", "{name}");
        }
        assert_eq!(folded_name("mcp__files__read"), "mcpfilesread");
    }
}
