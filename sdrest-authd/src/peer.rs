//! Where a request is said to come from.

use std::net::{IpAddr, Ipv6Addr};

/// Where a request came from, as far as limits are concerned: an IPv4 address, the /64 of an IPv6 address, or this
/// machine. The front end says so; it can lie, and gains only that its own limits count wrongly.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    network: Option<IpAddr>,
    address: Option<IpAddr>,
}

impl Source {
    pub(crate) fn new(address: Option<IpAddr>) -> Self {
        let address = address.map(|address| address.to_canonical());
        let network = address.map(|address| match address {
            IpAddr::V4(_) => address,
            IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        });
        Self { network, address }
    }

    /// Somebody whom the kernel named: whoever fails pays alone. 0000::/8 is no client's address.
    pub(crate) fn of_uid(uid: u32) -> Self {
        let network = IpAddr::V6(Ipv6Addr::from_bits(u128::from(uid) << 64));
        Self { network: Some(network), address: None }
    }

    /// The address itself, for PAM_RHOST.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        self.address
    }

    /// What limits go by.
    pub(crate) fn network(&self) -> String {
        self.network.map_or_else(|| "local".to_owned(), |network| network.to_string())
    }
}

/// One network is one source, whatever the address in it.
impl PartialEq for Source {
    fn eq(&self, other: &Self) -> bool {
        self.network == other.network
    }
}

impl Eq for Source {}

impl std::hash::Hash for Source {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.network.hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_host_cannot_change_its_source() {
        let of = |text: &str| Source::new(Some(text.parse().unwrap())).network();
        assert_eq!(of("2001:db8:1:2:aaaa::1"), of("2001:db8:1:2:bbbb::2"));
        assert_ne!(of("2001:db8:1:3::1"), of("2001:db8:1:2::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
    }
}
