//! Tools by what they are for: agents name theirs differently.

use std::collections::BTreeMap;

use globset::{Glob, GlobMatcher};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::turn::folded_name;

/// What a tool is for.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// Runs command lines.
    Shell,
    /// Changes files.
    Write,
    /// Looks at something.
    Read,
    /// Starts a subagent.
    Agent,
    /// Asks or fills a memory.
    Memory,
    /// Is about the conversation itself: plans, lists of things to do, questions to the human.
    Control,
    /// Unknown; it counts as one that changes things.
    Other,
}

impl Class {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Shell,
        Self::Write,
        Self::Read,
        Self::Agent,
        Self::Memory,
        Self::Control,
        Self::Other,
    ];

    /// The name rules know it by.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Shell => "shell",
            Self::Write => "write",
            Self::Read => "read",
            Self::Agent => "agent",
            Self::Memory => "memory",
            Self::Control => "control",
            Self::Other => "other",
        }
    }
}

/// Names of Claude Code, OpenCode, Codex, Cline, Qwen Code and Forge, lower-case without punctuation.
const KNOWN: &[(Class, &[&str])] = &[
    (
        Class::Shell,
        &[
            "bash",
            "shell",
            "localshell",
            "execcommand",
            "executecommand",
            "runshellcommand",
            "terminal",
            "runcommand",
            "runterminalcmd",
            "runinterminal",
            "writestdin",
            "shellcommand",
            "processshell",
            "powershell",
            "exec",
            "unifiedexec",
            "containerexec",
            "runcommands",
        ],
    ),
    (
        Class::Write,
        &[
            "write",
            "edit",
            "multiedit",
            "notebookedit",
            "patch",
            "applypatch",
            "writetofile",
            "replaceinfile",
            "writefile",
            "replace",
            "editfile",
            "editor",
            "fswrite",
            "fspatch",
            "fsremove",
            "fsundo",
            "fscreate",
            "createfile",
            "deletefile",
            "remove",
            "undo",
            "strreplaceeditor",
            "strreplacebasededittool",
            "inserteditintofile",
            "newrule",
            "movefile",
            "renamefile",
            "searchreplace",
            "multipatch",
            "applydiff",
        ],
    ),
    (
        Class::Read,
        &[
            "read",
            "grep",
            "glob",
            "ls",
            "list",
            "webfetch",
            "websearch",
            "readfile",
            "readmanyfiles",
            "listdirectory",
            "searchfiles",
            "listfiles",
            "listcodedefinitionnames",
            "searchfilecontent",
            "grepsearch",
            "ripgrepsearch",
            "fsread",
            "fssearch",
            "search",
            "fetch",
            "netfetch",
            "viewimage",
            "bashoutput",
            "taskoutput",
            "todoread",
            "codesearch",
            "lsp",
            "findfiles",
            "filesearch",
            "googlewebsearch",
            "readmcpresource",
            "listmcpresources",
            "listmcpresourcestool",
            "readmcpresourcetool",
            "listdir",
            "readlints",
            "semsearch",
            "toolsearch",
            "fetchinstructions",
            "accessmcpresource",
            "getgoal",
            "readfiles",
            "searchcodebase",
            "fetchwebcontent",
        ],
    ),
    (
        Class::Agent,
        &[
            "task",
            "agent",
            "spawnagent",
            "newtask",
            "subagent",
            "usesubagents",
            "sendinput",
            "forge",
            "sage",
            "muse",
            "delegate",
            "teamspawnteammate",
            "spawnteammate",
        ],
    ),
    (
        Class::Memory,
        &[
            "savememory",
            "memory",
            "recall",
            "remember",
            "memoryquery",
            "memorystore",
        ],
    ),
    (
        Class::Control,
        &[
            "todowrite",
            "updateplan",
            "askuserquestion",
            "exitplanmode",
            "enterplanmode",
            "plan",
            "attemptcompletion",
            "askfollowupquestion",
            "planmoderespond",
            "actmoderespond",
            "condense",
            "followup",
            "skill",
            "skills",
            "think",
            "question",
            "structuredoutput",
            "wait",
            "waitagent",
            "closeagent",
            "taskcreate",
            "taskupdate",
            "tasklist",
            "taskget",
            "requestuserinput",
            "createplan",
            "killshell",
            "taskstop",
            "killbash",
            "useskill",
            "submitandexit",
            "switchmode",
        ],
    ),
];

/// Classes by name: the configuration's globs first, then what is known.
#[derive(Debug, Default)]
pub struct Tools {
    own: Vec<(GlobMatcher, Class)>,
}

impl Tools {
    /// With the globs of the configuration.
    ///
    /// # Errors
    /// Every glob that is none, as class, index and why.
    pub fn new(own: &BTreeMap<Class, Vec<String>>) -> Result<Self, Vec<(Class, usize, String)>> {
        let mut tools = Self::default();
        let mut errors = Vec::new();
        for (class, globs) in own {
            for (n, glob) in globs.iter().enumerate() {
                match Glob::new(glob) {
                    Ok(glob) => tools.own.push((glob.compile_matcher(), *class)),
                    Err(error) => errors.push((*class, n, error.to_string())),
                }
            }
        }
        if errors.is_empty() {
            Ok(tools)
        } else {
            Err(errors)
        }
    }

    /// What the tool called `name` is for.
    pub fn class(&self, name: &str) -> Class {
        let own = self.own.iter().find(|(glob, _)| glob.is_match(name));
        if let Some((_, class)) = own {
            return *class;
        }
        let folded = folded_name(name);
        let known = KNOWN
            .iter()
            .find(|(_, names)| names.contains(&folded.as_str()));
        if let Some((class, _)) = known {
            return *class;
        }
        // Servers of the Model Context Protocol: `mcp__memory__search_nodes`.
        let mcp_memory = name
            .to_ascii_lowercase()
            .split("__")
            .any(|part| part == "memory");
        match mcp_memory {
            true => Class::Memory,
            false => Class::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("Bash", Class::Shell)]
    #[case("bash", Class::Shell)]
    #[case("exec_command", Class::Shell)]
    #[case("execute_command", Class::Shell)]
    #[case("run_shell_command", Class::Shell)]
    #[case("local_shell", Class::Shell)]
    #[case("write_stdin", Class::Shell)]
    #[case("MultiEdit", Class::Write)]
    #[case("apply_patch", Class::Write)]
    #[case("write_to_file", Class::Write)]
    #[case("replace_in_file", Class::Write)]
    #[case("fs_write", Class::Write)]
    #[case("read_many_files", Class::Read)]
    #[case("Task", Class::Agent)]
    #[case("mcp__memory__search_nodes", Class::Memory)]
    #[case("TodoWrite", Class::Control)]
    #[case("mcp__github__create_issue", Class::Other)]
    #[case("mcp__x__bash", Class::Other)]
    fn tools_of_known_agents_have_classes(#[case] name: &str, #[case] class: Class) {
        assert_eq!(Tools::default().class(name), class);
    }

    #[test]
    fn the_configuration_comes_first() {
        let own = BTreeMap::from([(Class::Memory, vec!["Bash".into(), "kb_*".into()])]);
        let tools = Tools::new(&own).unwrap();
        assert_eq!(tools.class("kb_search"), Class::Memory);
        assert_eq!(tools.class("Bash"), Class::Memory);
        let bad = BTreeMap::from([(Class::Read, vec!["[".into()])]);
        assert_eq!(Tools::new(&bad).unwrap_err()[0].1, 0);
    }
}
