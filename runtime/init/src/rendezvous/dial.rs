//! Connections to the leader by all of its names and addresses: started one shortly after the other, so that one which
//! leads nowhere costs a fraction of a second and not its whole patience. (The idea is RFC 8305's.)
//!
//! Connects only: whether it is the leader that answers is for the caller to find out, who may come back for the next
//! connection.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::address::{endpoint, resolve};
use super::board::ControlEndpoint;
use crate::control::wire::ReachedBy;

/// From the start of one connection to that of the next one.
const STAGGER: Duration = Duration::from_millis(250);

/// The same after a name was asked for: a leader that is reached by its name can be called by it, so a name server may
/// take a little longer.
const NAME_STAGGER: Duration = Duration::from_secs(1);

/// Time for one connection to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// All ways to one leader.
#[derive(Debug)]
pub(super) struct Dialler {
    port: u16,
    waiting: VecDeque<Candidate>,
    running: JoinSet<Tried>,
    /// When the next of those that wait is started, whatever becomes of the others.
    next_start: Instant,
    connect_timeout: Duration,
    /// In the order of the leader's own list, so that the same failures always make the same text.
    failures: BTreeMap<Order, (String, String)>,
}

/// A connection to what may be the leader.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) stream: TcpStream,
    pub(super) way: ReachedBy,
    pub(super) place: Place,
}

/// One address of the leader.
#[derive(Debug)]
pub(super) struct Place {
    order: Order,
    /// `host:port`, and by which name it was found.
    name: String,
}

/// Where it stands in the leader's list, and among the addresses of a name.
type Order = (usize, usize);

#[derive(Debug)]
enum Candidate {
    Name { index: usize, host: String },
    Address { way: ReachedBy, place: Place },
}

#[derive(Debug)]
enum Tried {
    /// Addresses of a host.
    Found(Vec<Candidate>),
    Connected(Connection),
    Failed {
        place: Place,
        error: String,
    },
}

// === impl Dialler ===

impl Dialler {
    pub(super) fn new(control: &ControlEndpoint) -> Self {
        let port = control.port;
        let candidate = |(index, host): (usize, &String)| match host.parse() {
            Ok(address) => {
                let place = Place { order: (index, 0), name: endpoint(host, port) };
                Candidate::Address { way: ReachedBy::Address(address), place }
            }
            Err(_) => Candidate::Name { index, host: host.clone() },
        };
        Self {
            port,
            waiting: control.addresses.iter().enumerate().map(candidate).collect(),
            running: JoinSet::new(),
            next_start: Instant::now(),
            connect_timeout: CONNECT_TIMEOUT,
            failures: BTreeMap::new(),
        }
    }

    /// The next connection that was made; none when everything was tried. Cancellation safe.
    pub(super) async fn next(&mut self) -> Option<Connection> {
        loop {
            if self.running.is_empty() || self.next_start <= Instant::now() {
                match self.waiting.pop_front() {
                    Some(candidate) => self.start(candidate),
                    None if self.running.is_empty() => return None,
                    None => {}
                }
            }
            tokio::select! {
                Some(tried) = self.running.join_next() => match tried {
                    Ok(Tried::Connected(connection)) => return Some(connection),
                    Ok(Tried::Found(addresses)) => {
                        addresses.into_iter().rev().for_each(|address| self.waiting.push_front(address));
                        self.next_start = Instant::now();
                    }
                    Ok(Tried::Failed { place, error }) => {
                        self.failed(place, error);
                        self.next_start = Instant::now();
                    }
                    // None is cancelled but with all of this, and none panics.
                    Err(_) => {}
                },
                () = sleep_until(self.next_start), if !self.waiting.is_empty() => {}
            }
        }
    }

    /// It was not the leader.
    pub(super) fn failed(&mut self, at: Place, error: String) {
        self.failures.insert(at.order, (at.name, error));
    }

    /// What was tried and why it did not work.
    pub(super) fn failures(self) -> Vec<(String, String)> {
        self.failures.into_values().collect()
    }

    fn start(&mut self, candidate: Candidate) {
        let (port, connect_timeout) = (self.port, self.connect_timeout);
        match candidate {
            Candidate::Name { index, host } => {
                self.next_start = Instant::now() + NAME_STAGGER;
                self.running.spawn(async move {
                    match resolve(&host).await {
                        Ok(addresses) => Tried::Found(Candidate::named(index, &host, port, &addresses)),
                        Err(error) => {
                            let place = Place { order: (index, 0), name: endpoint(&host, port) };
                            Tried::Failed { place, error }
                        }
                    }
                });
            }
            Candidate::Address { way, place } => {
                self.next_start = Instant::now() + STAGGER;
                self.running.spawn(async move {
                    let connecting = TcpStream::connect((way.address(), port));
                    let error = match timeout(connect_timeout, connecting).await {
                        Ok(Ok(stream)) => return Tried::Connected(Connection { stream, way, place }),
                        Ok(Err(error)) => error.to_string(),
                        Err(_) => format!("no connection within {} s", connect_timeout.as_secs()),
                    };
                    Tried::Failed { place, error }
                });
            }
        }
    }
}

