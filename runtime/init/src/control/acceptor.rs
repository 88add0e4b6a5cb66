//! The leader's listener: takes connections, reads their joins, and turns away what is not of this run.
//!
//! Handshakes run side by side, so that a silent stranger on the port keeps nobody waiting. When there are too
//! many the oldest is given up: a node says who it is at once, so the oldest is a stranger.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};
use tractorun_sys::descriptor::Limit;

use super::wire::{Join, JoinError, JoinKey, Retry, ToNode, read_join, write_frame};

/// A connection that says nothing for this long is none of ours.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Handshakes at a time, where the process may have descriptors enough for all else besides.
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
    /// The same, oldest first; some may have ended.
    oldest_first: VecDeque<AbortHandle>,
    /// Handshakes at a time.
    max_handshakes: usize,
    /// How long each may take.
    patience: Duration,
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

// === impl Interfaces ===

impl Interfaces {
    /// Those that a node listens on which is to be reached by that host.
    pub(crate) fn of(advertise_host: Option<&str>) -> Self {
        match advertise_host.map(str::parse) {
            Some(Ok(address)) => Self::Only(address),
            Some(Err(_)) | None => Self::All,
        }
    }

    /// Listens on that port.
    pub(crate) async fn bind(self, port: u16) -> std::io::Result<TcpListener> {
        match self {
            Self::Only(address) => TcpListener::bind(SocketAddr::new(address, port)).await,
            // The IPv6 wildcard takes IPv4 as well; a kernel without IPv6 has only the other one.
            Self::All => match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await {
                Ok(listener) => Ok(listener),
                Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => Err(error),
                Err(_) => TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await,
            },
        }
    }
}

// === impl Acceptor ===

impl Acceptor {
    /// Listens on that port.
    pub(crate) async fn listen(interfaces: Interfaces, port: u16) -> std::io::Result<Self> {
        let listener = interfaces.bind(port).await?;
        Ok(Self { listener: Some(listener), ..Self::deaf() })
    }

    /// One that nobody comes to.
    pub(crate) fn deaf() -> Self {
        // Strangers must leave descriptors for the nodes, the cluster and the workers.
        let quarter = Limit::current()
            .map_or(usize::MAX, |limit| usize::try_from(limit.descriptors() / 4).unwrap_or(usize::MAX));
        Self {
            listener: None,
            handshakes: JoinSet::new(),
            oldest_first: VecDeque::new(),
            max_handshakes: quarter.clamp(1, MAX_HANDSHAKES),
            patience: HANDSHAKE_TIMEOUT,
            key: JoinKey::random(),
            incarnation: None,
        }
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
                accepted = accept(self.listener.as_ref()) => {
                    match accepted {
                        Ok((stream, peer)) => self.begin(stream, peer),
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

impl Acceptor {
    fn begin(&mut self, stream: TcpStream, peer: SocketAddr) {
        if self.oldest_first.len() >= self.max_handshakes {
            self.oldest_first.retain(|handshake| !handshake.is_finished());
        }
        if self.oldest_first.len() >= self.max_handshakes
            && let Some(oldest) = self.oldest_first.pop_front()
        {
            debug!("too many connections that say nothing: gave up the oldest");
            oldest.abort();
        }
        let (key, incarnation, patience) = (self.key.clone(), self.incarnation, self.patience);
        let handshake = async move {
            let arrival = timeout(patience, handshake(stream, peer, key, incarnation)).await;
            arrival.unwrap_or_else(|_| {
                debug!("connection from {peer} said nothing for {} s", patience.as_secs());
                None
            })
        };
        self.oldest_first.push_back(self.handshakes.spawn(handshake));
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
    let join = match read_join(&mut stream).await {
        Ok(join) => join,
        Err(error @ JoinError::Protocol { .. }) => {
            refuse(stream, error.to_string(), Retry::Never).await;
            return None;
        }
        Err(JoinError::Frame(error)) => {
            debug!("connection from {peer} is not a join: {error}");
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

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::control::progress::Progress;
    use crate::control::wire::{PROTOCOL, ReachedBy};

    async fn listening() -> (Acceptor, SocketAddr) {
        let interfaces = Interfaces::Only(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let mut acceptor = Acceptor::listen(interfaces, 0).await.unwrap();
        acceptor.expect(3);
        // Nobody is helped by time.
        acceptor.patience = Duration::from_hours(1);
        acceptor.max_handshakes = 4;
        let address = acceptor.listener.as_ref().unwrap().local_addr().unwrap();
        (acceptor, address)
    }

    #[tokio::test]
    async fn strangers_keep_no_node_out_however_many_they_are() {
        let (mut acceptor, address) = listening().await;
        let join = Join {
            protocol: PROTOCOL,
            key: acceptor.key().clone(),
            incarnation: 3,
            node_rank: 1,
            job_id: "j".into(),
            host: "h".into(),
            ports: vec![1],
            metrics_port: None,
            reached_by: ReachedBy::Address(address.ip()),
            progress: Progress::Ready,
        };
        let mut strangers = Vec::new();
        for number in 0..20 {
            let mut stranger = TcpStream::connect(address).await.unwrap();
            // Some say nothing, some begin a frame that never ends, some talk something else.
            let words: &[u8] = match number % 3 {
                0 => b"",
                1 => &[0, 0, 255, 255, b'{'],
                _ => b"GET / HTTP/1.1\r\n\r\n",
            };
            stranger.write_all(words).await.unwrap();
            strangers.push(stranger);
        }
        let mut node = TcpStream::connect(address).await.unwrap();
        write_frame(&mut node, &join).await.unwrap();
        assert_eq!(acceptor.next().await.join.node_rank, 1);
        // The first of them was given up.
        assert_eq!(strangers[0].read(&mut [0; 8]).await.unwrap_or(0), 0);
        assert!(acceptor.oldest_first.len() <= 4);
    }
}
