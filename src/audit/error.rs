//! Why nothing can be written.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::files::{self, Lock};

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The system's word.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Its end cannot be believed.
    #[error("{}: {reason}", path.display())]
    Head {
        /// The directory.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// There is another chain where this process has written.
    #[error("{}: this is not the audit log that was written before; is its disk mounted?", path.display())]
    Replaced {
        /// The directory.
        path: PathBuf,
    },
}

impl JournalError {
    /// Whether it may be over by itself: the disk is full, broken or away.
    pub(super) fn may_pass(&self) -> bool {
        use io::ErrorKind::{
            AlreadyExists, NotADirectory, NotFound, PermissionDenied, ReadOnlyFilesystem,
        };
        let rights = [
            AlreadyExists,
            NotADirectory,
            NotFound,
            PermissionDenied,
            ReadOnlyFilesystem,
        ];
        match self {
            Self::Io { source, .. } => !rights.contains(&source.kind()),
            Self::Head { .. } | Self::Replaced { .. } => false,
        }
    }
}

/// Whether the directory can be written at all, as far as that is a matter of rights.
///
/// # Errors
/// The system's.
pub(super) fn is_writable(dir: &Path) -> Result<(), JournalError> {
    let tried = files::make(dir)
        .and_then(|()| Lock::to_write(dir))
        .map(|_| ());
    let tried = tried.and_then(|()| File::open(dir).map(|_| ()));
    tried.map_err(|source| JournalError::Io {
        path: dir.to_owned(),
        source,
    })
}
