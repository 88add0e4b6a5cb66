//! Free ports of this machine.

use std::net::{Ipv4Addr, TcpListener};

use anyhow::Context;

/// So many different ports that nobody listens on, on any address.
///
/// All are held until the last is found, so that none is given twice, and let go when this returns: between
/// that and their use somebody else may take one, which no interface of the system can rule out.
pub(super) fn free_ports(count: usize) -> anyhow::Result<Vec<u16>> {
    let listeners = (0..count)
        .map(|_| TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)))
        .collect::<Result<Vec<_>, _>>()
        .with_context(|| format!("cannot find {count} free ports"))?;
    let ports = listeners.iter().map(|listener| Ok(listener.local_addr()?.port()));
    ports.collect::<std::io::Result<_>>().context("cannot tell the free ports")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn ports_are_different_and_free() {
        let ports = free_ports(20).unwrap();
        assert_eq!(ports.iter().collect::<BTreeSet<_>>().len(), 20);
        let _held: Vec<_> =
            ports.iter().map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).unwrap()).collect();
    }
}
