//! A simulated server as a Pingora service, for `drover demo`.

use std::{io, net::SocketAddr};

use async_trait::async_trait;
use parking_lot::Mutex;
use pingora_core::{server::ShutdownWatch, services::background::BackgroundService};
use tokio::net::TcpListener;

use super::{SimConfig, serve};

/// A simulated server that runs while a Pingora server does. Register it with
/// `pingora_core::services::background::background_service`.
#[derive(Debug)]
pub struct SimService {
    config: SimConfig,
    address: SocketAddr,
    listener: Mutex<Option<std::net::TcpListener>>,
}

impl SimService {
    /// Binds `address` (port 0 for any free port) at once; serves when the service starts.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub fn bind(config: SimConfig, address: impl std::net::ToSocketAddrs) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        Ok(Self {
            config,
            address,
            listener: Mutex::new(Some(listener)),
        })
    }

    /// The address it listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

#[async_trait]
impl BackgroundService for SimService {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let Some(listener) = self.listener.lock().take() else {
            return;
        };
        let started = TcpListener::from_std(listener).and_then(|l| serve(self.config.clone(), l));
        let mut handle = match started {
            Ok(handle) => handle,
            Err(error) => {
                tracing::error!(%error, address = %self.address, "simulated server did not start");
                return;
            }
        };
        tokio::select! {
            () = handle.ended() => {}
            _ = shutdown.wait_for(|down| *down) => {}
        }
        handle.stop().await;
    }
}
