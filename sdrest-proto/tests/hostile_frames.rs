//! What a hostile peer can do to a tarpc server behind `transport`: nothing but lose its own connection.
//! Each case sends one bad thing to a real server, then an honest client asks for health on a connection of
//! its own and on one that was open all the while.
#![allow(clippy::unwrap_used, reason = "a test may end at any failure")]

use bincode::Options;
use futures::{SinkExt, StreamExt};
use sdrest_proto::{
    BUILD, PROTOCOL,
    health::{Health, SandboxReport, Serving},
    transport::{AUTHD_ADMIN, TrustedUids, accept, connect, deadline, listen},
};
use serde::Serialize;
use std::{path::PathBuf, time::Duration};
use tarpc::server::{BaseChannel, Channel};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
    time::timeout,
};

/// The smallest service there can be: what is tried here never reaches a verb.
#[tarpc::service]
trait Asked {
    async fn health() -> Health;
}

#[derive(Clone)]
struct Server;

impl Asked for Server {
    async fn health(self, _: tarpc::context::Context) -> Health {
        Health {
            serving: Serving::Serving,
            detail: String::new(),
            build: BUILD.to_owned(),
            pid: std::process::id(),
            uid: 0,
            uptime_seconds: 0,
            sandbox: SandboxReport::default(),
            figures: vec![],
        }
    }
}

struct Fixture {
    _folder: tempfile::TempDir,
    path: PathBuf,
    panics: tokio::sync::mpsc::UnboundedReceiver<()>,
}

fn me() -> TrustedUids {
    use std::os::unix::fs::MetadataExt;
    TrustedUids::new([std::fs::metadata("/proc/self").unwrap().uid()])
}

async fn serve() -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("admin.sock");
    let listener = UnixListener::from_std(listen(&path).unwrap()).unwrap();
    let (report, panics) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let connection = tokio::spawn(async move {
                let Ok((_, transport)) = accept(stream, &me(), AUTHD_ADMIN).await else { return };
                BaseChannel::with_defaults(transport)
                    .execute(Server.serve())
                    .for_each(|answer| async move {
                        tokio::spawn(answer);
                    })
                    .await;
            });
            let report = report.clone();
            tokio::spawn(async move {
                if connection.await.is_err_and(|error| error.is_panic()) {
                    let _ = report.send(());
                }
            });
        }
    });
    Fixture { _folder: folder, path, panics }
}

async fn client(path: &std::path::Path) -> AskedClient {
    let transport = connect(path, &me(), AUTHD_ADMIN).await.unwrap();
    AskedClient::new(tarpc::client::Config::default(), transport).spawn()
}

async fn asks(client: &AskedClient) {
    client.health(deadline(Duration::from_secs(20))).await.unwrap();
}

/// A raw connection that has said a proper hello.
async fn raw(path: &std::path::Path) -> UnixStream {
    let mut stream = UnixStream::connect(path).await.unwrap();
    let mut hello = [0; 64];
    hello[..6].copy_from_slice(b"sdrest");
    hello[8..12].copy_from_slice(&PROTOCOL.to_le_bytes());
    stream.write_all(&hello).await.unwrap();
    stream.read_exact(&mut hello).await.unwrap();
    stream
}

#[derive(Serialize)]
struct Trace {
    trace_id: [u8; 16],
    span_id: u64,
    sampling: u32,
}

#[derive(Serialize)]
enum Message {
    Request((Duration, Trace), u64, u32),
}

fn request_with(deadline: Duration) -> Vec<u8> {
    let trace = Trace { trace_id: [1; 16], span_id: 2, sampling: 0 };
    bincode::DefaultOptions::new().serialize(&Message::Request((deadline, trace), 0, 0)).unwrap()
}

fn framed(body: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(body.len()).unwrap().to_be_bytes().to_vec();
    bytes.extend_from_slice(body);
    bytes
}

/// Sends the bytes and reports whether the server closed this connection.
async fn is_closed_after(path: &std::path::Path, bytes: &[u8]) -> bool {
    let mut stream = raw(path).await;
    stream.write_all(bytes).await.unwrap();
    let mut rest = Vec::new();
    timeout(Duration::from_secs(20), stream.read_to_end(&mut rest)).await.is_ok()
}

