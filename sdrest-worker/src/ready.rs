//! What a service manager gives this process and hears from it: listening sockets (sd_listen_fds(3)) and
//! readiness (sd_notify(3)). The notification socket is opened and connected before the sandbox closes, because
//! no socket can be made afterwards. Without a service manager all of this does nothing.

use sdrest_proto::transport;
use std::{
    env, io,
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixDatagram, UnixListener},
    },
    path::Path,
};

/// The name of the worker's socket in `FileDescriptorName=` and LISTEN_FDNAMES.
const NAME: &str = "worker";

/// The socket that was passed, by its name or as the only one, or one bound at `path`.
pub fn listener(path: &Path) -> io::Result<UnixListener> {
    let mut passed = listenfd::ListenFd::from_env();
    let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
    let place = match passed.len() {
        0 => None,
        1 => Some(0),
        _ => names.split(':').position(|name| name == NAME),
    };
    let listener = match place {
        Some(place) => passed.take_unix_listener(place)?,
        None => None,
    };
    let listener = match listener {
        Some(listener) => listener,
        None => transport::listen(path)?,
    };
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// The line to the service manager; nobody may be at its other end.
#[derive(Debug)]
pub struct Manager(Option<UnixDatagram>);

impl Manager {
    /// Connects to NOTIFY_SOCKET: a path, or with `@` in front an abstract name.
    pub fn connect() -> io::Result<Self> {
        let Some(name) = env::var_os("NOTIFY_SOCKET") else { return Ok(Self(None)) };
        let bytes = name.as_encoded_bytes();
        let address = match bytes.strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(Path::new(&name))?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.connect_addr(&address)?;
        socket.set_nonblocking(true)?;
        Ok(Self(Some(socket)))
    }

    /// Says `READY=1`, `STOPPING=1` or the like. A manager that does not listen is no reason to stop.
    pub fn tell(&self, state: &str) {
        if let Some(Err(error)) = self.0.as_ref().map(|socket| socket.send(state.as_bytes())) {
            tracing::warn!(%error, state, "the service manager was not told");
        }
    }
}
