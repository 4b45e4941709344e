//! Links that a line makes, and what it writes through them.

use super::effect::Effects;
use super::options::{positionals, value};
use super::word::Word;
use super::{Cwd, Script};
use crate::policy::path;

/// What is written through a link that the line itself makes is written where that leads.
pub(super) fn through_links(script: &Script, all: &mut Effects) {
    let links = script
        .commands
        .iter()
        .filter(|command| command.program().as_deref() == Some("ln"));
    for command in links {
        let places = positionals(
            &command.words,
            &["-t", "--target-directory", "-S", "--suffix"],
        );
        let files: Vec<&Word> = places.iter().map(|at| &command.words[*at]).collect();
        let directory = value(&command.words, Some("-t"), "--target-directory");
        let (target, sources) = match (&directory, files.split_last()) {
            (Some(directory), _) => (directory, files.as_slice()),
            (None, Some((last, rest))) if !rest.is_empty() => (*last, rest),
            (None, Some((last, _))) => (*last, files.as_slice()),
            (None, None) => continue,
        };
        for source in sources {
            let seen = |word: &Word| match (&command.cwd, word.known()) {
                (_, Some(file)) if file.starts_with('/') => Some(path::normalize(file)),
                (Cwd::At(dir), Some(file)) => Some(path::resolve(dir, file)),
                _ => None,
            };
            let (Some(from), Some(to)) = (seen(source), seen(target)) else {
                all.unknown_paths = true;
                continue;
            };
            let name = from.rsplit('/').next().unwrap_or_default();
            // A relative source is seen from where the link is.
            let parent = to
                .rsplit_once('/')
                .map_or(".", |(parent, _)| parent)
                .to_owned();
            let from_link = source.known().map(|file| path::resolve(&parent, file));
            for link in [to.clone(), path::resolve(&to, name)] {
                for leads in [Some(from.clone()), from_link.clone()]
                    .into_iter()
                    .flatten()
                {
                    let behind: Vec<String> = all
                        .paths
                        .iter()
                        .filter_map(|path| moved(path, &link, &leads))
                        .collect();
                    behind.into_iter().for_each(|path| all.add(path));
                }
            }
        }
    }
}

/// `path` below `link`, as it is below where the link leads; the link itself is what was made.
pub(super) fn moved(path: &str, link: &str, leads: &str) -> Option<String> {
    let rest = path.strip_prefix(link)?.strip_prefix('/')?;
    Some(path::resolve(leads, rest))
}
