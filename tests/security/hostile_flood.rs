//! The hostile front end's brute part: logins without end, frames that are none, connections that are dropped. Run by
//! `hostile_front_end.rs`, which measures what it did to authd.

use crate::hostile_program::{AUTHD, Front, run_folder};
use futures::{StreamExt, stream};
use sdrest_proto::{
    BUILD, PROTOCOL,
    id::{KeyId, RequestId},
    secret::{ApiKey, BearerToken, RefreshToken},
    transport::deadline,
};
use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    time::Duration,
};

const LOGINS: usize = 300;
const CONNECTIONS: usize = 120;
/// Frames that cost their sender the connection, and calls that cost nothing but an answer.
const FRAMES: u32 = 3000;
const CALLS: usize = 3000;
/// Calls at a time.
const AT_ONCE: usize = 50;

#[tokio::test]
#[ignore = "run by hostile_front_end with the front end's account"]
async fn floods() {
    logins_that_nobody_waits_for().await;
    frames_that_are_none();
    silent_connections();
    // It still answers, and it is still the one that it was.
    let health = Front::connect().await.client.health(deadline(Duration::from_secs(10))).await;
    assert!(health.is_ok(), "{health:?}");
}

/// Twenty at a time on a connection that is then dropped, unanswered.
async fn logins_that_nobody_waits_for() {
    for round in 0..LOGINS / 20 {
        let front = Front::connect().await;
        let mut begun = Vec::new();
        for number in 0..20 {
            let name = ["alice", "bob", "root", "nobody-knows-me"][number % 4];
            let source = format!("10.{round}.{number}.1");
            let client = front.client.clone();
            let mut login = Front::wish(name, None, &source);
            login.wait_ms = if number % 2 == 0 { 1 } else { 30_000 };
            let patience = deadline(Duration::from_millis(400));
            begun.push(tokio::spawn(async move { client.begin(patience, login).await.is_ok() }));
        }
        for one in begun {
            let _ = one.await;
        }
    }
}

/// What hostile frames leave behind is to be seen in authd's size: `hostile_front_end.rs` runs this again and again.
#[tokio::test]
#[ignore = "run by hostile_front_end with the front end's account"]
async fn thousands_of_frames() {
    for round in 0..FRAMES {
        let body = noise(round, [1, 40, 300, 4000][round as usize % 4]);
        let length = u32::try_from(body.len()).unwrap();
        let bytes = match round % 5 {
            // As long as it says, and no frame of anybody's.
            0 | 1 => [hello(), frame(length, &body)].concat(),
            // A length that nobody may set aside.
            2 => [hello(), frame(u32::MAX - round, &body)].concat(),
            3 => [hello(), frame(256 * 1024 + 1 + round, &body)].concat(),
            _ => [noise(round, 64), body].concat(),
        };
        let mut stream = UnixStream::connect(run_folder().join(AUTHD)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let _ = stream.write_all(&bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        // Until it hangs up: its hello and no more.
        let mut answer = Vec::new();
        let ended = stream.read_to_end(&mut answer);
        assert!(answer.len() <= 64, "{} bytes for a frame that is none", answer.len());
        let still_open = |error: &std::io::Error| {
            matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut)
        };
        assert!(!ended.as_ref().is_err_and(still_open), "it waits for more of round {round}");
    }
    calls_about_nothing().await;
}

/// Well-formed calls with made-up secrets, all on one connection.
async fn calls_about_nothing() {
    let front = Front::connect().await;
    let calls = (0..CALLS).map(|round| {
        let client = front.client.clone();
        async move {
            let patience = deadline(Duration::from_secs(30));
            let made_up = "A".repeat(40 + round % 3000);
            let request = RequestId::random();
            match round % 3 {
                0 => {
                    let token = BearerToken::new(format!("{made_up}.{made_up}.{made_up}"));
                    client.introspect(patience, token, request).await.unwrap().is_err()
                }
                1 => client
                    .refresh(patience, RefreshToken::new(made_up), request)
                    .await
                    .unwrap()
                    .is_err(),
                _ => {
                    let key = ApiKey::compose(KeyId::random(), &[7; 24]);
                    client.check_key(patience, key, request).await.unwrap().is_err()
                }
            }
        }
    });
    let refused = stream::iter(calls).buffer_unordered(AT_ONCE);
    assert!(refused.all(std::future::ready).await, "something was taken");
}

fn hello() -> Vec<u8> {
    let mut hello = b"sdrest\0\0".to_vec();
    hello.extend(PROTOCOL.to_le_bytes());
    hello.extend(BUILD.as_bytes());
    hello.resize(64, 0);
    hello
}

fn frame(length: u32, body: &[u8]) -> Vec<u8> {
    [length.to_be_bytes().as_slice(), body].concat()
}

/// Bytes from a linear congruence: the same in every run.
fn noise(seed: u32, length: usize) -> Vec<u8> {
    let mut state = seed;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(next).take(length).collect()
}

fn frames_that_are_none() {
    for round in 0..CONNECTIONS {
        let seed = u32::try_from(round).unwrap();
        let random = noise(seed, 300);
        let bytes = match round % 8 {
            0 => random,
            1 => [b"sdrest\0\0".to_vec(), u32::MAX.to_le_bytes().to_vec(), vec![0; 52]].concat(),
            2 => [hello(), frame(300, &random)].concat(),
            3 => [hello(), frame(u32::MAX, &random)].concat(),
            4 => [hello(), frame(256 * 1024 + 1, &vec![7; 256 * 1024 + 1])].concat(),
            5 => [hello(), frame(256 * 1024, &vec![0xff; 256 * 1024])].concat(),
            6 => [hello(), frame(1000, &random)].concat(),
            _ => hello()[..30].to_vec(),
        };
        let mut stream = UnixStream::connect(run_folder().join(AUTHD)).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        // It may have hung up in the middle, which is as good an answer as any.
        let _ = stream.write_all(&bytes);
        let _ = stream.read(&mut [0; 200]);
    }
}

/// Connected, and then nothing; some after their hello.
fn silent_connections() {
    let held: Vec<UnixStream> = (0..CONNECTIONS)
        .map(|number| {
            let mut stream = UnixStream::connect(run_folder().join(AUTHD)).unwrap();
            if number % 2 == 0 {
                stream.write_all(&hello()).unwrap();
            }
            stream
        })
        .collect();
    std::thread::sleep(Duration::from_secs(1));
    drop(held);
}
