//! Where a connection came from, as the kernel tells it. Proxy headers say nothing here.

use std::net::{IpAddr, SocketAddr};

/// Put into the extensions of every request by the listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    Tcp {
        remote: SocketAddr,
        local: SocketAddr,
    },
    /// `uid` is that of the process that connected (SO_PEERCRED); none where the kernel did not say.
    Unix {
        uid: Option<u32>,
    },
}

impl Peer {
    /// The address that throttling and PAM_RHOST go by; none on a Unix socket.
    pub fn source(self) -> Option<IpAddr> {
        match self {
            Self::Tcp { remote, .. } => Some(remote.ip().to_canonical()),
            Self::Unix { .. } => None,
        }
    }

    /// The address of this server that the client reached.
    pub fn local_ip(self) -> Option<IpAddr> {
        match self {
            Self::Tcp { local, .. } => Some(local.ip().to_canonical()),
            Self::Unix { .. } => None,
        }
    }
}
