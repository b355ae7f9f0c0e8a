//! The listener over a real socket: requests on the wire, and the stop.

use super::server::Server;
use sdrest_api::{
    listener::{Door, serve},
    sandbox,
};
use sdrest_proto::authd::AuthMode;
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UnixStream},
};
use tokio_util::sync::CancellationToken;

const GET: &[u8] = b"GET /api/health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

async fn exchange(mut stream: impl AsyncReadExt + AsyncWriteExt + Unpin, request: &[u8]) -> String {
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn serves_tcp_until_the_stop_and_lets_answers_finish() {
    let server = Server::start(AuthMode::Pam).await;
    let door = Door::open(&"127.0.0.1:0".parse().unwrap()).unwrap();
    assert!(door.is_local());
    let address = door.to_string().replace("http://", "");
    let stop = CancellationToken::new();
    let proof = sandbox::leave_open("a test serves in its own process").unwrap();
    let (router, stopping) = (server.router(), stop.clone());
    let serving = tokio::spawn(async move { serve(&proof, door, router, stopping).await });
    let answer = exchange(TcpStream::connect(&address).await.unwrap(), GET).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    let foreign = b"GET /api/health HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n";
    let answer = exchange(TcpStream::connect(&address).await.unwrap(), foreign).await;
    assert!(answer.starts_with("HTTP/1.1 421 "), "{answer}");
    let rubbish = exchange(TcpStream::connect(&address).await.unwrap(), b"\x16\x03\x01\x00\xa5\x01\r\n\r\n").await;
    assert!(rubbish.is_empty() || rubbish.starts_with("HTTP/1.1 400 "), "{rubbish}");
    // An idle connection does not hold up the stop.
    let _idle = TcpStream::connect(&address).await.unwrap();
    stop.cancel();
    tokio::time::timeout(Duration::from_secs(20), serving).await.unwrap().unwrap().unwrap();
    assert!(TcpStream::connect(&address).await.is_err());
}

#[tokio::test]
async fn serves_a_unix_socket() {
    let server = Server::start(AuthMode::Pam).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("http.sock");
    let door = Door::open(&format!("unix:{}", path.display()).parse().unwrap()).unwrap();
    let stop = CancellationToken::new();
    let proof = sandbox::leave_open("a test serves in its own process").unwrap();
    let (router, stopping) = (server.router(), stop.clone());
    let serving = tokio::spawn(async move { serve(&proof, door, router, stopping).await });
    let answer = exchange(UnixStream::connect(&path).await.unwrap(), GET).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    stop.cancel();
    serving.await.unwrap().unwrap();
}
