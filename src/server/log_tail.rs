//! Following the log files of backends (`fleet.pools[].backends[].log_file`).
//!
//! By asking the file system once a second: that works on every kind of mount, and telling lines are rare. A file is
//! followed from its end, as `tail -F` does; one that appears or takes its place later is read from its beginning, after
//! the rest of the one before it. A file that became shorter was written anew (llama-server truncates its log when it
//! starts).

use std::io::{self, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

/// Bytes read of one file in one look. More than a server writes in a second; of what is left the next look takes its
/// part.
const MOST: usize = 1 << 20;

/// Longest line. What is longer is looked at in pieces.
const MOST_LINE: usize = 16 << 10;

/// One file that is followed.
#[derive(Debug)]
pub(super) struct Tail {
    path: PathBuf,
    open: Option<Open>,
    /// It was there, or its absence was seen: whatever is there from now on is new.
    is_known: bool,
    /// The beginning of a line whose end has not come.
    rest: Vec<u8>,
}

#[derive(Debug)]
struct Open {
    file: File,
    /// Device and number of the file: a name can stand for another one at any time.
    id: (u64, u64),
    at: u64,
}

impl Tail {
    pub(super) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            open: None,
            is_known: false,
            rest: Vec::new(),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What has been written since the last look, line by line.
    ///
    /// # Errors
    /// The file cannot be read. One that is not there is none: it may come.
    pub(super) async fn look(&mut self, line: &mut (dyn FnMut(&str) + Send)) -> io::Result<()> {
        let mut left = MOST;
        if let Some(open) = &mut self.open {
            let read = open.read(left).await?;
            left -= read.len();
            self.lines(&read, line);
        }
        // Only what is read to its end is left for another.
        if left > 0 && self.turn().await? {
            let Some(open) = &mut self.open else {
                return Ok(());
            };
            let read = open.read(left).await?;
            self.lines(&read, line);
        }
        Ok(())
    }

    /// Opens what the name stands for now, if that is another file. Whether it did.
    async fn turn(&mut self) -> io::Result<bool> {
        let found = match tokio::fs::metadata(&self.path).await {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.is_known = true;
                return Ok(false);
            }
            Err(error) => return Err(error),
        };
        if !found.is_file() {
            return Err(io::Error::other("it is no file"));
        }
        let id = (found.dev(), found.ino());
        if self.open.as_ref().is_some_and(|open| open.id == id) {
            return Ok(false);
        }
        let file = File::open(&self.path).await?;
        let is_new = std::mem::replace(&mut self.is_known, true);
        let at = if is_new { 0 } else { found.len() };
        self.open = Some(Open { file, id, at });
        self.rest.clear();
        Ok(true)
    }

    fn lines(&mut self, read: &[u8], line: &mut (dyn FnMut(&str) + Send)) {
        let lines = read.split_inclusive(|byte| *byte == b'\n');
        for piece in lines.flat_map(|line| line.chunks(MOST_LINE)) {
            self.rest.extend_from_slice(piece);
            if piece.ends_with(b"\n") || self.rest.len() >= MOST_LINE {
                line(&String::from_utf8_lossy(&self.rest));
                self.rest.clear();
            }
        }
    }
}

impl Open {
    /// What is there beyond what was read, up to `most` bytes.
    async fn read(&mut self, most: usize) -> io::Result<Vec<u8>> {
        let len = self.file.metadata().await?.len();
        if len < self.at {
            self.at = 0;
        }
        self.file.seek(SeekFrom::Start(self.at)).await?;
        let mut read = Vec::new();
        (&mut self.file)
            .take(most as u64)
            .read_to_end(&mut read)
            .await?;
        self.at += read.len() as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, OpenOptions};
    use std::io::Write;

    use super::*;

    async fn look(tail: &mut Tail) -> Vec<String> {
        let mut lines = Vec::new();
        let mut take = |line: &str| lines.push(line.trim_end().to_owned());
        tail.look(&mut take).await.unwrap();
        lines
    }

    fn append(path: &Path, text: &str) {
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .open(path)
            .unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    #[tokio::test]
    async fn lines_are_followed_over_rotation_and_truncation() {
        let room = tempfile::tempdir().unwrap();
        let path = room.path().join("llama.log");
        append(&path, "old\n");
        let mut tail = Tail::new(&path);
        assert!(look(&mut tail).await.is_empty(), "what was there before");
        append(&path, "one\ntw");
        assert_eq!(look(&mut tail).await, ["one"]);
        append(&path, "o\n");
        assert_eq!(look(&mut tail).await, ["two"]);
        // Moved away, written to for a last time, and begun anew.
        append(&path, "last\n");
        fs::rename(&path, room.path().join("llama.log.1")).unwrap();
        append(&path, "first\n");
        assert_eq!(look(&mut tail).await, ["last", "first"]);
        fs::write(&path, "anew\n").unwrap();
        assert_eq!(look(&mut tail).await, ["anew"], "shorter than it was");
        fs::remove_file(&path).unwrap();
        assert!(look(&mut tail).await.is_empty());
        append(&path, "back\n");
        assert_eq!(look(&mut tail).await, ["back"]);
    }

    #[tokio::test]
    async fn a_file_that_comes_later_is_read_from_its_beginning() {
        let room = tempfile::tempdir().unwrap();
        let path = room.path().join("llama.log");
        let mut tail = Tail::new(&path);
        assert!(look(&mut tail).await.is_empty());
        append(&path, "begin\n");
        assert_eq!(look(&mut tail).await, ["begin"]);
        let mut tail = Tail::new(room.path());
        assert!(tail.look(&mut |_| ()).await.is_err(), "a directory");
    }

    #[tokio::test]
    async fn what_is_read_at_once_is_bounded() {
        let room = tempfile::tempdir().unwrap();
        let path = room.path().join("llama.log");
        let mut tail = Tail::new(&path);
        look(&mut tail).await;
        append(&path, &"x".repeat(3 * MOST));
        let mut longest = 0;
        let mut sum = 0;
        for _ in 0..4 {
            for line in look(&mut tail).await {
                longest = longest.max(line.len());
                sum += line.len();
            }
        }
        assert_eq!(sum, 3 * MOST, "pieces of a line without an end");
        assert!(
            longest < 2 * MOST_LINE && tail.rest.len() < MOST_LINE,
            "{longest}"
        );
    }
}
