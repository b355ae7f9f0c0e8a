//! `sdrestctl` against a front end that was taken over, or hangs: what it answers moves no cursor of the administrator's
//! terminal and forges no line, and a socket that nobody reads from keeps nobody waiting.
#![expect(clippy::unwrap_used, reason = "a test may panic, also in its own functions")]

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket,
};
use std::{
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    os::fd::{AsRawFd, OwnedFd},
    os::unix::net::UnixStream,
    path::Path,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

const SDRESTCTL: &str = env!("CARGO_BIN_EXE_sdrestctl");
/// As JSON writes it: clears the screen, colours it by a C1 character, names the window, and begins a line of its own.
const HOSTILE: &str = r"\u001b[2J\u009b31m\u001b]0;owned\u0007words\u007f\nforged: line";

/// A front end that is well, and answers all else with an error. It serves until the test process ends.
fn front_end() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let lines: Vec<String> =
                lines.map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
            let (status, body) = if lines[0].contains(" /api/health ") {
                ("200 OK", format!("{{\"status\":\"ok\",\"detail\":\"{HOSTILE}\"}}"))
            } else {
                let error = format!("{{\"code\":\"{HOSTILE}\",\"message\":\"{HOSTILE}\"}}");
                ("400 Bad Request", format!("{{\"error\":{error}}}"))
            };
            let length = body.len();
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n");
            let _ = write!(stream, "{head}Connection: close\r\n\r\n{body}");
        }
    });
    url
}

fn sdrestctl(words: &[&str]) -> Output {
    Command::new(SDRESTCTL).args(words).stdin(Stdio::null()).output().unwrap()
}

fn assert_harmless(written: &[u8]) {
    let text = String::from_utf8(written.to_vec()).unwrap();
    assert!(text.contains("words"), "{text}");
    let control = text.chars().find(|letter| letter.is_control() && *letter != '\n');
    assert_eq!(control, None, "{text:?}");
    assert!(!text.lines().any(|line| line.starts_with("forged")), "{text}");
}

#[test]
fn what_a_front_end_says_moves_no_cursor_and_forges_no_line() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().to_str().unwrap();
    let url = front_end();
    let table = sdrestctl(&["status", "--url", &url, "--run-dir", run]);
    assert_harmless(&table.stdout);
    let json = sdrestctl(&["status", "-o", "json", "--url", &url, "--run-dir", run]);
    assert_harmless(&json.stdout);
    let picture = dir.path().join("x.png");
    let words = ["generate", "a circle", "-o", picture.to_str().unwrap(), "--url", &url];
    let error = sdrestctl(&words);
    assert!(!error.status.success());
    assert_harmless(&error.stderr);
}

/// A listener that takes nobody out of its queue, and a queue without a place.
fn full(path: &Path) -> (OwnedFd, Vec<UnixStream>) {
    let listener = socket(AddressFamily::Unix, SockType::Stream, SockFlag::empty(), None).unwrap();
    bind(listener.as_raw_fd(), &UnixAddr::new(path).unwrap()).unwrap();
    listen(&listener, Backlog::new(0).unwrap()).unwrap();
    let waiting = vec![UnixStream::connect(path).unwrap()];
    (listener, waiting)
}

#[test]
fn a_stopped_program_with_a_full_queue_is_down() {
    let dir = tempfile::tempdir().unwrap();
    let http = dir.path().join("http.sock");
    let _held = [full(&http), full(&dir.path().join("conversation.sock"))];
    let url = format!("unix:{}", http.display());
    let words = ["status", "--url", &url, "--run-dir", dir.path().to_str().unwrap()];
    let begun = Instant::now();
    let mut child = Command::new(SDRESTCTL).args(words).stdout(Stdio::piped()).spawn().unwrap();
    while child.try_wait().unwrap().is_none() {
        if begun.elapsed() > Duration::from_secs(60) {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("status waits for ever");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(2), "{text}");
    for name in ["conversation", "http"] {
        let row = text.lines().find(|line| line.starts_with(name)).unwrap();
        assert!(row.contains("down"), "{text}");
    }
}
