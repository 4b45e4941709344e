//! A scripted backend behind a unix socket.

use std::net::SocketAddr;
use std::path::PathBuf;

use tempfile::TempDir;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpStream, UnixListener};
use tokio::task::JoinSet;

use super::backend::Backend;

/// A socket whose connections go on to a backend, each to one of its own. It closes when dropped.
pub(crate) struct Socket {
    path: PathBuf,
    to: SocketAddr,
    connections: JoinSet<()>,
    _dir: TempDir,
}

impl Socket {
    /// A socket in a directory of its own.
    pub(crate) fn before(backend: &Backend) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut socket = Self {
            path: dir.path().join("gpu0.sock"),
            to: backend.url()["http://".len()..].parse().unwrap(),
            connections: JoinSet::new(),
            _dir: dir,
        };
        socket.open();
        socket
    }

    /// Listen.
    pub(crate) fn open(&mut self) {
        let listener = UnixListener::bind(&self.path).unwrap();
        let to = self.to;
        self.connections.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((mut from, _)) = listener.accept().await {
                open.spawn(async move {
                    let mut to = TcpStream::connect(to).await?;
                    copy_bidirectional(&mut from, &mut to).await
                });
                while open.try_join_next().is_some() {}
            }
        });
    }

    /// Cut all connections and take the socket away.
    pub(crate) async fn close(&mut self) {
        self.connections.shutdown().await;
        std::fs::remove_file(&self.path).unwrap();
    }

    /// The address for the configuration.
    pub(crate) fn url(&self) -> String {
        format!("unix:{}", self.path.display())
    }
}