#[tokio::test]
async fn an_honest_request_in_raw_bytes_is_answered() {
    let fixture = serve().await;
    let mut stream =
        tokio_util::codec::LengthDelimitedCodec::builder().new_framed(raw(&fixture.path).await);
    stream
        .send(tokio_util::bytes::Bytes::from(request_with(Duration::from_secs(20))))
        .await
        .unwrap();
    assert!(timeout(Duration::from_secs(20), stream.next()).await.unwrap().unwrap().is_ok());
}

#[tokio::test]
async fn hostile_frames_cost_their_sender_the_connection_and_nobody_else() {
    let mut fixture = serve().await;
    let bystander = client(&fixture.path).await;
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("a deadline of u64::MAX seconds", framed(&request_with(Duration::new(u64::MAX, 0)))),
        ("a deadline of three years", framed(&request_with(Duration::from_secs(3 * 365 * 86400)))),
        ("a frame announced as 4 GiB", u32::MAX.to_be_bytes().to_vec()),
        (
            "a frame one byte over the limit",
            (AUTHD_ADMIN.max_frame as u32 + 1).to_be_bytes().to_vec(),
        ),
        ("an unknown verb", {
            let mut body = request_with(Duration::from_secs(1));
            *body.last_mut().unwrap() = 99;
            framed(&body)
        }),
        ("bytes left over", {
            let mut body = request_with(Duration::from_secs(1));
            body.extend_from_slice(b"more");
            framed(&body)
        }),
        ("an empty frame", framed(&[])),
        ("0xff without end", framed(&[0xff; 512])),
    ];
    for (name, bytes) in cases {
        assert!(is_closed_after(&fixture.path, &bytes).await, "{name}: the connection stayed open");
        asks(&bystander).await;
        asks(&client(&fixture.path).await).await;
    }
    assert!(fixture.panics.try_recv().is_err(), "a connection task panicked");
}

#[tokio::test]
async fn a_half_frame_and_a_storm_of_cancels_disturb_nobody() {
    let mut fixture = serve().await;
    let mut half = raw(&fixture.path).await;
    half.write_all(&framed(&request_with(Duration::from_secs(1)))[..9]).await.unwrap();
    let mut storm = raw(&fixture.path).await;
    let trace = Trace { trace_id: [0; 16], span_id: 0, sampling: 0 };
    let cancel = bincode::DefaultOptions::new().serialize(&(1u32, trace, 7u64)).unwrap();
    for _ in 0..10_000 {
        storm.write_all(&framed(&cancel)).await.unwrap();
    }
    asks(&client(&fixture.path).await).await;
    assert!(fixture.panics.try_recv().is_err(), "a connection task panicked");
}

#[tokio::test]
async fn a_stranger_and_another_protocol_are_refused_by_name() {
    let fixture = serve().await;
    let nobody =
        connect::<(), ()>(&fixture.path, &TrustedUids::new([4_000_000_000]), AUTHD_ADMIN).await;
    assert!(nobody.err().unwrap().to_string().contains("not trusted"));
    let overflow = TrustedUids::new([65534]);
    assert!(!overflow.contains(65534));

    let old = listen(&fixture.path.with_extension("old")).unwrap();
    let listener = UnixListener::from_std(old).unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut hello = [0; 64];
        hello[..6].copy_from_slice(b"sdrest");
        hello[8..12].copy_from_slice(&99u32.to_le_bytes());
        stream.write_all(&hello).await.unwrap();
        let _ = stream.read(&mut hello).await;
    });
    let error = connect::<(), ()>(&fixture.path.with_extension("old"), &me(), AUTHD_ADMIN)
        .await
        .err()
        .unwrap();
    assert!(error.to_string().contains("protocol 99"), "{error}");
}

#[tokio::test]
async fn a_second_listener_is_refused_and_a_dead_one_replaced() {
    let fixture = serve().await;
    let taken = listen(&fixture.path).unwrap_err();
    assert_eq!(taken.kind(), std::io::ErrorKind::AddrInUse);
    assert!(taken.to_string().contains(&*fixture.path.to_string_lossy()), "{taken}");
    let dead = fixture.path.with_extension("dead");
    drop(std::os::unix::net::UnixListener::bind(&dead).unwrap());
    assert!(listen(&dead).is_ok());
}
