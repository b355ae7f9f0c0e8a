//! The HTTP door: a TCP or Unix socket, bound here or handed over by a service manager (sd_listen_fds(3),
//! name `http`), HTTP/1.1 on it, limits on how long a head may take, on how long a client may take nothing of
//! an answer, and on how many connections there may be in all and from one address, and a stop that lets
//! answers finish. Binding happens before the sandbox closes; serving takes
//! the proof that it did.

mod patience;
mod shares;

use crate::edge::Peer;
use anyhow::{Context, Result, bail};
use axum::{Router, extract::Request};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use patience::Impatient;
use sdrest_proto::transport;
use sdrest_sandbox::Sandboxed;
use shares::Shares;
use std::{
    fmt,
    net::{IpAddr, SocketAddr, TcpListener as StdTcp},
    os::unix::net::UnixListener as StdUnix,
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    sync::Semaphore,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt;

/// The name of the socket in LISTEN_FDNAMES.
const NAME: &str = "http";
/// How long the head of a request may take; an idle connection is closed after as long.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Connections at a time: half of the descriptors that a process usually has.
const CONNECTIONS: usize = 512;
/// Connections that one address of another machine may have.
const SHARE: usize = CONNECTIONS / 4;
/// How long a client may take no byte of what lies ready for it.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);
/// The longest head, and what one connection may buffer, in bytes.
const MAX_BUFFER: usize = 64 * 1024;
/// How long answers may go on after the stop.
const GRACE: Duration = Duration::from_secs(10);
/// After an accept that failed for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// `HOST:PORT` or `unix:PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.is_empty() {
                Err("`unix:` needs a path".to_owned())
            } else {
                Ok(Self::Unix(path.into()))
            };
        }
        let text = text
            .strip_prefix("localhost:")
            .map_or(text.to_owned(), |port| format!("127.0.0.1:{port}"));
        text.parse().map(Self::Tcp).map_err(|_| {
            format!("`--listen` must be ADDRESS:PORT (such as 127.0.0.1:8080 or [::1]:8080) or unix:PATH, got {text:?}")
        })
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// An open door that nobody is served at yet.
#[derive(Debug)]
pub enum Door {
    Tcp(StdTcp, SocketAddr),
    Unix(StdUnix),
}

impl Door {
    /// The socket that was handed over, or one bound at `listen`.
    pub fn open(listen: &Listen) -> Result<Self> {
        match inherited()? {
            Some(door) => Ok(door),
            None => Self::bind(listen),
        }
    }

    fn bind(listen: &Listen) -> Result<Self> {
        match listen {
            Listen::Tcp(address) => {
                let listener =
                    StdTcp::bind(address).with_context(|| format!("cannot listen on {address}"))?;
                Self::tcp(listener)
            }
            Listen::Unix(path) => Self::unix(transport::listen(path)?),
        }
    }

    fn tcp(listener: StdTcp) -> Result<Self> {
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        Ok(Self::Tcp(listener, address))
    }

    fn unix(listener: StdUnix) -> Result<Self> {
        listener.set_nonblocking(true)?;
        Ok(Self::Unix(listener))
    }

    /// The address, where it is a TCP one.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Tcp(_, address) => Some(address.ip()),
            Self::Unix(_) => None,
        }
    }

    /// Whether only this machine can reach it.
    pub fn is_local(&self) -> bool {
        self.ip().is_none_or(|address| address.to_canonical().is_loopback())
    }
}

impl fmt::Display for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(_, address) => write!(f, "http://{address}"),
            Self::Unix(listener) => {
                let path = listener
                    .local_addr()
                    .ok()
                    .and_then(|address| address.as_pathname().map(Path::to_owned));
                write!(f, "unix:{}", path.unwrap_or_default().display())
            }
        }
    }
}

