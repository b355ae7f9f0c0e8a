//! Whole requests. To the router they are given as HTTP's grammar reads them: no answer may be a fault of the
//! server's. On the wire they are raw bytes to the real listener: whatever comes, the next client is served. In both,
//! no task may panic. `TOKEN`, `KEY`, `ID`, `SECRET` and `JOB` stand for what an honest client would send there.

use super::{
    authd::SECRET,
    headers::map,
    run_waiting,
    server::{Answer, Server},
};
use axum::{
    body::Body,
    http::{Method, Request, Uri},
};
use sdrest_api::listener::{Door, serve};
use sdrest_proto::{api_key::Scopes, authd::AuthMode, identity::Role};
use serde_json::{Value, json};
use std::{
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    runtime::Runtime,
};
use tokio_util::sync::CancellationToken;

/// Panics of any thread since the start.
static PANICS: AtomicUsize = AtomicUsize::new(0);
static COUNTING: std::sync::Once = std::sync::Once::new();
/// Both count panics, so they take turns.
static TURN: Mutex<()> = Mutex::new(());
/// How long an answer that is waiting for something is waited for: a long poll or a stream of events is well then.
const WAIT: Duration = Duration::from_millis(200);
/// How many inputs go by between two looks at the server.
const EACH: u64 = 100;
const LAST: &[u8] = b"GET /api/health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

fn count_panics() {
    COUNTING.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            PANICS.fetch_add(1, Ordering::SeqCst);
            before(panic);
        }));
    });
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Puts credentials where their names stand. They are new, because an input may end them; but one conversation serves
/// a whole input, which else would wait for as many as it names.
async fn filled(server: &Server, key: &str, input: &[u8]) -> Vec<u8> {
    let names = [&b"TOKEN"[..], b"KEY", b"ID", b"SECRET", b"JOB"];
    let mut filled = Vec::with_capacity(input.len());
    let mut id = None;
    let mut rest = input;
    while let Some(first) = rest.first() {
        let Some(name) = names.into_iter().find(|name| rest.starts_with(name)) else {
            filled.push(*first);
            rest = &rest[1..];
            continue;
        };
        rest = &rest[name.len()..];
        let text = match name {
            b"TOKEN" => server.authd.token(Role::Admin),
            b"KEY" => key.to_owned(),
            b"ID" => match &id {
                None => id.insert(conversation(server).await).clone(),
                Some(id) => id.clone(),
            },
            b"SECRET" => SECRET.to_owned(),
            _ => "01234567-89ab-4cde-8f01-23456789abcd".to_owned(),
        };
        filled.extend_from_slice(text.as_bytes());
    }
    filled
}

/// Forgets what earlier inputs left behind, which would fill authd's frames in a long run.
fn tidy(server: &Server, key: &str) {
    server.authd.api_keys.lock().unwrap().retain(|text, _| text == key);
    server.authd.announce(|news| news.sessions.clear());
}

/// The id of a conversation that waits for answers.
async fn conversation(server: &Server) -> String {
    let begun =
        server.post("/api/auth/conversations", &json!({"username": "alice"}), None).await.body;
    let id = begun["conversation"]["id"].as_str().or(begun["id"].as_str());
    id.unwrap_or_else(|| panic!("{begun}")).to_owned()
}

/// A request by HTTP's grammar; nothing where it is none.
fn request(bytes: &[u8]) -> Option<Request<Body>> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    let (head, body) = (&bytes[..end], &bytes[end + 4..]);
    let line_end = head.windows(2).position(|two| two == b"\r\n").unwrap_or(head.len());
    let mut words = head[..line_end].split(|byte| *byte == b' ');
    let method = Method::from_bytes(words.next()?).ok()?;
    let uri: Uri = std::str::from_utf8(words.next()?).ok()?.parse().ok()?;
    let mut request = Server::request(method, "/").body(Body::from(body.to_vec())).ok()?;
    *request.uri_mut() = uri;
    *request.headers_mut() = map(&head[line_end..]);
    Some(request)
}

/// Faults of the server's are none of these: what a server without a worker says of work.
fn is_well(answer: &Answer) -> bool {
    answer.status.as_u16() < 500 || answer.is(503, "WORKER_UNAVAILABLE")
}

