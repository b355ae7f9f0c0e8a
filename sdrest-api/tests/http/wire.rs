//! The listener over a real socket: requests on the wire, and the stop.

use super::{authd::TestAuthd, server::Server};
use sdrest_api::listener::{Door, serve};
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

/// Serves on a fresh door while `visit` runs, then stops.
async fn while_serving(listen: &str, visit: impl AsyncFnOnce(String)) {
    serving(&Server::start(AuthMode::Pam).await, listen, visit).await;
}

async fn serving(server: &Server, listen: &str, visit: impl AsyncFnOnce(String)) {
    let door = Door::open(&listen.parse().unwrap()).unwrap();
    assert!(door.is_local());
    let address = door.to_string();
    let stop = CancellationToken::new();
    let proof = sdrest_sandbox::leave_open("a test serves in its own process").unwrap();
    let serving = serve(&proof, door, server.router(), stop.clone());
    let visiting = async {
        visit(address).await;
        stop.cancel();
    };
    let both = async { futures::join!(serving, visiting) };
    // The limit is only there so that a failure ends.
    let (served, ()) = tokio::time::timeout(Duration::from_secs(60), both).await.unwrap();
    served.unwrap();
}

#[tokio::test]
async fn serves_tcp_until_the_stop() {
    while_serving("127.0.0.1:0", async |address| {
        let address = address.strip_prefix("http://").unwrap();
        let answer = exchange(TcpStream::connect(address).await.unwrap(), GET).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        let foreign =
            b"GET /api/health HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n";
        let answer = exchange(TcpStream::connect(address).await.unwrap(), foreign).await;
        assert!(answer.starts_with("HTTP/1.1 421 "), "{answer}");
        let rubbish = b"\x16\x03\x01\x00\xa5\x01\r\n\r\n";
        let answer = exchange(TcpStream::connect(address).await.unwrap(), rubbish).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{answer}");
    })
    .await;
}

#[tokio::test]
async fn serves_a_unix_socket() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("http.sock");
    while_serving(&format!("unix:{}", path.display()), async |_| {
        let answer = exchange(UnixStream::connect(&path).await.unwrap(), GET).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    })
    .await;
}

/// Signs in with a name alone.
fn login(name: &str) -> Vec<u8> {
    let body = format!("{{\"username\":\"{name}\"}}");
    let head = "POST /api/auth/login HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
        Content-Type: application/json\r\n";
    format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

#[tokio::test]
async fn the_kernel_says_who_is_at_the_other_end() {
    let own = nix::unistd::geteuid().as_raw();
    let server = Server::with(TestAuthd::new(AuthMode::Unix).with_peers()).await;
    serving(&server, "127.0.0.1:0", async |address| {
        let address = address.strip_prefix("http://").unwrap();
        let answer = exchange(TcpStream::connect(address).await.unwrap(), &login("me")).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.contains("\"token_kind\":\"unix\""), "{answer}");
        assert!(!answer.contains("refresh_token"), "{answer}");
        let answer = exchange(TcpStream::connect(address).await.unwrap(), &login("other")).await;
        assert!(answer.starts_with("HTTP/1.1 401 "), "only that account can be named: {answer}");
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("http.sock");
    serving(&server, &format!("unix:{}", path.display()), async |_| {
        let answer = exchange(UnixStream::connect(&path).await.unwrap(), &login("me")).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    })
    .await;
    let told = server.authd.peers.lock().unwrap().clone();
    let expected = [(own, "me"), (own, "other"), (own, "me")];
    assert_eq!(told, expected.map(|(uid, name)| (uid, name.to_owned())));
}
