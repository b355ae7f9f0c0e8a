//! The sockets that authd answers on: handed over by a service manager (sd_listen_fds(3), names `authd` and
//! `authd-admin`), or bound from the flags.

use sdrest_proto::transport;
use std::{io, os::unix::net::UnixListener, path::Path};

/// What was handed over, by name.
pub(crate) struct Passed {
    fds: listenfd::ListenFd,
    names: Vec<String>,
}

impl Passed {
    pub(crate) fn from_environment() -> Self {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        Self {
            fds: listenfd::ListenFd::from_env(),
            names: names.split(':').map(str::to_owned).collect(),
        }
    }

    /// The socket of this name, nonblocking; bound at `path` where none was handed over.
    pub(crate) fn take_or_bind(&mut self, name: &str, path: &Path) -> io::Result<UnixListener> {
        let at = self.names.iter().position(|known| known == name);
        let passed = at.map(|index| self.fds.take_unix_listener(index)).transpose()?.flatten();
        let listener = match passed {
            Some(listener) => listener,
            None => transport::listen(path)?,
        };
        listener.set_nonblocking(true)?;
        Ok(listener)
    }
}