/// Whether the answer is that of a route, and not of what stands before all of them.
fn reaches_a_route(status: u16) -> bool {
    !matches!(status, 400 | 401 | 403 | 405 | 413 | 415 | 421 | 422)
}

#[test]
fn http_requests() {
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    count_panics();
    let runtime = runtime();
    let server = runtime.block_on(Server::start(AuthMode::Optional));
    let key = server.authd.api_key(Role::Admin, Scopes::all(Role::Admin));
    let mut count = 0_u64;
    run_waiting("http_requests", |input| {
        count += 1;
        if count.is_multiple_of(EACH) {
            tidy(&server, &key);
        }
        let before = PANICS.load(Ordering::SeqCst);
        let taken = runtime.block_on(async {
            let Some(request) = request(&filled(&server, &key, input).await) else { return false };
            let shown = format!("{} {}", request.method(), request.uri());
            let Ok(answer) = tokio::time::timeout(WAIT, server.send(request)).await else {
                return true;
            };
            assert!(is_well(&answer), "{shown}: {answer:?}");
            let bare = answer.body == Value::String(String::new());
            let coded = answer.status.as_u16() < 400 || bare || !answer.code().is_empty();
            assert!(coded, "{shown}: an error without a code: {answer:?}");
            reaches_a_route(answer.status.as_u16())
        });
        assert_eq!(PANICS.load(Ordering::SeqCst), before, "something panicked");
        taken
    });
}

/// The statuses in all that came back.
fn statuses(answer: &[u8]) -> Vec<u16> {
    let text = String::from_utf8_lossy(answer);
    let after = text.split("HTTP/1.1 ").skip(1);
    after.filter_map(|rest| rest.get(..3).and_then(|status| status.parse().ok())).collect()
}

/// All that came back; nothing where that does not end in time.
async fn exchange(address: &str, bytes: &[u8]) -> Option<Vec<u8>> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut answer = Vec::new();
    let talk = async {
        // The server may hang up at any byte.
        let _ = stream.write_all(&[bytes, LAST].concat()).await;
        let _ = stream.shutdown().await;
        let _ = stream.read_to_end(&mut answer).await;
    };
    // A stream of events goes on until its client leaves.
    tokio::time::timeout(WAIT, talk).await.ok().map(|()| answer)
}

/// A client that does nothing wrong.
async fn is_served(address: &str) -> bool {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(LAST).await.unwrap();
    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(30), stream.read_to_end(&mut answer)).await;
    read.is_ok() && answer.starts_with(b"HTTP/1.1 200 OK\r\n")
}

#[test]
fn http_wire() {
    let _turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    count_panics();
    let runtime = runtime();
    let server = runtime.block_on(Server::start(AuthMode::Optional));
    let key = server.authd.api_key(Role::Admin, Scopes::all(Role::Admin));
    let door = Door::open(&"127.0.0.1:0".parse().unwrap()).unwrap();
    let address = door.to_string().strip_prefix("http://").unwrap().to_owned();
    let stop = CancellationToken::new();
    let proof = sdrest_sandbox::leave_open("a test serves in its own process").unwrap();
    let (router, stopped) = (server.router(), stop.clone());
    let handle = runtime.handle().clone();
    let serving = std::thread::spawn(move || handle.block_on(serve(&proof, door, router, stopped)));
    let mut count = 0_u64;
    run_waiting("http_wire", |input| {
        let before = PANICS.load(Ordering::SeqCst);
        count += 1;
        let taken = runtime.block_on(async {
            let answer = exchange(&address, &filled(&server, &key, input).await).await;
            let Some(answer) = answer else { return true };
            let statuses = statuses(&answer);
            assert!(
                statuses.iter().all(|status| *status < 500 || *status == 503),
                "{}",
                String::from_utf8_lossy(&answer)
            );
            if count.is_multiple_of(EACH) {
                tidy(&server, &key);
                assert!(is_served(&address).await, "the next client got nothing");
            }
            statuses.first().copied().is_some_and(reaches_a_route)
        });
        assert_eq!(PANICS.load(Ordering::SeqCst), before, "something panicked");
        taken
    });
    stop.cancel();
    serving.join().unwrap().unwrap();
}
