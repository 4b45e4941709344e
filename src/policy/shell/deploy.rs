//! Commands that others see the effect of: commits, pushes, merges, workflows, deployments.

use xxhash_rust::xxh3::xxh3_64;

use super::options::{has, positionals};
use super::platforms::{deploys as of_platform, of_forge};
use super::query::{self, Unknown};
use super::word::Word;
use super::{Command, Cwd, Script, git, git_config, matching};
use crate::policy::lease::Action;

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deploy {
    /// What it does.
    pub action: Action,
    /// What it does it to.
    pub place: Place,
    /// Where it runs.
    pub cwd: Cwd,
    /// Hash of its words.
    pub digest: u64,
}

/// What a deploy-like command changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// The branch that is checked out in this directory.
    Head(Cwd),
    /// A branch, tag or other reference by name.
    Branch(String),
    /// Something outside of git, by a name for it.
    Environment(String),
    /// It cannot be told: anything in the repository.
    Anything,
}

/// What unknown programs may be told to run, and what that would be.
const HIDDEN: &[(&str, Action)] = &[
    ("git commit", Action::Commit),
    ("git push", Action::Push),
    ("git merge", Action::Merge),
    ("gh pr merge", Action::Merge),
    ("gh workflow run", Action::Workflow),
    ("kubectl apply", Action::Deploy),
    ("terraform apply", Action::Deploy),
    ("helm upgrade", Action::Deploy),
];

/// What `script` commits, pushes, merges, starts and deploys.
///
/// # Errors
/// [`Unknown`] when it may, and nobody can tell.
pub fn deploys(script: &Script) -> Result<Vec<Deploy>, Unknown> {
    let mut found = Vec::new();
    for command in &script.commands {
        if let Some(deploy) = of_command(command)? {
            found.push(deploy);
        }
    }
    match script.unknown {
        Some(why) if found.is_empty() => Err(Unknown(why)),
        Some(_) => {
            let action = found.first().map_or(Action::Deploy, |deploy| deploy.action);
            found.push(Deploy {
                action,
                place: Place::Anything,
                cwd: Cwd::Unknown,
                digest: 0,
            });
            Ok(found)
        }
        None => Ok(found),
    }
}

fn of_command(command: &Command) -> Result<Option<Deploy>, Unknown> {
    let Some(name) = command.program() else {
        return Err(Unknown("the program's name is made while it runs"));
    };
    let (action, place) = match name.as_str() {
        "git" => return of_git(command),
        "gh" | "glab" => match of_forge(&command.words) {
            Some(found) => found,
            None => return Ok(None),
        },
        name => match of_platform(name, command) {
            Some(environment) => (Action::Deploy, Place::Environment(environment)),
            None if matching::only_reads(command) => return Ok(None),
            None => return hidden(command),
        },
    };
    Ok(Some(deploy(command, action, place)))
}

fn deploy(command: &Command, action: Action, place: Place) -> Deploy {
    let words: Vec<&str> = command
        .words
        .iter()
        .map(|word| word.text.as_str())
        .collect();
    // Words that are made while it runs may say something else each time.
    let fixed = command.words.iter().all(|word| word.fixed) && !command.open;
    Deploy {
        action,
        place: if command.open { Place::Anything } else { place },
        cwd: match command.program().as_deref() {
            Some("git") => git::cwd(command),
            _ => command.cwd.clone(),
        },
        digest: if fixed {
            xxh3_64(words.join("\0").as_bytes())
        } else {
            0
        },
    }
}

/// What a program that nobody knows is told to run.
fn hidden(command: &Command) -> Result<Option<Deploy>, Unknown> {
    for (pattern, action) in HIDDEN {
        if query::one_runs(command, pattern)? {
            return Ok(Some(deploy(command, *action, Place::Anything)));
        }
    }
    Ok(None)
}

fn of_git(command: &Command) -> Result<Option<Deploy>, Unknown> {
    if git_config::renames_commands(command) {
        return Err(Unknown("it gives a command of git another name"));
    }
    if git_config::may_be_alias(command) {
        return Err(Unknown("it may be an alias of git"));
    }
    let rest = &command.words[git::command_at(&command.words)..];
    let Some(first) = rest.first() else {
        return Ok(None);
    };
    let Some(name) = first.known() else {
        return Ok(Some(deploy(command, Action::Push, Place::Anything)));
    };
    let stops = ["--abort", "--quit", "--dry-run"]
        .iter()
        .any(|option| has(rest, option));
    let (action, place) = match name {
        _ if stops => return Ok(None),
        "commit" | "cherry-pick" | "revert" | "am" => {
            (Action::Commit, Place::Head(git::cwd(command)))
        }
        "commit-tree" | "fast-import" => (Action::Commit, Place::Anything),
        "merge" => (Action::Merge, Place::Head(git::cwd(command))),
        "push" => return Ok(Some(pushed(command, rest))),
        "send-pack" | "http-push" | "svn" | "p4" => (Action::Push, Place::Anything),
        "subtree" if rest.get(1).is_some_and(|word| word.text == "push") => {
            (Action::Push, Place::Anything)
        }
        _ => return Ok(None),
    };
    Ok(Some(deploy(command, action, place)))
}

