//! Files that a patch changes.

/// Lines that name a file in the patches of `apply_patch`.
const HEADERS: &[&str] = &[
    "*** Add File:",
    "*** Update File:",
    "*** Delete File:",
    "*** Move to:",
];

/// Lines that name a file in the diffs of git.
const MOVES: &[&str] = &["rename from ", "rename to ", "copy from ", "copy to "];

/// The files a patch names, each once: in the form of `apply_patch`, or a unified diff. Headers that
/// only a lenient parser takes for such count as well.
pub fn files(patch: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for line in patch.lines() {
        let lenient = || {
            HEADERS
                .iter()
                .find_map(|header| line.trim_start().strip_prefix(header))
        };
        let moved = || MOVES.iter().find_map(|header| line.strip_prefix(header));
        let Some(file) = named(line).or_else(lenient).or_else(moved) else {
            continue;
        };
        let file = unquoted(file.trim());
        if !file.is_empty() && !found.contains(&file) {
            found.push(file);
        }
    }
    found
}

/// git writes unusual names in quotes, with C's escapes.
fn unquoted(name: &str) -> String {
    let inside = name
        .strip_prefix('"')
        .and_then(|name| name.strip_suffix('"'));
    let Some(inside) = inside else {
        return name.to_owned();
    };
    let name = super::shell::unescape(inside).unwrap_or_else(|| inside.to_owned());
    let plain = name.strip_prefix("a/").or_else(|| name.strip_prefix("b/"));
    plain.map_or(name.clone(), str::to_owned)
}

/// `patch` with every file name replaced by what `new` says.
pub fn rename<E>(patch: &str, mut new: impl FnMut(&str) -> Result<String, E>) -> Result<String, E> {
    let mut renamed = String::with_capacity(patch.len());
    for line in patch.split_inclusive('\n') {
        match named(line) {
            Some(file) => {
                // The name is the last thing on its line but white space.
                let at = line.rfind(file).unwrap_or(0);
                renamed.push_str(&line[..at]);
                renamed.push_str(&new(file)?);
                renamed.push_str(&line[at + file.len()..]);
            }
            None => renamed.push_str(line),
        }
    }
    Ok(renamed)
}

fn named(line: &str) -> Option<&str> {
    let header = HEADERS.iter().find_map(|header| line.strip_prefix(header));
    if let Some(file) = header {
        return Some(file.trim());
    }
    let file = line
        .strip_prefix("+++ ")
        .or_else(|| line.strip_prefix("--- "))?;
    let file = file.split('\t').next().unwrap_or(file).trim();
    let file = file
        .strip_prefix("a/")
        .or_else(|| file.strip_prefix("b/"))
        .unwrap_or(file);
    (file != "/dev/null" && !file.is_empty()).then_some(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_name_their_files() {
        let own = "*** Begin Patch\n*** Update File: src/a.rs\n*** Move to: src/b.rs\n@@\n-x\n+y\n\
            *** Add File: c d.txt\n+hi\n*** End Patch\n";
        assert_eq!(files(own), ["src/a.rs", "src/b.rs", "c d.txt"]);
        let unified =
            "--- a/src/a.rs\t2026\n+++ b/src/a.rs\n@@ -1 +1 @@\n-x\n+y\n--- /dev/null\n+++ b/new\n";
        assert_eq!(files(unified), ["src/a.rs", "new"]);
        let moved = rename::<()>(own, |file| Ok(format!("/w/{file}"))).unwrap();
        assert_eq!(files(&moved), ["/w/src/a.rs", "/w/src/b.rs", "/w/c d.txt"]);
        assert!(moved.contains("\n-x\n+y\n"));
    }
}
