//! The two sockets: who may come in, and what serves them. The front end's account is refused at the administrators'
//! door whatever the lists say; members of the group `sdrest-admin` are looked up anew at every connection.

use crate::{admin::AdminVerbs, audit, server::Verbs, service::Service};
use futures::{Stream, StreamExt};
use sdrest_proto::{
    authd::{Authd, AuthdAdmin},
    configuration::is_member,
    transport::{self, AUTHD, AUTHD_ADMIN, TrustedUids},
};
use std::{
    fs, io,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tarpc::server::{BaseChannel, Channel};
use tokio::{
    net::{UnixListener, UnixStream},
    sync::Semaphore,
};

/// Requests at once on one connection.
const IN_FLIGHT: usize = 512;
/// Members of this group are administrators.
const ADMIN_GROUP: &str = "sdrest-admin";

/// The front end's socket, with who may connect to it.
pub(crate) struct Door {
    pub(crate) listener: UnixListener,
    pub(crate) trusted: TrustedUids,
}

/// The administrators' socket.
pub(crate) struct AdminDoor {
    pub(crate) listener: UnixListener,
    /// Root, and whoever the configuration names.
    pub(crate) listed: Vec<u32>,
    /// The front end's account, where it is not authd's own: never an administrator.
    pub(crate) never: Option<u32>,
}

impl AdminDoor {
    /// Who is trusted, as far as this one peer is concerned.
    fn trusted(&self, peer: u32) -> TrustedUids {
        if self.never == Some(peer) {
            return TrustedUids::new([]);
        }
        let listed = self.listed.iter().copied();
        if self.listed.contains(&peer) || !in_admin_group(peer) {
            return TrustedUids::new(listed);
        }
        TrustedUids::new(listed.chain([peer]))
    }
}

fn in_admin_group(uid: u32) -> bool {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    is_member(uid, ADMIN_GROUP, &read("/etc/passwd"), &read("/etc/group"))
}

/// Connections of the front end at once: it needs one, and a few while it starts anew. A hostile one must not take
/// every descriptor from the administrators and the state files.
const CONNECTIONS: usize = 32;

/// Serves the front end's socket until the task is dropped.
pub(crate) async fn serve(service: Arc<Service>, door: Door) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let Some(stream) = next(&door.listener, AUTHD.name).await else { continue };
        let (service, trusted) = (Arc::clone(&service), door.trusted.clone());
        tokio::spawn(async move {
            let _place = place;
            match transport::accept(stream, &trusted, AUTHD).await {
                Ok((_, transport)) => {
                    let channel =
                        BaseChannel::with_defaults(transport).max_concurrent_requests(IN_FLIGHT);
                    answer(channel.execute(Authd::serve(Verbs(service)))).await;
                }
                Err(error) => refused(&service, AUTHD.name, &error),
            }
        });
    }
}

/// Serves the administrators' socket until the task is dropped.
pub(crate) async fn serve_admin(service: Arc<Service>, door: AdminDoor) {
    loop {
        let Some(stream) = next(&door.listener, AUTHD_ADMIN.name).await else { continue };
        let trusted = match stream.peer_cred() {
            Ok(peer) => door.trusted(peer.uid()),
            Err(error) => {
                refused(&service, AUTHD_ADMIN.name, &error);
                continue;
            }
        };
        let service = Arc::clone(&service);
        tokio::spawn(async move {
            match transport::accept(stream, &trusted, AUTHD_ADMIN).await {
                Ok((peer, transport)) => {
                    let verbs = AdminVerbs { service, admin: peer.uid };
                    let channel =
                        BaseChannel::with_defaults(transport).max_concurrent_requests(IN_FLIGHT);
                    answer(channel.execute(AuthdAdmin::serve(verbs))).await;
                }
                Err(error) => refused(&service, AUTHD_ADMIN.name, &error),
            }
        });
    }
}

/// Answers the requests of one connection to its end.
async fn answer(requests: impl Stream<Item = impl Future<Output = ()> + Send + 'static>) {
    let spawned = requests.for_each(|request| async {
        tokio::spawn(request);
    });
    spawned.await;
}

async fn next(listener: &UnixListener, name: &'static str) -> Option<UnixStream> {
    match listener.accept().await {
        Ok((stream, _)) => Some(stream),
        Err(error) => {
            tracing::warn!("{name}: accept: {error}");
            // Out of descriptors: somebody has to close one first.
            tokio::time::sleep(Duration::from_millis(100)).await;
            None
        }
    }
}

fn refused(service: &Service, socket: &'static str, error: &io::Error) {
    if error.kind() == io::ErrorKind::PermissionDenied {
        service.refused_peers.fetch_add(1, Ordering::Relaxed);
        audit::peer_refused(socket, &error.to_string());
    } else {
        tracing::debug!("{socket}: {error}");
    }
}
