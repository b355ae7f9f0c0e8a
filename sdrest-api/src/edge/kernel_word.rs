//! Who is at the other end of a connection, by the kernel's word and nobody else's: SO_PEERCRED on a Unix socket
//! (unix(7)), the owner of the peer's socket on loopback. A proxy speaks for others, so its uid is nobody's.

use super::{peer::Peer, socket_owner::SocketTables};
use crate::error::ApiError;
use sdrest_proto::error::ErrorCode;
use std::sync::Arc;

/// The overflow uid: a peer in a user namespace that has no name here.
const OVERFLOW_UID: u32 = 65534;

/// What the kernel can be asked. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct KernelWord {
    tables: Option<Arc<SocketTables>>,
    proxies: Arc<[u32]>,
}

impl KernelWord {
    /// `tables` where this server listens on loopback TCP; `proxies` are the uids that speak for others.
    pub fn new(tables: Option<SocketTables>, proxies: Vec<u32>) -> Self {
        Self { tables: tables.map(Arc::new), proxies: proxies.into() }
    }

    /// The uid at the other end, or 401.
    pub async fn uid_of(&self, peer: Peer) -> Result<u32, ApiError> {
        let uid = match peer {
            Peer::Unix { uid } => uid.ok_or_else(|| unknown("SO_PEERCRED said nothing"))?,
            Peer::Tcp { remote, local } => {
                let loopback = remote.ip().to_canonical().is_loopback();
                let tables = self.tables.clone().filter(|_| loopback);
                let tables = tables.ok_or_else(|| unknown("the connection is not a local one"))?;
                let asked = tokio::task::spawn_blocking(move || tables.owner(remote, local));
                asked.await.map_err(ApiError::internal)?.map_err(unknown)?
            }
        };
        if uid == OVERFLOW_UID {
            return Err(unknown("the peer is in another user namespace"));
        }
        if self.proxies.contains(&uid) {
            return Err(unknown("the peer is a proxy"));
        }
        Ok(uid)
    }
}

fn unknown(cause: impl std::fmt::Display) -> ApiError {
    ApiError::new(
        ErrorCode::AuthenticationFailed,
        "the kernel does not say for certain whose this connection is",
    )
    .because(cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_proxy_a_foreign_namespace_and_a_stranger_are_nobody() {
        let word = KernelWord::new(None, vec![33]);
        assert_eq!(word.uid_of(Peer::Unix { uid: Some(1000) }).await.unwrap(), 1000);
        for uid in [None, Some(33), Some(OVERFLOW_UID)] {
            let refused = word.uid_of(Peer::Unix { uid }).await.unwrap_err();
            assert_eq!(refused.code(), ErrorCode::AuthenticationFailed, "{uid:?}");
        }
        let tables = SocketTables::open().unwrap();
        let word = KernelWord::new(Some(tables), Vec::new());
        let remote = Peer::Tcp {
            remote: "192.0.2.1:5000".parse().unwrap(),
            local: "192.0.2.2:8080".parse().unwrap(),
        };
        assert!(word.uid_of(remote).await.is_err());
    }
}
