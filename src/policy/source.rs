//! Policies as they are written: the `policy` section of the configuration.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::lease::Windows;
use super::tools::Class;

/// Rules for what agents may do. Without this section nothing is asked of any rule. The built-in facts,
/// rules and profiles are there with it; one written here replaces the built-in one of the same name.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Source {
    /// Profile in force for every turn, besides those of its key, its pool and `x-drover-profile`; null
    /// is none. Profiles add up: a further one can only tighten.
    pub profile: Option<String>,
    /// The working directory of every session; null: what `x-drover-root` says, else what the client
    /// tells its model of its environment.
    pub root: Option<String>,
    /// Tools by class, as names or globs: `{shell: ["my_shell*"]}`. Classes are `shell`, `write`, `read`,
    /// `agent`, `memory`, `control` and `other`; those of the common agents are known.
    pub tools: BTreeMap<Class, Vec<String>>,
    /// What a session has done, by name: rules ask for `session.NAME`.
    pub facts: BTreeMap<String, Fact>,
    /// The rules.
    pub rules: Vec<Rule>,
    /// Sets of rules by name: a list of rule ids, or `{rules: […], mode: dry_run}`.
    pub profiles: BTreeMap<String, Profile>,
    /// How long leases last at most.
    pub leases: Windows,
    /// Blocked calls that one turn tells its model about; then its client is told.
    pub max_denials: u32,
    /// Times one turn sends its model back from a blocked end; then the answer passes, with a notice.
    pub max_gate_rounds: u32,
}

impl Default for Source {
    fn default() -> Self {
        Self {
            profile: None,
            root: None,
            tools: BTreeMap::new(),
            facts: BTreeMap::new(),
            rules: Vec::new(),
            profiles: BTreeMap::new(),
            leases: Windows::default(),
            max_denials: 3,
            max_gate_rounds: 2,
        }
    }
}

/// Something a session has done: true once a matching call had a good result.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Fact {
    /// CEL over `tool` and `session`: which calls count.
    pub when: String,
    /// CEL over `result.text`: which results are good, besides being no error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<String>,
    /// Texts to remember as `session.NAME`, by name: CEL over `tool`.
    pub capture: BTreeMap<String, String>,
    /// What makes it untrue again.
    pub stale_after: Vec<Event>,
    /// It takes one call for each of these.
    pub all_of: Vec<String>,
    /// CEL over `tool`: which of `all_of` a call stands for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// What happens in a session and makes facts untrue.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// A file was changed.
    Mutation,
    /// `git commit`.
    Commit,
    /// `git push`.
    Push,
    /// A branch or pull request was merged.
    Merge,
    /// A worktree was removed.
    WorktreeRemoved,
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Its name, unique; profiles list it.
    pub id: String,
    /// Where it runs.
    pub on: Stage,
    /// CEL: when it applies. Without it always.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
    /// What happens then; not with `session_start` and `completion`, which `require`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub then: Option<Then>,
    /// What must be true, with `session_start` before other calls, with `completion` before the end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub require: Vec<Requirement>,
    /// How much it weighs.
    #[serde(default)]
    pub level: Level,
    /// Whether it acts.
    #[serde(default)]
    pub mode: Mode,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// Where a rule runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Before anything else in a session: only calls that make a requirement true may run.
    SessionStart,
    /// On a request before it is served.
    Request,
    /// On a call of the model before the client gets it.
    ToolCall,
    /// On a tool's result before the model gets it.
    ToolResult,
    /// When the model ends its turn.
    Completion,
}

impl Stage {
    /// Its name in logs and the audit.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SessionStart => "session_start",
            Self::Request => "request",
            Self::ToolCall => "tool_call",
            Self::ToolResult => "tool_result",
            Self::Completion => "completion",
        }
    }
}

/// How much a rule weighs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// It acts; when it cannot be decided it blocks.
    #[default]
    Required,
    /// It is recorded and warned about.
    Recommended,
    /// It is recorded.
    Optional,
}

impl Level {
    /// Its name in logs and the audit.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Required => "required",
            Self::Recommended => "recommended",
            Self::Optional => "optional",
        }
    }
}

/// Whether rules act.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// They are evaluated and recorded, and change nothing.
    DryRun,
    /// They act.
    #[default]
    Enforce,
}

impl Mode {
    /// Its name in metrics, logs and the audit.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DryRun => "dry_run",
            Self::Enforce => "enforce",
        }
    }
}

/// What a rule does: exactly one of these.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Then {
    /// Keep it from happening.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block: Option<Block>,
    /// Change the call's arguments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rewrite: Option<Rewrite>,
    /// Let the call go on only while no other session is at work on what it commits to, pushes, merges,
    /// starts or deploys (docs/policy.md).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease: Option<Lease>,
}

/// A target that a call has alone until its result is there, or its window ends (`policy.leases`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Lease {
    /// What to do when it is not to be had, for the model, besides when to try again.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub hint: String,
    /// Who hears of it then.
    pub on_block: OnBlock,
}

/// A call, request or result that is not let through.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Block {
    /// Why, in one word for machines.
    pub reason: String,
    /// What to do instead, for the model.
    #[serde(default)]
    pub hint: String,
    /// Who hears of it.
    #[serde(default)]
    pub on_block: OnBlock,
}

/// Who hears of a blocked call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnBlock {
    /// The model, which goes on in the same answer.
    #[default]
    AnswerModel,
    /// The client: a text says what was blocked, and the turn ends.
    TellClient,
    /// The client, with an error (403).
    Reject,
}

/// Arguments that are replaced.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Rewrite {
    /// CEL over `p`, a path: every path of the call becomes what it says. In a shell's command line
    /// absolute paths are replaced, and relative ones follow from the directory it is made to run in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paths: Option<String>,
    /// CEL by argument: what it becomes.
    pub input: BTreeMap<String, String>,
}

/// Something that must be true.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Requirement {
    /// CEL over `session`.
    pub when: String,
    /// What is missing otherwise, in one word.
    pub blocker: String,
    /// What to do about it, for the model.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hint: String,
}

/// Rules that go together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Profile {
    /// Rule ids.
    Rules(Vec<String>),
    /// Rule ids, and whether they act.
    Table(ProfileTable),
}

/// Rules that go together, and whether they act.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProfileTable {
    /// Rule ids.
    pub rules: Vec<String>,
    /// `dry_run`: none of them acts.
    #[serde(default)]
    pub mode: Mode,
}

impl Profile {
    /// Its rule ids.
    pub fn rules(&self) -> &[String] {
        match self {
            Self::Rules(rules) => rules,
            Self::Table(table) => &table.rules,
        }
    }

    /// Whether its rules act.
    pub fn mode(&self) -> Mode {
        match self {
            Self::Rules(_) => Mode::Enforce,
            Self::Table(table) => table.mode,
        }
    }
}
