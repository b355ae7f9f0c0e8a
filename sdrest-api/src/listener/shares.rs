//! How many connections one address may have, so that one machine cannot take them all. An IPv6 address counts
//! as its /64, which is what one machine gets. This machine's own address stands for everybody behind a proxy
//! on it and for all of its users; a share of it would let one of them shut out the others sooner, so there is
//! none.

use crate::edge::Peer;
use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
};

/// The open connections by address. Clones share them.
#[derive(Clone, Debug)]
pub(super) struct Shares {
    most: usize,
    open: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// The right to one connection, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Share {
    shares: Shares,
    source: Option<IpAddr>,
}

impl Shares {
    pub(super) fn new(most: usize) -> Self {
        Self { most, open: Arc::default() }
    }

    /// `None` where this address has as many as it may.
    pub(super) fn enter(&self, peer: &Peer) -> Option<Share> {
        let source = source(peer);
        if let Some(source) = source {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            let count = open.entry(source).or_insert(0);
            if *count >= self.most {
                return None;
            }
            *count += 1;
        }
        Some(Share { shares: self.clone(), source })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let Some(source) = self.source else { return };
        let mut open = self.shares.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&source) {
            *count -= 1;
            if *count == 0 {
                open.remove(&source);
            }
        }
    }
}

/// Whose share a connection belongs to.
fn source(peer: &Peer) -> Option<IpAddr> {
    match peer.source()? {
        address if address.is_loopback() => None,
        IpAddr::V4(address) => Some(IpAddr::V4(address)),
        IpAddr::V6(address) => {
            let network = address.to_bits() >> 64 << 64;
            Some(IpAddr::V6(Ipv6Addr::from_bits(network)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(address: &str) -> Peer {
        let remote = std::net::SocketAddr::new(address.parse().unwrap(), 50_000);
        Peer::Tcp { remote, local: "192.0.2.1:8080".parse().unwrap() }
    }

    #[test]
    fn one_address_leaves_room_for_the_others() {
        let shares = Shares::new(2);
        let mut held: Vec<Share> =
            (0..2).map(|_| shares.enter(&peer("198.51.100.7")).unwrap()).collect();
        assert!(shares.enter(&peer("198.51.100.7")).is_none());
        assert!(shares.enter(&peer("::ffff:198.51.100.7")).is_none());
        assert!(shares.enter(&peer("198.51.100.8")).is_some());
        held.pop();
        assert!(shares.enter(&peer("198.51.100.7")).is_some());
        held.clear();
        assert!(shares.open.lock().unwrap().is_empty());
    }

    #[test]
    fn a_network_of_one_machine_is_one_source_and_this_machine_is_none() {
        let shares = Shares::new(1);
        let _held = shares.enter(&peer("2001:db8::1")).unwrap();
        assert!(shares.enter(&peer("2001:db8::ffff:2")).is_none());
        assert!(shares.enter(&peer("2001:db8:0:1::1")).is_some());
        let local: Vec<_> =
            ["127.0.0.1", "::1"].iter().map(|address| shares.enter(&peer(address))).collect();
        let again: Vec<_> = ["127.0.0.1", "::1", "::ffff:127.0.0.1"]
            .iter()
            .map(|address| shares.enter(&peer(address)))
            .collect();
        assert!(local.iter().chain(&again).all(Option::is_some));
        let local = Peer::Unix { uid: Some(1000) };
        assert!(shares.enter(&local).is_some() && shares.enter(&local).is_some());
    }
}