fn inherited() -> Result<Option<Door>> {
    let mut passed = listenfd::ListenFd::from_env();
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let place = match passed.len() {
        0 => return Ok(None),
        1 => 0,
        _ => names
            .split(':')
            .position(|name| name == NAME)
            .context("no handed-over socket is named `http`")?,
    };
    if let Ok(Some(listener)) = passed.take_tcp_listener(place) {
        return Door::tcp(listener).map(Some);
    }
    match passed.take_unix_listener(place) {
        Ok(Some(listener)) => Door::unix(listener).map(Some),
        Ok(None) => bail!("the handed-over socket is gone"),
        Err(error) => {
            Err(error).context("the handed-over socket is neither a TCP nor a Unix listener")
        }
    }
}

/// Serves until `stop`, then lets what is under way finish.
pub async fn serve(
    _proof: &Sandboxed,
    door: Door,
    router: Router,
    stop: CancellationToken,
) -> Result<()> {
    let tracker = TaskTracker::new();
    let shares = Shares::new(SHARE);
    let connections = Connections { router, shares, stop: stop.clone(), tracker: tracker.clone() };
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    match door {
        Door::Tcp(listener, _) => {
            let listener = TcpListener::from_std(listener)?;
            let accept = async || {
                let (stream, remote) = listener.accept().await?;
                let _ = stream.set_nodelay(true);
                let local = stream.local_addr()?;
                Ok((stream, Peer::Tcp { remote, local }))
            };
            accept_loop(accept, &connections, &room).await;
        }
        Door::Unix(listener) => {
            let listener = UnixListener::from_std(listener)?;
            let accept = async || {
                let stream = listener.accept().await?.0;
                let uid = stream.peer_cred().ok().map(|peer| peer.uid());
                Ok((stream, Peer::Unix { uid }))
            };
            accept_loop(accept, &connections, &room).await;
        }
    }
    tracker.close();
    if tokio::time::timeout(GRACE, tracker.wait()).await.is_err() {
        tracing::warn!(connections = tracker.len(), "some answers did not finish in time");
    }
    Ok(())
}

async fn accept_loop<S, A>(accept: A, connections: &Connections, room: &Arc<Semaphore>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    A: AsyncFn() -> std::io::Result<(S, Peer)>,
{
    loop {
        let next = async {
            let permit = Arc::clone(room).acquire_owned().await;
            (accept().await, permit)
        };
        let (accepted, permit) = tokio::select! {
            next = next => next,
            () = connections.stop.cancelled() => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                let Some(share) = connections.shares.enter(&peer) else {
                    tracing::debug!(?peer, "one address has as many connections as it may");
                    continue;
                };
                let connection = connections.clone().run(stream, peer);
                connections.tracker.spawn(async move {
                    connection.await;
                    drop((permit, share));
                });
            }
            Err(error) => {
                tracing::debug!(%error, "a connection was not accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

#[derive(Clone)]
struct Connections {
    router: Router,
    shares: Shares,
    stop: CancellationToken,
    tracker: TaskTracker,
}

impl Connections {
    async fn run<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(self, stream: S, peer: Peer) {
        let router = self.router;
        let service = service_fn(move |request: hyper::Request<Incoming>| {
            let mut request: Request = request.map(axum::body::Body::new);
            request.extensions_mut().insert(peer);
            router.clone().oneshot(request)
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_buf_size(MAX_BUFFER)
            .serve_connection(TokioIo::new(Impatient::new(stream, WRITE_TIMEOUT)), service);
        let mut connection = std::pin::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = self.stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection ended early");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_where_to_listen() {
        assert_eq!("127.0.0.1:8080".parse(), Ok(Listen::Tcp(([127, 0, 0, 1], 8080).into())));
        assert_eq!("localhost:1".parse(), Ok(Listen::Tcp(([127, 0, 0, 1], 1).into())));
        assert_eq!("unix:/run/x.sock".parse(), Ok(Listen::Unix("/run/x.sock".into())));
        for bad in ["", "8080", "unix:", "example.org:80", "127.0.0.1"] {
            assert!(bad.parse::<Listen>().is_err(), "{bad:?}");
        }
    }
}
