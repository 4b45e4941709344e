//! Paths as text: no disk is asked, and containment is told by components, never by prefixes of text.

/// `path` without `.`, `..` and doubled slashes. A relative path may begin with `..`; an absolute one
/// cannot leave the root. Empty becomes `.`.
pub fn normalize(path: &str) -> String {
    let absolute = path.starts_with('/');
    let mut kept: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => match kept.last() {
                Some(&last) if last != ".." => {
                    kept.pop();
                }
                _ if absolute => {}
                _ => kept.push(".."),
            },
            part => kept.push(part),
        }
    }
    let joined = kept.join("/");
    match (absolute, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}

/// `path` as seen from `base`: absolute where one of them is.
pub fn resolve(base: &str, path: &str) -> String {
    if path.starts_with('/') {
        normalize(path)
    } else {
        normalize(&format!("{base}/{path}"))
    }
}

/// Whether `path` is `base` or below it; none when the texts do not tell, because one is relative and
/// the other is not.
pub fn within(path: &str, base: &str) -> Option<bool> {
    let (path, base) = (normalize(path), normalize(base));
    if path.starts_with('/') != base.starts_with('/') || base.is_empty() {
        return None;
    }
    Some(inside(&path, &base).is_some())
}

/// `path` below `to` as it was below `from`; as it is when it is not below `from`, or already below
/// `to`.
pub fn rebase(path: &str, from: &str, to: &str) -> Option<String> {
    let (path, from, to) = (normalize(path), normalize(from), normalize(to));
    let absolute = [&path, &from, &to].map(|p| p.starts_with('/'));
    if absolute[0] != absolute[1] || absolute[1] != absolute[2] {
        return None;
    }
    if inside(&path, &to).is_some() {
        return Some(path);
    }
    Some(match inside(&path, &from) {
        Some(rest) => normalize(&format!("{to}/{rest}")),
        None => path,
    })
}

/// What follows `base` in `path`, both normal.
fn inside<'a>(path: &'a str, base: &str) -> Option<&'a str> {
    if base == "." {
        let leaves = path == ".." || path.starts_with("../");
        return (!leaves).then_some(path);
    }
    if base == "/" {
        return path.strip_prefix('/');
    }
    let rest = path.strip_prefix(base)?;
    match rest.strip_prefix('/') {
        Some(rest) => Some(rest),
        None => rest.is_empty().then_some(""),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("/r/.worktrees/a/x", "/r/.worktrees/a", true)]
    #[case("/r/.worktrees/a", "/r/.worktrees/a/", true)]
    #[case("/r/.worktrees/ab", "/r/.worktrees/a", false)]
    #[case("/r/x/.worktrees/../../etc", "/r/x/.worktrees", false)]
    #[case("/r/.worktrees/a/../../src", "/r/.worktrees/a", false)]
    #[case("/r//.worktrees/./a//y", "/r/.worktrees/a", true)]
    #[case("src/a", ".", true)]
    #[case("../a", ".", false)]
    #[case("/etc", "/", true)]
    fn containment_is_told_by_components(#[case] path: &str, #[case] base: &str, #[case] is: bool) {
        assert_eq!(within(path, base), Some(is));
    }

    #[test]
    fn relative_and_absolute_cannot_be_compared() {
        assert_eq!(within("src/a", "/r"), None);
        assert_eq!(rebase("src/a", "/r", "/r/w"), None);
    }

    #[rstest]
    #[case("/r/src/a.rs", "/r/.worktrees/w/src/a.rs")]
    #[case("/r/src/../b", "/r/.worktrees/w/b")]
    #[case("/r", "/r/.worktrees/w")]
    #[case("/r/.worktrees/w/b", "/r/.worktrees/w/b")]
    #[case("/tmp/x", "/tmp/x")]
    #[case("/rr/x", "/rr/x")]
    fn paths_move_into_the_worktree(#[case] path: &str, #[case] expected: &str) {
        let moved = rebase(path, "/r", "/r/.worktrees/w");
        assert_eq!(moved.as_deref(), Some(expected));
    }

    proptest! {
        #[test]
        fn what_was_moved_is_inside(path in "[a-c./]{0,24}") {
            let path = resolve("/r", &path);
            let moved = rebase(&path, "/r", "/r/w").unwrap();
            prop_assert_eq!(within(&path, "/r"), within(&moved, "/r/w"));
            prop_assert_eq!(normalize(&moved), moved);
        }

        #[test]
        fn normal_paths_stay(path in "[a-c./]{0,24}") {
            let once = normalize(&path);
            prop_assert_eq!(normalize(&once), once);
        }
    }
}
