//! Backends listed in a file of their own.

use std::io;
use std::path::Path;

use tokio::time::sleep;

use super::{Teller, Told};
use crate::config::{self, FileSource, FileWatch, Stamp};

/// Tells what is in the file, and again whenever it has changed.
pub(super) async fn look(source: &FileSource, teller: &Teller) {
    let path = &source.path;
    loop {
        // Before it is read: what is written meanwhile is seen at the next look.
        let mut watch = FileWatch::new(Stamp::of(path));
        let text = tokio::fs::read_to_string(path).await;
        // What could not be read may be readable later without having changed; a mistake in it stays one.
        let again = text.is_err();
        teller.tell(parsed(path, text));
        loop {
            sleep(source.every).await;
            if again || watch.look(Stamp::of(path)) {
                break;
            }
        }
    }
}

fn parsed(path: &Path, text: io::Result<String>) -> Told {
    let path = path.display();
    let text = text.map_err(|error| format!("{path} cannot be read: {error}"))?;
    config::listed(&text).map_err(|error| format!("{path}: {error}"))
}