// === impl Candidate ===

impl Candidate {
    /// The addresses that a name leads to.
    fn named(index: usize, host: &str, port: u16, addresses: &[IpAddr]) -> Vec<Self> {
        let candidate = |(nth, address): (usize, &IpAddr)| {
            let name = format!("{host} at {}", endpoint(&address.to_string(), port));
            Self::Address { way: ReachedBy::Name(*address), place: Place { order: (index, nth), name } }
        };
        addresses.iter().enumerate().map(candidate).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use tokio::net::{TcpListener, TcpSocket};

    use super::*;
    use crate::control::wire::JoinKey;

    /// An address whose connections are never made: nobody takes those that wait, and there is room for one.
    struct BlackHole {
        _listener: TcpListener,
        _waiting: Vec<TcpStream>,
    }

    impl BlackHole {
        async fn at(address: SocketAddr) -> Self {
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind(address).unwrap();
            let listener = socket.listen(0).unwrap();
            let mut waiting = Vec::new();
            // Until the kernel has no more room.
            while let Ok(stream) = timeout(Duration::from_millis(300), TcpStream::connect(address)).await {
                waiting.push(stream.unwrap());
            }
            Self { _listener: listener, _waiting: waiting }
        }
    }

    fn host(last: u8) -> IpAddr {
        Ipv4Addr::new(127, 0, 0, last).into()
    }

    /// A leader at 127.0.0.1, black holes at the addresses that end in these, and nobody anywhere else.
    async fn world(black_holes: &[u8]) -> (TcpListener, u16, Vec<BlackHole>) {
        let leader = TcpListener::bind((host(1), 0)).await.unwrap();
        let port = leader.local_addr().unwrap().port();
        let mut holes = Vec::new();
        for last in black_holes {
            holes.push(BlackHole::at((host(*last), port).into()).await);
        }
        (leader, port, holes)
    }

    fn dialler(port: u16, addresses: &[&str]) -> Dialler {
        let addresses = addresses.iter().map(ToString::to_string).collect();
        Dialler::new(&ControlEndpoint { addresses, port, join_key: JoinKey::random() })
    }

    #[tokio::test]
    async fn addresses_that_lead_nowhere_do_not_have_to_fail_before_the_right_one_is_tried() {
        let (_leader, port, _holes) = world(&[2, 3, 4]).await;
        let mut dialler = dialler(port, &["127.0.0.2", "127.0.0.3", "127.0.0.4", "127.0.0.1"]);
        // They would not fail within any time.
        dialler.connect_timeout = Duration::from_hours(1);
        let connection = dialler.next().await.unwrap();
        assert_eq!(connection.way, ReachedBy::Address(host(1)));
        assert_eq!(dialler.failures(), []);
    }

    #[tokio::test]
    async fn who_says_no_is_followed_at_once_and_all_failures_are_told_in_the_leaders_order() {
        let (leader, port, _holes) = world(&[2]).await;
        let mut dialler = dialler(port, &["127.0.0.2", "127.0.0.5", "no.such.host.invalid", "127.0.0.1"]);
        dialler.connect_timeout = Duration::from_secs(2);
        let connection = dialler.next().await.unwrap();
        drop(leader);
        // It was somebody else.
        dialler.failed(connection.place, "refused: wrong join key".into());
        assert!(dialler.next().await.is_none());
        let failures = dialler.failures();
        let texts: Vec<_> = failures.iter().map(|(place, error)| format!("{place}: {error}")).collect();
        assert_eq!(texts[0], format!("127.0.0.2:{port}: no connection within 2 s"));
        assert!(texts[1].starts_with(&format!("127.0.0.5:{port}: Connection refused")), "{texts:?}");
        assert!(texts[2].starts_with(&format!("no.such.host.invalid:{port}: ")), "{texts:?}");
        assert_eq!(texts[3], format!("127.0.0.1:{port}: refused: wrong join key"));
    }

    #[tokio::test]
    async fn of_equals_the_first_of_the_list_is_taken() {
        let (_leader, port, _holes) = world(&[]).await;
        let _other = TcpListener::bind((host(2), port)).await.unwrap();
        let connection = dialler(port, &["127.0.0.2", "127.0.0.1"]).next().await.unwrap();
        assert_eq!(connection.way, ReachedBy::Address(host(2)));
    }
}
