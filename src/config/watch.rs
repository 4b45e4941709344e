//! Whether a file has changed, by looking at it now and then.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::SystemTime;

/// What tells one content of a file from another without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    modified: Option<SystemTime>,
    length: u64,
    /// An editor, or a link that is swapped, may put another file with the same time in its place.
    file: (u64, u64),
}

impl Stamp {
    /// `None` while there is no such file. Links are followed.
    pub fn of(path: &Path) -> Option<Self> {
        let file = fs::metadata(path).ok()?;
        Some(Self {
            modified: file.modified().ok(),
            length: file.len(),
            file: (file.dev(), file.ino()),
        })
    }
}

/// Waits until a changed file stays as it is: half of a file is no configuration.
#[derive(Debug)]
pub struct FileWatch {
    loaded: Option<Stamp>,
    last: Option<Stamp>,
}

impl FileWatch {
    /// `loaded`: what the configuration in effect was read from.
    pub fn new(loaded: Option<Stamp>) -> Self {
        Self {
            loaded,
            last: loaded,
        }
    }

    /// The file is about to be read as it is now.
    pub fn loaded(&mut self, stamp: Option<Stamp>) {
        *self = Self::new(stamp);
    }

    /// Takes a look in; tells whether the file should be loaded. A file that is missing or empty is
    /// one that is being replaced: an empty one would be a valid configuration, the defaults.
    pub fn look(&mut self, now: Option<Stamp>) -> bool {
        let settled = now == self.last;
        self.last = now;
        settled && now != self.loaded && now.is_some_and(|stamp| stamp.length > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(file: u64, length: u64) -> Option<Stamp> {
        Some(Stamp {
            modified: None,
            length,
            file: (1, file),
        })
    }

    #[test]
    fn a_change_is_told_once_it_has_settled_and_only_once() {
        let mut watch = FileWatch::new(stamp(1, 10));
        let looks = [
            (stamp(1, 10), false),
            (stamp(1, 20), false),
            (stamp(1, 30), false),
            (stamp(1, 30), true),
        ];
        for (now, expected) in looks {
            assert_eq!(watch.look(now), expected, "{now:?}");
        }
        watch.loaded(stamp(1, 30));
        assert!(!watch.look(stamp(1, 30)) && !watch.look(stamp(1, 30)));
    }

    #[test]
    fn a_missing_or_empty_file_is_waited_for() {
        let mut watch = FileWatch::new(stamp(1, 10));
        for now in [None, None, stamp(2, 0), stamp(2, 0), stamp(2, 10)] {
            assert!(!watch.look(now), "{now:?}");
        }
        assert!(watch.look(stamp(2, 10)));
    }

    #[test]
    fn a_file_that_comes_back_as_it_was_is_no_change() {
        let mut watch = FileWatch::new(stamp(1, 10));
        for now in [None, stamp(1, 10), stamp(1, 10)] {
            assert!(!watch.look(now));
        }
    }

    #[test]
    fn another_file_of_the_same_length_is_a_change() {
        let dir = tempfile::tempdir().unwrap();
        let (path, other) = (dir.path().join("a"), dir.path().join("b"));
        fs::write(&path, "one").unwrap();
        let before = Stamp::of(&path);
        fs::write(&other, "two").unwrap();
        fs::rename(&other, &path).unwrap();
        assert_ne!(Stamp::of(&path), before);
        assert_eq!(Stamp::of(&dir.path().join("c")), None);
    }
}
