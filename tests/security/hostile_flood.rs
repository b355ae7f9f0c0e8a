//! The hostile front end's brute part: logins without end, frames that are none, connections that are dropped. Run by
//! `hostile_front_end.rs`, which measures what it did to authd.

use crate::hostile_program::{AUTHD, Front, run_folder};
use sdrest_proto::{BUILD, PROTOCOL, transport::deadline};
use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    time::Duration,
};

const LOGINS: usize = 300;
const CONNECTIONS: usize = 120;

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
