//! Ports for jobs: free when they are given out, and nobody else's until the job's command starts.
//!
//! A port is held by a listening socket until just before the command is executed. For the rest of the job's
//! life a mark holds its number, an abstract Unix socket, so that neither this server nor another one on the
//! machine gives it to a second job before the first has bound it. Numbers lie outside of the range from which
//! the kernel takes the ports of outgoing connections.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};
use std::ops::RangeInclusive;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};

use rand::Rng;

/// Ports below are for services.
const LOWEST: u16 = 10_000;
/// Tries for each port; the range has thousands.
const TRIES: usize = 2_000;

/// The ports of one job, for as long as it lives.
#[derive(Debug)]
pub(super) struct Lease {
    pub(super) ports: Vec<u16>,
    #[allow(dead_code, reason = "held, never read")]
    marks: Vec<UnixListener>,
}

/// Holds the ports of a job that has not started.
#[derive(Debug)]
pub(super) struct Holders {
    #[allow(dead_code, reason = "held, never read")]
    sockets: Vec<TcpListener>,
}

/// Takes free ports.
pub(super) fn reserve(count: usize) -> io::Result<(Lease, Holders)> {
    let ranges =
        ranges(&std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default());
    let mut lease = Lease { ports: Vec::new(), marks: Vec::new() };
    let mut holders = Holders { sockets: Vec::new() };
    for _ in 0..count {
        let (port, mark, socket) = reserve_one(&ranges)?;
        lease.ports.push(port);
        lease.marks.push(mark);
        holders.sockets.push(socket);
    }
    Ok((lease, holders))
}

fn reserve_one(ranges: &[RangeInclusive<u16>]) -> io::Result<(u16, UnixListener, TcpListener)> {
    let mut last = io::Error::new(io::ErrorKind::AddrInUse, "no port was tried");
    for _ in 0..TRIES {
        let range = ranges[rand::rng().random_range(0..ranges.len())].clone();
        let port = rand::rng().random_range(range);
        let name = format!("tractorun-minicluster-port-{port}");
        match UnixListener::bind_addr(&SocketAddr::from_abstract_name(name)?)
            .and_then(|mark| Ok((mark, hold(port)?)))
        {
            Ok((mark, socket)) => return Ok((port, mark, socket)),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// A socket on the port of every address of this machine, IPv6 and IPv4 at once where there is IPv6.
fn hold(port: u16) -> io::Result<TcpListener> {
    match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)) {
        Ok(socket) => Ok(socket),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(error),
        Err(_) => TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)),
    }
}

/// Where to take ports from: what the kernel's own range leaves free, all of it if it leaves next to nothing.
fn ranges(kernels_own: &str) -> Vec<RangeInclusive<u16>> {
    let mut numbers = kernels_own.split_whitespace().filter_map(|number| number.parse::<u16>().ok());
    let (Some(first), Some(last)) = (numbers.next(), numbers.next()) else { return vec![LOWEST..=u16::MAX] };
    let mut ranges = Vec::new();
    if first > LOWEST {
        ranges.push(LOWEST..=first - 1);
    }
    if last < u16::MAX {
        ranges.push(last.max(LOWEST - 1) + 1..=u16::MAX);
    }
    ranges.retain(|range| !range.is_empty());
    if ranges.iter().map(ExactSizeIterator::len).sum::<usize>() < 1_000 {
        vec![LOWEST..=u16::MAX]
    } else {
        ranges
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_held_then_free_and_never_given_twice() {
        let (lease, holders) = reserve(3).unwrap();
        for port in &lease.ports {
            assert_eq!(hold(*port).unwrap_err().kind(), io::ErrorKind::AddrInUse);
            assert_eq!(
                TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).unwrap_err().kind(),
                io::ErrorKind::AddrInUse
            );
        }
        drop(holders);
        let one = lease.ports[0];
        // Free for the job, but not for another lease.
        drop(hold(one).unwrap());
        assert_eq!(reserve_one(&[one..=one]).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(lease);
        assert_eq!(reserve_one(&[one..=one]).unwrap().0, one);
    }

    #[test]
    fn the_kernels_own_range_is_left_alone() {
        assert_eq!(ranges("32768\t60999\n"), [10_000..=32_767, 61_000..=u16::MAX]);
        assert_eq!(ranges("1024 65535"), [10_000..=u16::MAX]);
        assert_eq!(ranges(""), [10_000..=u16::MAX]);
        assert_eq!(ranges("1024 9000"), [10_000..=u16::MAX]);
    }
}
