//! Programs that deploy and publish, and what to.

use super::deploy::Place;
use super::options::{has, positionals};
use super::word::Word;
use super::{Command, matching};
use crate::policy::lease::Action;

/// Programs that deploy or publish when one of these words comes first; none: always.
pub(super) const DEPLOYS: &[(&str, &[&str])] = &[
    (
        "kubectl",
        &[
            "apply",
            "create",
            "delete",
            "replace",
            "patch",
            "scale",
            "set",
            "rollout",
            "edit",
            "annotate",
            "label",
            "drain",
            "cordon",
            "autoscale",
            "expose",
            "run",
        ],
    ),
    (
        "oc",
        &[
            "apply", "create", "delete", "replace", "patch", "rollout", "new-app",
        ],
    ),
    (
        "helm",
        &["install", "upgrade", "uninstall", "delete", "rollback"],
    ),
    ("helmfile", &["apply", "sync", "destroy"]),
    ("kustomize", &["apply"]),
    ("argocd", &["app"]),
    ("flux", &["reconcile", "create", "delete"]),
    ("terraform", &["apply", "destroy", "import"]),
    ("tofu", &["apply", "destroy", "import"]),
    ("terragrunt", &["apply", "destroy", "run-all"]),
    ("pulumi", &["up", "update", "destroy"]),
    ("cdk", &["deploy", "destroy"]),
    ("sam", &["deploy", "delete"]),
    ("serverless", &["deploy", "remove"]),
    ("sls", &["deploy", "remove"]),
    ("fly", &["deploy"]),
    ("flyctl", &["deploy"]),
    ("vercel", &["deploy", "--prod", "promote", "rollback"]),
    ("netlify", &["deploy"]),
    ("firebase", &["deploy"]),
    ("wrangler", &["deploy", "publish"]),
    ("railway", &["up", "deploy"]),
    ("kamal", &["deploy", "redeploy", "rollback"]),
    ("cap", &[]),
    ("eb", &["deploy"]),
    ("nomad", &["run", "job"]),
    ("ansible-playbook", &[]),
    ("docker", &["push"]),
    ("podman", &["push"]),
    ("npm", &["publish"]),
    ("pnpm", &["publish"]),
    ("yarn", &["publish"]),
    ("cargo", &["publish"]),
    ("twine", &["upload"]),
    ("gem", &["push"]),
    ("poetry", &["publish"]),
    ("uv", &["publish"]),
];

/// Runners whose targets deploy when their name says so.
pub(super) const RUNNERS: &[&str] = &[
    "make", "just", "task", "npm", "pnpm", "yarn", "bun", "rake", "mage", "nox", "invoke",
];

/// Options that say which environment is meant.
pub(super) const ENVIRONMENTS: &[&str] = &[
    "--context",
    "--kube-context",
    "--namespace",
    "-n",
    "--environment",
    "--env",
    "-e",
    "--stage",
    "--stack",
    "-s",
    "--app",
    "-a",
    "--project",
    "--profile",
    "--workspace",
    "--cluster",
    "-chdir",
];

/// `deploy`, `deploy-prod`, `release:publish`; not `redeployment.md`.
pub(super) fn is_deploying(word: &str) -> bool {
    let mut parts = word.split(|c: char| !c.is_ascii_alphanumeric());
    !word.contains('/') && parts.any(|part| matches!(part, "deploy" | "publish"))
}

pub(super) fn first_word(words: &[Word]) -> Option<&Word> {
    let at = positionals(words, ENVIRONMENTS).first().copied()?;
    words.get(at)
}

/// `gh` and `glab`.
pub(super) fn of_forge(words: &[Word]) -> Option<(Action, Place)> {
    let places = positionals(
        words,
        &[
            "-R",
            "--repo",
            "--hostname",
            "-r",
            "--ref",
            "-f",
            "-F",
            "--field",
            "--raw-field",
            "-X",
            "--method",
            "-H",
        ],
    );
    let word = |n: usize| places.get(n).and_then(|at| words.get(*at));
    let text = |n: usize| word(n).map_or("", |word| word.text.as_str());
    let named = |kind: &str, n: usize| match word(n).map(Word::known) {
        Some(Some(name)) => Place::Environment(format!("{kind} {name}")),
        Some(None) => Place::Anything,
        None => Place::Environment(kind.to_owned()),
    };
    match (text(0), text(1)) {
        ("pr" | "mr", "merge") => Some((
            Action::Merge,
            Place::Environment("pull requests".to_owned()),
        )),
        ("workflow" | "run" | "ci" | "pipeline", "run" | "rerun" | "retry" | "create") => {
            Some((Action::Workflow, named("workflow", 2)))
        }
        ("release", "create" | "upload" | "delete" | "edit") => {
            Some((Action::Deploy, named("release", 2)))
        }
        ("api", path) if path.contains("dispatches") => {
            Some((Action::Workflow, named("workflow", 1)))
        }
        ("api", path) if path.ends_with("/merge") || path.ends_with("/merges") => Some((
            Action::Merge,
            Place::Environment("pull requests".to_owned()),
        )),
        ("api", path) if path.contains("/git/refs") || path.contains("/contents/") => {
            let asks = !words.iter().any(|word| {
                word.is_option()
                    && !matches!(word.text.as_str(), "-H" | "--jq" | "-q" | "--paginate")
            });
            (!asks).then_some((Action::Push, Place::Anything))
        }
        _ => None,
    }
}

/// A name for what a program deploys to: what its options say, or itself.
pub(super) fn environment(name: &str, command: &Command) -> String {
    let group = match name {
        "kubectl" | "oc" | "helm" | "helmfile" | "kustomize" => "kubernetes",
        "terraform" | "tofu" | "terragrunt" => "terraform",
        name => name,
    };
    let words = &command.words;
    let mut said: Vec<&str> = Vec::new();
    for (at, word) in words.iter().enumerate() {
        let (option, glued) = match word.text.split_once('=') {
            Some((option, value)) => (option, Some(value)),
            None => (word.text.as_str(), None),
        };
        if ENVIRONMENTS.contains(&option) {
            said.extend(glued.or_else(|| Some(words.get(at + 1)?.text.as_str())));
        }
    }
    said.sort_unstable();
    let plain = matches!(group, "kubernetes" | "terraform");
    if said.is_empty() && !plain {
        let target = words[1..].iter().find(|word| is_deploying(&word.text));
        said.extend(target.map(|word| word.text.as_str()));
    }
    match said.is_empty() {
        true => group.to_owned(),
        false => format!("{group} {}", said.join(" ")),
    }
}

/// The environment that `name` deploys or publishes to, if it does.
pub(super) fn deploys(name: &str, command: &Command) -> Option<String> {
    let words = &command.words;
    let known = DEPLOYS.iter().find(|(program, _)| *program == name);
    let first = first_word(words);
    let says = |wanted: &[&str]| {
        let named =
            first.is_some_and(|word| word.known().is_none_or(|word| wanted.contains(&word)));
        let option = |word: &&str| word.starts_with('-') && has(words, word);
        wanted.is_empty() || named || wanted.iter().any(option)
    };
    let runs = RUNNERS.contains(&name) && words[1..].iter().any(|word| is_deploying(&word.text));
    let itself = is_deploying(name) && !matching::only_reads(command);
    let deploys = known.is_some_and(|(_, wanted)| says(wanted)) || runs || itself;
    deploys.then(|| environment(name, command))
}
