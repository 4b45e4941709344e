//! What is wrong with a configuration, said so that it can be found and mended.

use std::fmt;
use std::path::PathBuf;

/// A place in the configuration file; both numbers start at 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Line of the file.
    pub line: u64,
    /// Column of the line, in characters.
    pub column: u64,
}

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// Path of the key in the file, such as `fleet.pools[0].backends[1].url`; empty for the document itself.
    pub path: String,
    /// Where the value (or the key, for keys that do not exist) stands; `None` when it is a default or
    /// came from the environment.
    pub position: Option<Position>,
    /// What is wrong and, where it is not obvious, what would be right. Never contains a secret.
    pub message: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path.as_str() {
            "" => f.write_str(&self.message),
            path => write!(f, "{path}: {}", self.message),
        }
    }
}

/// Every mistake found in one configuration, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigErrors {
    /// The file, `None` when the configuration came from the environment and the defaults alone.
    pub file: Option<PathBuf>,
    /// The mistakes; never empty.
    pub errors: Vec<ConfigError>,
}

impl ConfigErrors {
    pub(super) fn one(file: Option<PathBuf>, error: ConfigError) -> Self {
        Self {
            file,
            errors: vec![error],
        }
    }
}

impl fmt::Display for ConfigErrors {
    /// One line a mistake, `file:line:column: path: message`, the form editors and terminals link.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, error) in self.errors.iter().enumerate() {
            if n > 0 {
                writeln!(f)?;
            }
            match &self.file {
                Some(file) => write!(f, "{}:", file.display())?,
                None => f.write_str("configuration:")?,
            }
            if let Some(at) = error.position {
                write!(f, "{}:{}:", at.line, at.column)?;
            }
            write!(f, " {error}")?;
        }
        Ok(())
    }
}
