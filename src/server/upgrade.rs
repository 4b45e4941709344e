//! Replacing the process by another one without refusing a connection or cutting an answer.
//!
//! The successor (`drover serve --upgrade`) makes a socket at `pingora.upgrade_sock` and waits. The process at
//! work looks for it, sends its listening sockets (Pingora's `Fds`), and serves on. Once the successor has
//! checked its backends and accepts connections it says so by a file beside the socket; then the old process
//! stops accepting, finishes its answers and leaves. A successor that never gets there changes nothing.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::os::fd::RawFd;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use pingora_core::server::{Fds, ListenFds, ShutdownWatch};
use pingora_core::services::background::BackgroundService;
use thiserror::Error;
use tokio::time::{Instant, sleep};

use super::drain::Inflight;

/// Pause between two looks for a successor.
const LOOK: Duration = Duration::from_millis(200);

/// A successor that does not serve within so long is worth a line.
const PATIENCE: Duration = Duration::from_secs(60);

/// The socket of a successor that was served may still be there for a moment.
const AGAIN: Duration = Duration::from_secs(2);

/// Why the sockets of the process at work cannot be had.
#[derive(Debug, Error)]
pub enum UpgradeError {
    /// The place where they would be handed over.
    #[error("`pingora.upgrade_sock` {}: {reason}", path.display())]
    Place {
        /// As configured.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Nobody sent any.
    #[error(
        "the addresses are in use, and whoever uses them handed nothing over at {}: {reason}. Does it \
         run with the same `pingora.upgrade_sock`?",
        path.display()
    )]
    Nobody {
        /// As configured.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
}

/// The listening sockets of another process.
pub(super) struct Inherited {
    fds: Fds,
    claimed: HashSet<String>,
}

impl Inherited {
    /// Waits for them, some seconds.
    ///
    /// # Errors
    /// The place is not safe, or nobody sends any.
    pub(super) fn receive(path: &Path) -> Result<Self, UpgradeError> {
        let bad = |reason: String| UpgradeError::Place {
            path: path.to_owned(),
            reason,
        };
        is_private(path).map_err(bad)?;
        remove(&serving(path)).map_err(|error| bad(error.to_string()))?;
        // Pingora panics where it cannot make the socket, so that is tried first; it makes it anew.
        remove(path).map_err(|error| bad(error.to_string()))?;
        drop(UnixListener::bind(path).map_err(|error| bad(error.to_string()))?);
        let mut fds = Fds::new();
        let received = fds.get_from_sock(path.display().to_string().as_str());
        received.map_err(|error| UpgradeError::Nobody {
            path: path.to_owned(),
            reason: error.to_string(),
        })?;
        Ok(Self {
            fds,
            claimed: HashSet::new(),
        })
    }

    /// The socket that listens on `addr`, if there is one.
    pub(super) fn claim(&mut self, addr: &str) -> Option<(RawFd, SocketAddr)> {
        let wanted = addr.to_socket_addrs().ok()?;
        for local in wanted {
            let key = local.to_string();
            if let Some(fd) = self.fds.get(&key) {
                self.claimed.insert(key);
                return Some((*fd, local));
            }
        }
        None
    }

    /// Closes those that nobody has claimed: nobody would accept their connections.
    pub(super) fn close_the_rest(mut self) {
        for addr in self.fds.close_unclaimed(&self.claimed) {
            tracing::info!(addr, "not listened on any more");
        }
    }
}

/// Tells the predecessor that this process serves, once the services it depends on do.
pub(super) struct Announce(pub(super) PathBuf);

#[async_trait]
impl BackgroundService for Announce {
    async fn start(&self, _: ShutdownWatch) {
        let file = serving(&self.0);
        match fs::write(&file, b"") {
            Ok(()) => tracing::info!("serving in place of the process before"),
            Err(error) => {
                tracing::error!(file = %file.display(), %error, "the process before cannot be told");
            }
        }
    }
}