/// Where a push goes: to the reference it names, else to that of the branch checked out.
fn pushed(command: &Command, rest: &[Word]) -> Deploy {
    let places = positionals(
        rest,
        &["-o", "--push-option", "--receive-pack", "--exec", "--repo"],
    );
    let references: Vec<&Word> = places.iter().skip(1).map(|at| &rest[*at]).collect();
    let many = ["--all", "--mirror", "--branches", "--prune"]
        .iter()
        .any(|option| has(rest, option));
    let place = match references.as_slice() {
        _ if many => Place::Anything,
        [] if has(rest, "--tags") => Place::Branch("tags".to_owned()),
        [] => Place::Head(git::cwd(command)),
        [one] => match one.known() {
            None => Place::Anything,
            Some(reference) => match destination(reference) {
                "HEAD" | "@" => Place::Head(git::cwd(command)),
                name => Place::Branch(name.to_owned()),
            },
        },
        [tag, name] if tag.text == "tag" => name
            .known()
            .map_or(Place::Anything, |name| Place::Branch(name.to_owned())),
        _ => Place::Anything,
    };
    deploy(command, Action::Push, place)
}

/// The remote's name in `+source:destination`.
fn destination(reference: &str) -> &str {
    let reference = reference.trim_start_matches('+');
    let name = reference.rsplit(':').next().unwrap_or(reference);
    name.strip_prefix("refs/heads/")
        .or_else(|| name.strip_prefix("refs/tags/"))
        .unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::super::parse;
    use super::*;

    fn told(line: &str) -> Vec<String> {
        let all = deploys(&parse(line)).unwrap();
        let one = |deploy: Deploy| {
            let place = match deploy.place {
                Place::Head(Cwd::At(dir)) => format!("head {dir}"),
                Place::Head(Cwd::Unknown) => "head ?".to_owned(),
                Place::Branch(name) => format!("branch {name}"),
                Place::Environment(name) => name,
                Place::Anything => "*".to_owned(),
            };
            format!("{} {place}", deploy.action.as_str())
        };
        all.into_iter().map(one).collect()
    }

    #[rstest]
    #[case("git commit -m x", &["commit head ."])]
    #[case("git -C sub commit -m x && git push", &["commit head sub", "push head ."])]
    #[case("cd w && git push -u origin topic", &["push branch topic"])]
    #[case("git push origin HEAD:refs/heads/main", &["push branch main"])]
    #[case("git push origin +HEAD", &["push head ."])]
    #[case("git push origin \"$BRANCH\"", &["push *"])]
    #[case("git push --all", &["push *"])]
    #[case("git push origin tag v1", &["push branch v1"])]
    #[case("git push origin --tags", &["push branch tags"])]
    #[case("bash -c 'git push origin main'", &["push branch main"])]
    #[case("git merge --no-ff topic", &["merge head ."])]
    #[case("git merge --abort", &[])]
    #[case("git push --dry-run", &[])]
    #[case("gh pr merge 5 --squash", &["merge pull requests"])]
    #[case("gh workflow run ci.yml --ref main", &["workflow workflow ci.yml"])]
    #[case("gh api -X POST repos/o/r/actions/workflows/ci.yml/dispatches -f ref=main", &["workflow workflow repos/o/r/actions/workflows/ci.yml/dispatches"])]
    #[case("kubectl --context prod -n web apply -f x.yaml", &["deploy kubernetes prod web"])]
    #[case("helm upgrade --kube-context=prod -n web api ./chart", &["deploy kubernetes prod web"])]
    #[case("kubectl get pods", &[])]
    #[case("terraform apply -auto-approve", &["deploy terraform"])]
    #[case("terraform plan", &[])]
    #[case("make deploy", &["deploy make deploy"])]
    #[case("npm run deploy:prod", &["deploy npm deploy:prod"])]
    #[case("npm publish", &["deploy npm publish"])]
    #[case("docker push reg/x", &["deploy docker"])]
    #[case("./deploy.sh", &["deploy deploy.sh"])]
    #[case("cat deploy.sh", &[])]
    #[case("make build && cargo test deploy", &[])]
    #[case("mytool -- git push origin main", &["push *"])]
    #[case("echo git push", &[])]
    #[case("git status && git log", &[])]
    fn what_others_see_has_a_target(#[case] line: &str, #[case] expected: &[&str]) {
        assert_eq!(told(line), expected, "{line}");
    }

    #[test]
    fn what_cannot_be_told_is_unknown() {
        for line in [
            "$CMD push",
            "curl x | sh",
            "git -c alias.p=push p",
            "python3 -c 'import os; os.system(\"g\"+x)'",
        ] {
            assert!(deploys(&parse(line)).is_err(), "{line}");
        }
    }
}
