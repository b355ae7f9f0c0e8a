//! Unix sockets between sdrest's processes. The peer's uid is read from the kernel (SO_PEERCRED, unix(7))
//! in both directions before the first byte is decoded; then each side says `hello` in a frame that never
//! changes, and only then tarpc begins.
//!
//! A listener is 0660 in a directory that its unit made 0750. uid 65534 is never accepted: it is what a
//! foreign user namespace looks like.

use crate::{
    BUILD, PROTOCOL,
    codec::{Codec, MAX_DEADLINE, Side},
};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    io,
    os::unix::{fs::PermissionsExt, net::UnixListener},
    path::Path,
    time::{Duration, Instant},
};
use tarpc::context;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    time::timeout,
};
use tokio_util::codec::{Framed, LengthDelimitedCodec};

/// A tarpc transport over one checked connection.
pub type Transport<Item, SinkItem> =
    tarpc::serde_transport::Transport<UnixStream, Item, SinkItem, Codec<Item>>;

/// The overflow uid: a peer in a user namespace that has no name here.
const OVERFLOW_UID: u32 = 65534;
const HELLO_MAGIC: &[u8; 8] = b"sdrest\0\0";
const HELLO_BUILD: usize = 52;
/// Magic, protocol (u32, little-endian), build name padded with NUL: 64 bytes, for ever.
const HELLO_LENGTH: usize = HELLO_MAGIC.len() + 4 + HELLO_BUILD;
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);

/// What one service may carry.
#[derive(Clone, Copy, Debug)]
pub struct Service {
    pub name: &'static str,
    /// The largest frame in bytes, either way.
    pub max_frame: usize,
}

/// Logins, tokens and health: texts only.
pub const AUTHD: Service = Service { name: "authd", max_frame: 256 * 1024 };
/// The admin socket of authd.
pub const AUTHD_ADMIN: Service = Service { name: "authd-admin", max_frame: 256 * 1024 };
/// One picture of 2048² with its event fits: 12.6 MB.
pub const WORKER: Service = Service { name: "worker", max_frame: 16 * 1024 * 1024 };

/// Whose connections count, by uid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedUids(Vec<u32>);

impl TrustedUids {
    /// Drops the overflow uid where it is listed.
    pub fn new(uids: impl IntoIterator<Item = u32>) -> Self {
        Self(uids.into_iter().filter(|uid| *uid != OVERFLOW_UID).collect())
    }

    pub fn contains(&self, uid: u32) -> bool {
        self.0.contains(&uid)
    }
}

/// Proof that the peer of a connection was checked; `serve` functions ask for it.
#[derive(Clone, Copy, Debug)]
pub struct TrustedPeer {
    pub uid: u32,
    pub pid: Option<i32>,
}

/// Binds a listening socket with mode 0660, nonblocking, replacing a socket that nobody listens on any more.
pub fn listen(path: &Path) -> io::Result<UnixListener> {
    bind(path).map_err(|error| {
        io::Error::new(error.kind(), format!("cannot listen on {}: {error}", path.display()))
    })
}

fn bind(path: &Path) -> io::Result<UnixListener> {
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "another process already does"));
        }
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path)?
        }
        Err(_) => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Reads the peer's uid and refuses those that are not trusted.
pub fn check_peer(stream: &UnixStream, trusted: &TrustedUids) -> io::Result<TrustedPeer> {
    let credentials = stream.peer_cred()?;
    let peer = TrustedPeer { uid: credentials.uid(), pid: credentials.pid() };
    if trusted.contains(peer.uid) {
        return Ok(peer);
    }
    Err(io::Error::new(
        io::ErrorKind::PermissionDenied,
        format!("the peer has uid {}, which is not trusted on this socket", peer.uid),
    ))
}

/// The server's side of a new connection: checks the peer, exchanges `hello`, gives the transport.
pub async fn accept<Item, SinkItem>(
    mut stream: UnixStream,
    trusted: &TrustedUids,
    service: Service,
) -> io::Result<(TrustedPeer, Transport<Item, SinkItem>)>
where
    Item: DeserializeOwned,
    SinkItem: Serialize,
{
    let peer = check_peer(&stream, trusted)?;
    hello(&mut stream, service).await?;
    Ok((peer, framed(stream, service, Side::Server)))
}

/// Connects, checks who listens (uid 0 counts too: under socket activation it is systemd's), exchanges
/// `hello`, gives the transport.
pub async fn connect<Item, SinkItem>(
    path: &Path,
    trusted: &TrustedUids,
    service: Service,
) -> io::Result<Transport<Item, SinkItem>>
where
    Item: DeserializeOwned,
    SinkItem: Serialize,
{
    let mut stream = timeout(HELLO_TIMEOUT, UnixStream::connect(path))
        .await
        .map_err(|_| timed_out(service))??;
    check_peer(&stream, trusted)?;
    hello(&mut stream, service).await?;
    Ok(framed(stream, service, Side::Client))
}

fn framed<Item, SinkItem>(
    stream: UnixStream,
    service: Service,
    side: Side,
) -> Transport<Item, SinkItem>
where
    Item: DeserializeOwned,
    SinkItem: Serialize,
{
    let frames: Framed<UnixStream, LengthDelimitedCodec> =
        LengthDelimitedCodec::builder().max_frame_length(service.max_frame).new_framed(stream);
    tarpc::serde_transport::new(frames, Codec::new(side, service.max_frame))
}

async fn hello(stream: &mut UnixStream, service: Service) -> io::Result<()> {
    let mut ours = [0; HELLO_LENGTH];
    ours[..8].copy_from_slice(HELLO_MAGIC);
    ours[8..12].copy_from_slice(&PROTOCOL.to_le_bytes());
    let build = &BUILD.as_bytes()[..BUILD.len().min(HELLO_BUILD)];
    ours[12..12 + build.len()].copy_from_slice(build);
    let mut theirs = [0; HELLO_LENGTH];
    let exchange = async {
        stream.write_all(&ours).await?;
        stream.read_exact(&mut theirs).await
    };
    timeout(HELLO_TIMEOUT, exchange).await.map_err(|_| timed_out(service))??;
    let protocol = u32::from_le_bytes([theirs[8], theirs[9], theirs[10], theirs[11]]);
    if &theirs[..8] != HELLO_MAGIC || protocol != PROTOCOL {
        let build = String::from_utf8_lossy(&theirs[12..]);
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!(
                "the {} socket speaks protocol {protocol} ({}), this is protocol {PROTOCOL} ({BUILD}); restart all \
                 of sdrest after an update",
                service.name,
                build.trim_end_matches('\0').escape_debug(),
            ),
        ));
    }
    Ok(())
}

fn timed_out(service: Service) -> io::Error {
    io::Error::new(
        io::ErrorKind::TimedOut,
        format!("the {} socket did not say hello within 5 s", service.name),
    )
}

/// The context of a call that may take `patience`. tarpc's own default is 10 s, which cuts a PAM prompt or
/// a long poll short; so every call names its own.
pub fn deadline(patience: Duration) -> context::Context {
    // Context is non-exhaustive and has no constructor but this one.
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that replaces its deadline at once"
    )]
    let mut context = context::current();
    context.deadline = Instant::now() + patience.min(MAX_DEADLINE);
    context
}
