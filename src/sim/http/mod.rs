//! The HTTP/1.1 server of one simulated llama-server.
//!
//! It is written on plain TCP, not on Pingora, because a stand-in must also misbehave: stop in the
//! middle of a chunk, reset, freeze, die and come back.

mod control;
mod read;
mod router;
mod routes;
mod texts;
mod wire;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};

use super::engine::{Life, Sim};
pub(crate) use read::HttpRequest;
use read::NoRequest;
pub(crate) use wire::{Gone, Wire};

/// Requests served on one connection.
const PER_CONNECTION: usize = 100;

/// Serves until the server is stopped, or dies for good.
pub(crate) async fn run(sim: Arc<Sim>, mut listener: TcpListener) {
    let Ok(address) = listener.local_addr() else {
        return;
    };
    loop {
        let life = accept(&sim, listener).await;
        let Life::Dead {
            restart_after: Some(after),
        } = life
        else {
            return;
        };
        let mut life = sim.life.subscribe();
        let stopped = life.wait_for(|life| *life == Life::Stopped);
        if tokio::time::timeout(after, stopped).await.is_ok() {
            return;
        }
        let Some(next) = rebind(&sim, address).await else {
            return;
        };
        listener = next;
        sim.restart();
    }
}

/// Accepts connections while the server lives. Listener and connections are closed on return.
async fn accept(sim: &Arc<Sim>, listener: TcpListener) -> Life {
    let mut connections = JoinSet::new();
    let mut life = sim.life.subscribe();
    loop {
        tokio::select! {
            ended = ended(&mut life) => return ended,
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    connections.spawn(serve(Arc::clone(sim), stream, peer));
                }
                // Out of file descriptors: give others time to close some.
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn ended(life: &mut watch::Receiver<Life>) -> Life {
    life.wait_for(|life| *life != Life::Alive)
        .await
        .map_or(Life::Stopped, |life| *life)
}

async fn rebind(sim: &Sim, address: SocketAddr) -> Option<TcpListener> {
    while *sim.life.borrow() != Life::Stopped {
        if let Ok(listener) = TcpListener::bind(address).await {
            return Some(listener);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    None
}

async fn serve(sim: Arc<Sim>, stream: TcpStream, peer: SocketAddr) {
    let mut wire = Wire::new(stream);
    for served in 1..=PER_CONNECTION {
        let request = match wire.read_request().await {
            Ok(request) => request,
            Err(NoRequest::Closed) => return,
            Err(NoRequest::Refused(status, origin)) => {
                let _ = wire.bare(status, origin).await;
                return;
            }
        };
        wire.keep_alive &= served < PER_CONNECTION;
        let answered = routes::answer(&sim, &mut wire, request, peer).await;
        if answered.is_err() || !wire.keep_alive {
            return;
        }
    }
}
