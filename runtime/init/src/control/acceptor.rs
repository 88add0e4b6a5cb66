//! The leader's listener: takes connections, reads their joins, and turns away what is not of this run.
//!
//! Handshakes run side by side, so that a silent stranger on the port keeps nobody waiting.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use super::wire::{Join, JoinError, JoinKey, Retry, ToNode, read_join, write_frame};

/// A connection that says nothing for this long is none of ours.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Handshakes at a time; more wait in the kernel's queue.
const MAX_HANDSHAKES: usize = 1024;

/// A node at the door, with the right key and the right incarnation. It waits for an answer.
#[derive(Debug)]
pub(crate) struct Arrival {
    pub(crate) join: Join,
    pub(crate) stream: TcpStream,
}

/// The leader's listener.
#[derive(Debug)]
pub(crate) struct Acceptor {
    /// None where the run has one node only.
    listener: Option<TcpListener>,
    handshakes: JoinSet<Option<Arrival>>,
    key: JoinKey,
    /// Not known before the notice is up; nobody can come before.
    incarnation: Option<u32>,
}

/// Which interfaces the leader listens on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Interfaces {
    /// All of them.
    All,
    /// The one that has this address.
    Only(IpAddr),
}

// === impl Acceptor ===

impl Acceptor {
    /// Listens on that port.
    pub(crate) async fn listen(interfaces: Interfaces, port: u16) -> std::io::Result<Self> {
        let listener = match interfaces {
            Interfaces::Only(address) => TcpListener::bind(SocketAddr::new(address, port)).await?,
            // The IPv6 wildcard takes IPv4 as well; a kernel without IPv6 has only the other one.
            Interfaces::All => match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await {
                Ok(listener) => listener,
                Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => return Err(error),
                Err(_) => TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await?,
            },
        };
        Ok(Self { listener: Some(listener), ..Self::deaf() })
    }

    /// One that nobody comes to.
    pub(crate) fn deaf() -> Self {
        Self { listener: None, handshakes: JoinSet::new(), key: JoinKey::random(), incarnation: None }
    }

    /// The key that arrivals must show.
    pub(crate) fn key(&self) -> &JoinKey {
        &self.key
    }

    /// Sets the incarnation that arrivals must want.
    pub(crate) fn expect(&mut self, incarnation: u32) {
        self.incarnation = Some(incarnation);
    }

    /// The next node at the door. Cancellation safe.
    pub(crate) async fn next(&mut self) -> Arrival {
        loop {
            tokio::select! {
                Some(finished) = self.handshakes.join_next() => {
                    if let Ok(Some(arrival)) = finished {
                        return arrival;
                    }
                }
                accepted = accept(self.listener.as_ref()), if self.handshakes.len() < MAX_HANDSHAKES => {
                    match accepted {
                        Ok((stream, peer)) => {
                            let handshake = handshake(stream, peer, self.key.clone(), self.incarnation);
                            self.handshakes.spawn(handshake);
                        }
                        Err(error) => {
                            warn!("cannot accept a connection on the control port: {error}");
                            // Out of descriptors or memory: an immediate retry would only spin.
                            sleep(Duration::from_millis(100)).await;
                        }
                    }
                }
            }
        }
    }
}

async fn accept(listener: Option<&TcpListener>) -> std::io::Result<(TcpStream, SocketAddr)> {
    match listener {
        Some(listener) => listener.accept().await,
        None => std::future::pending().await,
    }
}

async fn handshake(
    mut stream: TcpStream,
    peer: SocketAddr,
    key: JoinKey,
    incarnation: Option<u32>,
) -> Option<Arrival> {
    // Heartbeats and orders are small and must not wait for each other.
    let _ = stream.set_nodelay(true);
    let join = match timeout(HANDSHAKE_TIMEOUT, read_join(&mut stream)).await {
        Ok(Ok(join)) => join,
        Ok(Err(error @ JoinError::Protocol { .. })) => {
            refuse(stream, error.to_string(), Retry::Never).await;
            return None;
        }
        Ok(Err(JoinError::Frame(error))) => {
            debug!("connection from {peer} is not a join: {error}");
            return None;
        }
        Err(_) => {
            debug!("connection from {peer} said nothing for {} s", HANDSHAKE_TIMEOUT.as_secs());
            return None;
        }
    };
    if !key.matches(&join.key) {
        warn!("refused a join from {peer} as node {}: wrong join key", join.node_rank);
        refuse(stream, "wrong join key".into(), Retry::Later).await;
        return None;
    }
    if incarnation != Some(join.incarnation) {
        refuse(stream, format!("this is not incarnation {}", join.incarnation), Retry::Later).await;
        return None;
    }
    Some(Arrival { join, stream })
}

/// Tells a node that it is not let in, and closes its connection.
pub(crate) async fn refuse(mut stream: TcpStream, reason: String, retry: Retry) {
    // It hears it or it does not: it is not ours to care for.
    let refusal = ToNode::Refused { reason, retry };
    let _ = timeout(HANDSHAKE_TIMEOUT, write_frame(&mut stream, &refusal)).await;
}
