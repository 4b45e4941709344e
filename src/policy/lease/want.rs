//! What a call wants for itself.

use super::super::bindings::Actor;
use super::super::call::Call;
use super::super::path;
use super::super::session::SessionState;
use super::super::shell::{Cwd, Deploy, Place};
use super::super::tools::Class;
use super::{Action, Claim, EVERYTHING, Want, Windows};
use crate::turn::folded_name;

/// What `call` wants, if it is a deploy-like one; its id is not known here.
pub(in crate::policy) fn wants(
    call: &Call<'_>,
    actor: &Actor,
    state: &SessionState,
    windows: &Windows,
) -> Option<Claim> {
    let root = actor.root.clone().unwrap_or_default();
    let deploys = call.deploys().ok()?;
    let here = call.cwd();
    let tree_of = |cwd: &Cwd| match cwd {
        Cwd::Unknown => None,
        Cwd::At(dir) => {
            let dir = path::resolve(&here, dir);
            Some(
                state
                    .worktree_of(&dir)
                    .map_or_else(|| root.clone(), str::to_owned),
            )
        }
    };
    let mut wants: Vec<Want> = Vec::new();
    for deploy in deploys {
        let target = match &deploy.place {
            Place::Anything => EVERYTHING.to_owned(),
            Place::Branch(name) => format!("branch {name}"),
            Place::Environment(name) => name.clone(),
            Place::Head(cwd) => match tree_of(cwd) {
                None => EVERYTHING.to_owned(),
                Some(tree) => match state.branch_of(&tree) {
                    Some(branch) => format!("branch {branch}"),
                    None => format!("head of {tree}"),
                },
            },
        };
        let want = Want {
            action: deploy.action,
            target,
            digest: deploy.digest,
            window: windows.of(deploy.action),
        };
        if !wants.contains(&want) {
            wants.push(want);
        }
    }
    let worktree = deploys.iter().find_map(|deploy| tree_of(&deploy.cwd));
    let worktree = worktree.unwrap_or_else(|| root.clone());
    if wants.is_empty() {
        return None;
    }
    Some(Claim {
        repository: repository(call).unwrap_or_else(|| root.clone()),
        session: actor.session.clone(),
        worktree,
        call: String::new(),
        wants,
    })
}

/// The repository that a tool of a forge is told.
fn repository(call: &Call<'_>) -> Option<String> {
    if call.class == Class::Shell {
        return None;
    }
    let text = |key: &str| call.input.get(key)?.as_str();
    Some(format!("{}/{}", text("owner")?, text("repo")?))
}

/// What tools of forges and platforms do, by parts of their names.
const BY_NAME: &[(&str, Action)] = &[
    ("mergepullrequest", Action::Merge),
    ("mergemergerequest", Action::Merge),
    ("runworkflow", Action::Workflow),
    ("triggerworkflow", Action::Workflow),
    ("workflowdispatch", Action::Workflow),
    ("deploy", Action::Deploy),
    ("gitcommit", Action::Commit),
    ("gitpush", Action::Push),
    ("gitmerge", Action::Merge),
];

/// Those that change files of a forge's repository.
const REMOTE_FILES: &[&str] = &["pushfiles", "createorupdatefile", "deletefile"];

/// What a tool that is no shell commits, pushes, merges, starts or deploys, by its name.
pub(in crate::policy) fn of_tool(call: &Call<'_>) -> Vec<Deploy> {
    if call.class != Class::Other {
        return Vec::new();
    }
    let name = folded_name(call.name);
    let found = BY_NAME.iter().find(|(part, _)| name.contains(part));
    let pushes = || {
        let remote = REMOTE_FILES.iter().any(|part| name.contains(part));
        (remote && repository(call).is_some()).then_some(Action::Push)
    };
    let Some(action) = found.map(|(_, action)| *action).or_else(pushes) else {
        return Vec::new();
    };
    let text = |keys: &[&str]| keys.iter().find_map(|key| call.input.get(*key)?.as_str());
    let place = match action {
        Action::Push | Action::Commit => match text(&["branch", "ref"]) {
            Some(branch) => Place::Branch(branch.to_owned()),
            None => Place::Anything,
        },
        Action::Merge => Place::Environment("pull requests".to_owned()),
        Action::Workflow | Action::Deploy => {
            let said = text(&[
                "workflow_id",
                "workflow",
                "environment",
                "env",
                "stage",
                "project",
            ]);
            Place::Environment(format!("{} {}", action.as_str(), said.unwrap_or(call.name)))
        }
    };
    let digest = xxhash_rust::xxh3::xxh3_64(call.input.to_string().as_bytes());
    vec![Deploy {
        action,
        place,
        cwd: Cwd::At(".".to_owned()),
        digest,
    }]
}
