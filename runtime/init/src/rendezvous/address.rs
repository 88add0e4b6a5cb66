//! By what names and addresses this machine can be reached, and where names lead.
//!
//! Names resolve by hickory: a static binary has no `getaddrinfo`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use tokio::time::timeout;
use tracing::debug;

/// A name server that needs longer is none.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(3);

/// Writes `host:port`, with brackets around an IPv6 address.
pub(crate) fn endpoint(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// The name of this machine.
pub(crate) fn own_host_name() -> String {
    match nix::unistd::gethostname() {
        Ok(name) if !name.is_empty() => name.to_string_lossy().into_owned(),
        Ok(_) | Err(_) => "localhost".to_owned(),
    }
}

/// The addresses of this machine's interfaces that are up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OwnAddresses(Vec<IpAddr>);

impl OwnAddresses {
    /// Asks the kernel.
    pub(crate) fn of_machine() -> Self {
        let mut addresses = Vec::new();
        match getifaddrs() {
            Ok(interfaces) => {
                for interface in interfaces.filter(|it| it.flags.contains(InterfaceFlags::IFF_UP)) {
                    let Some(address) = interface.address else { continue };
                    let ip = address
                        .as_sockaddr_in6()
                        .map(|v6| IpAddr::from(v6.ip()))
                        .or_else(|| address.as_sockaddr_in().map(|v4| IpAddr::from(v4.ip())));
                    addresses.extend(ip);
                }
            }
            Err(error) => debug!("cannot list network interfaces: {error}"),
        }
        Self(addresses)
    }

    /// Those that another machine may use, IPv6 first; loopback where there is nothing else, since then all
    /// nodes are on this machine.
    pub(crate) fn reachable(&self) -> Vec<IpAddr> {
        let mut addresses: Vec<IpAddr> = self.0.iter().copied().filter(may_be_reached).collect();
        if addresses.is_empty() {
            return vec![IpAddr::V4(Ipv4Addr::LOCALHOST)];
        }
        addresses.sort_by_key(|address| (address.is_ipv4(), *address));
        addresses.dedup();
        addresses
    }

    /// Whether a connection to that address ends on this machine.
    pub(crate) fn include(&self, address: &IpAddr) -> bool {
        address.is_loopback() || self.0.contains(address)
    }
}

fn may_be_reached(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !v4.is_loopback() && !v4.is_link_local() && !v4.is_unspecified(),
        IpAddr::V6(v6) => !v6.is_loopback() && !v6.is_unicast_link_local() && *v6 != Ipv6Addr::UNSPECIFIED,
    }
}

/// The addresses that a name leads to, at least one; an address leads to itself. The error is one line.
pub(crate) async fn resolve(host: &str) -> Result<Vec<IpAddr>, String> {
    if let Ok(address) = host.parse() {
        return Ok(vec![address]);
    }
    let provider = TokioRuntimeProvider::default();
    // Without /etc/resolv.conf there is still /etc/hosts; nobody else is asked.
    let mut builder = TokioResolver::builder_tokio()
        .unwrap_or_else(|_| TokioResolver::builder_with_config(ResolverConfig::default(), provider));
    builder.options_mut().ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    let resolver = builder.build().map_err(|error| format!("cannot resolve: {error}"))?;
    let answer = match timeout(RESOLVE_TIMEOUT, resolver.lookup_ip(host)).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => return Err(format!("cannot resolve: {error}")),
        Err(_) => return Err(format!("cannot resolve: no answer within {} s", RESOLVE_TIMEOUT.as_secs())),
    };
    let addresses: Vec<IpAddr> = answer.iter().collect();
    if addresses.is_empty() {
        Err("cannot resolve: the name has no address".to_owned())
    } else {
        Ok(addresses)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(list: &[&str]) -> Vec<IpAddr> {
        list.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn reachable_addresses_leave_out_what_means_each_machine_itself() {
        let own = OwnAddresses(addresses(&[
            "127.0.0.1",
            "::1",
            "10.0.0.7",
            "fe80::1",
            "169.254.1.1",
            "2001:db8::7",
            "10.0.0.7",
            "10.0.0.5",
        ]));
        assert_eq!(own.reachable(), addresses(&["2001:db8::7", "10.0.0.5", "10.0.0.7"]));
        assert!(own.include(&IpAddr::from([10, 0, 0, 5])));
        assert!(own.include(&IpAddr::from([127, 0, 1, 1])));
        assert!(!own.include(&IpAddr::from([10, 0, 0, 6])));
        assert_eq!(OwnAddresses(addresses(&["127.0.0.1"])).reachable(), addresses(&["127.0.0.1"]));
    }

    #[test]
    fn endpoints_of_ipv6_have_brackets() {
        assert_eq!(endpoint("host", 1), "host:1");
        assert_eq!(endpoint("2001:db8::7", 80), "[2001:db8::7]:80");
    }

    #[tokio::test]
    async fn an_address_resolves_to_itself() {
        assert_eq!(resolve("10.0.0.7").await.unwrap(), addresses(&["10.0.0.7"]));
    }

    #[test]
    fn the_machine_has_a_name_and_addresses() {
        assert!(!own_host_name().is_empty());
        assert!(!OwnAddresses::of_machine().reachable().is_empty());
    }
}