/// The service that looks for a successor and hands over to it.
pub(super) struct Handover {
    pub(super) path: PathBuf,
    /// Pingora's table of listening sockets, once the services have begun.
    pub(super) fds: Arc<OnceLock<ListenFds>>,
    /// How many sockets there are.
    pub(super) sockets: usize,
    pub(super) inflight: Arc<Inflight>,
}

impl Handover {
    /// Completes when a successor serves.
    async fn run(&self) {
        let file = serving(&self.path);
        let mut sent: Option<Sent> = None;
        loop {
            sleep(LOOK).await;
            if sent.is_some() && file.exists() {
                if let Err(error) = remove(&file) {
                    tracing::warn!(file = %file.display(), %error, "cannot be removed");
                }
                tracing::info!("the successor serves");
                self.inflight.hand_over();
                return;
            }
            if let Some(sent) = &mut sent
                && sent.at.elapsed() > PATIENCE
                && !std::mem::replace(&mut sent.told, true)
            {
                tracing::warn!("the successor does not get to serve; going on until one does");
            }
            let recently = |sent: &Sent| sent.at.elapsed() < AGAIN;
            if sent.as_ref().is_some_and(recently) || !self.is_awaited() {
                continue;
            }
            match self.send().await {
                Ok(()) => tracing::info!("sockets sent to a successor; serving until it does"),
                Err(why) => tracing::error!(why, "sockets not sent to a successor; going on"),
            }
            sent = Some(Sent {
                at: Instant::now(),
                told: false,
            });
        }
    }

    /// Whether a successor waits, and all sockets are there to be sent.
    fn is_awaited(&self) -> bool {
        let waits = fs::symlink_metadata(&self.path).is_ok_and(|m| m.file_type().is_socket());
        let all = |fds: &ListenFds| fds.lock().serialize().0.len() >= self.sockets;
        waits && self.fds.get().is_some_and(all)
    }

    async fn send(&self) -> Result<(), String> {
        is_private(&self.path)?;
        let path = self.path.display().to_string();
        let fds = self.fds.get().cloned().ok_or("there are none yet")?;
        // It waits in steps of a second where nobody listens.
        let send = move || {
            fds.lock()
                .send_to_sock(path.as_str())
                .map_err(|e| e.to_string())
        };
        let sent = tokio::task::spawn_blocking(send).await;
        sent.map_err(|error| error.to_string())?.map(|_| ())
    }
}

/// A successor got the sockets.
struct Sent {
    at: Instant,
    /// That it takes long was told.
    told: bool,
}

#[async_trait]
impl BackgroundService for Handover {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        tokio::select! {
            () = self.run() => {}
            _ = shutdown.changed() => {}
        }
    }
}

/// The file that says that the successor serves.
fn serving(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".serving");
    name.into()
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Whoever reaches the socket could be given our clients' connections, or give us theirs: its directory must
/// be closed to others.
fn is_private(path: &Path) -> Result<(), String> {
    let directory = path.parent().ok_or("it has no directory")?;
    let shown = directory.display();
    let of = fs::metadata(directory).map_err(|error| format!("{shown}: {error}"))?;
    // The owner of a process' own directory there is the user it runs as.
    let us = fs::metadata("/proc/self").map_err(|error| format!("/proc/self: {error}"))?;
    if of.uid() != us.uid() || of.mode() & 0o077 != 0 {
        return Err(format!(
            "{shown} must belong to the user drover runs as, and nobody else may enter it (mode 0700)"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_directory_that_others_may_enter_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("upgrade.sock");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
        is_private(&path).unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        assert!(is_private(&path).unwrap_err().contains("0700"));
        let error = Inherited::receive(&path).err().unwrap().to_string();
        assert!(error.contains("pingora.upgrade_sock"), "{error}");
        assert!(is_private(&dir.path().join("none/upgrade.sock")).is_err());
    }

    #[test]
    fn a_socket_that_cannot_be_made_is_an_error_and_no_panic() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let path = dir.path().join("x".repeat(150));
        assert!(Inherited::receive(&path).is_err());
    }
}
