//! Working trees of a session, with the branch that is checked out in each, as far as calls and results say.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::call::Call;
use super::path;
use super::shell::{self, Cwd};
use crate::turn::{Message, Part, Role, floor};

/// Trees remembered of one session.
const MAX: usize = 64;

/// Messages that may tell of the environment.
const FIRST: usize = 6;

/// Bytes of a result that are looked at, from its beginning.
const MAX_RESULT: usize = 4000;

/// See the module's documentation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Trees(BTreeMap<String, Option<String>>);

impl Trees {
    /// The innermost known tree that `dir` is in.
    pub(super) fn of(&self, dir: &str) -> Option<&str> {
        let inside = |tree: &&String| path::within(dir, tree) == Some(true);
        let longest = self.0.keys().filter(inside).max_by_key(|tree| tree.len());
        longest.map(String::as_str)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The branch checked out in `tree`.
    pub(super) fn branch(&self, tree: &str) -> Option<&str> {
        self.0.get(tree)?.as_deref()
    }

    fn set(&mut self, tree: String, branch: Option<String>) {
        if self.0.len() < MAX || self.0.contains_key(&tree) {
            self.0.insert(tree, branch);
        }
    }

    /// What clients tell of the branch at the beginning: `Current branch: main`.
    pub(super) fn begin(&mut self, root: &str, messages: &[Message]) {
        if self.0.contains_key(root) {
            return;
        }
        let told = messages.iter().take(FIRST);
        let told = told.filter(|message| matches!(message.role(), Role::System | Role::User));
        let branch = told.flat_map(Message::parts).find_map(|part| match part {
            Part::Text(text) => word_after(text, "Current branch: "),
            _ => None,
        });
        self.set(root.to_owned(), branch);
    }

    /// A shell's call went well, and returned `text`.
    pub(super) fn happened(&mut self, call: &Call<'_>, text: &str) {
        let script = call.script();
        let git = |command: &&shell::Command| command.program().as_deref() == Some("git");
        let mut here: Option<String> = None;
        for command in script.commands.iter().filter(git) {
            let Cwd::At(dir) = shell::git_cwd(command) else {
                // Nobody knows where: what is known may be wrong now.
                return self.0.values_mut().for_each(|branch| *branch = None);
            };
            let dir = path::resolve(&call.cwd(), &dir);
            match shell::worktree(command) {
                Some(shell::Worktree::Added { path, branch }) => {
                    let tree = path::resolve(&dir, &path);
                    let named = path
                        .rsplit('/')
                        .find(|part| !part.is_empty())
                        .map(str::to_owned);
                    self.set(tree, branch.or(named));
                }
                Some(shell::Worktree::Removed { path }) => {
                    self.0.remove(&path::resolve(&dir, &path));
                }
                None => {
                    if shell::moves_head(command)
                        && let Some(tree) = self.of(&dir).map(str::to_owned)
                    {
                        self.set(tree, None);
                    }
                    here = Some(dir);
                }
            }
        }
        let Some(tree) = here.and_then(|dir| self.of(&dir).map(str::to_owned)) else {
            return;
        };
        if let Some(branch) = said(&text[..floor(text, MAX_RESULT)]) {
            self.set(tree, Some(branch));
        }
    }
}

/// The branch that git's own words name, the last one that they do.
fn said(text: &str) -> Option<String> {
    let quoted = |line: &str| {
        [
            "Switched to a new branch '",
            "Switched to branch '",
            "Already on '",
        ]
        .iter()
        .find_map(|mark| {
            line.strip_prefix(mark)?
                .split('\'')
                .next()
                .map(str::to_owned)
        })
    };
    let committed = |line: &str| {
        let inside = line.strip_prefix('[')?.split(']').next()?;
        let (branch, rest) = inside.split_once(' ')?;
        let hash = rest.rsplit(' ').next()?;
        let is_hash = hash.len() >= 7 && hash.bytes().all(|b| b.is_ascii_hexdigit());
        (is_hash && branch != "detached").then(|| branch.to_owned())
    };
    let named = |line: &str| {
        quoted(line)
            .or_else(|| word_after(line, "On branch "))
            .or_else(|| committed(line))
    };
    text.lines().filter_map(named).next_back()
}

fn word_after(text: &str, mark: &str) -> Option<String> {
    let rest = &text[text.find(mark)? + mark.len()..];
    let word = rest.split_whitespace().next()?;
    (word.len() <= 255).then(|| word.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tools::Tools;
    use super::*;

    #[test]
    fn branches_follow_what_git_says() {
        let mut trees = Trees::default();
        let env = [Message::text(
            Role::System,
            "gitStatus: …\nCurrent branch: main\n",
        )];
        trees.begin("/r", &env);
        assert_eq!(trees.branch("/r"), Some("main"));
        let mut happens = |line: &str, text: &str| {
            let arguments = json!({"command": line}).to_string();
            trees.happened(
                &Call::new(&Tools::default(), "Bash", &arguments, Some("/r")),
                text,
            );
            trees.clone()
        };
        let trees = happens(
            "git worktree add .worktrees/a -b feature/a && git worktree add ../b",
            "",
        );
        assert_eq!(trees.branch("/r/.worktrees/a"), Some("feature/a"));
        assert_eq!(trees.branch("/b"), Some("b"));
        assert_eq!(trees.of("/r/.worktrees/a/src"), Some("/r/.worktrees/a"));
        assert_eq!(trees.of("/r/.worktrees/ab"), Some("/r"));
        let trees = happens(
            "cd .worktrees/a && git checkout -b x",
            "Switched to a new branch 'x'\n",
        );
        assert_eq!(trees.branch("/r/.worktrees/a"), Some("x"));
        assert_eq!(trees.branch("/r"), Some("main"));
        let trees = happens(
            "git commit -qm x; git status",
            "On branch dev\nnothing to commit",
        );
        assert_eq!(trees.branch("/r"), Some("dev"));
        let trees = happens("git commit -m x", "[topic 1a2b3c4] x\n 1 file changed");
        assert_eq!(trees.branch("/r"), Some("topic"));
        let trees = happens("git switch -q other", "");
        assert_eq!(trees.branch("/r"), None, "it says nothing of where it went");
        let trees = happens("git worktree remove ../b", "");
        assert_eq!(trees.of("/b"), None);
    }
}
