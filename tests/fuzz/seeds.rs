//! The corpus: one honest message of each kind, with ids and times that stand here, so that the files change only when
//! the protocol does. Files that a target's folder holds besides these were found by fuzzing, and stay.

mod authd;
mod conversation;
mod values;
mod worker;

use super::targets::corpus_folder;
use bincode::Options;
use sdrest_proto::{PROTOCOL, id::RequestId};
use serde::Serialize;
use std::time::Duration;

/// One file: the target, the file's name, and what it holds.
struct Seed {
    target: &'static str,
    name: String,
    bytes: Vec<u8>,
}

fn seed(target: &'static str, name: &str, bytes: Vec<u8>) -> Seed {
    Seed { target, name: name.to_owned(), bytes }
}

/// tarpc's messages as they look on the wire: its own type says its deadline by the clock.
#[derive(Serialize)]
enum Message<T> {
    Request((Duration, Trace), u64, T),
    Cancel(Trace, u64),
}

#[derive(Serialize)]
struct Trace {
    trace_id: [u8; 16],
    span_id: u64,
    sampling: u32,
}

fn trace() -> Trace {
    Trace { trace_id: [1; 16], span_id: 2, sampling: 0 }
}

fn bytes_of(value: &impl Serialize) -> Vec<u8> {
    bincode::DefaultOptions::new().serialize(value).unwrap()
}

fn request(verb: &impl Serialize) -> Vec<u8> {
    bytes_of(&Message::Request((Duration::from_secs(30), trace()), 7, verb))
}

fn cancel() -> Vec<u8> {
    bytes_of(&Message::<()>::Cancel(trace(), 7))
}

fn answer(verb: &impl Serialize) -> Vec<u8> {
    bytes_of(&(7_u64, Ok::<_, ()>(verb)))
}

/// What tarpc answers where a verb could not be run: a kind by number, and a text.
fn server_error() -> Vec<u8> {
    bytes_of(&(7_u64, Err::<(), _>((4_u32, "the deadline passed"))))
}

fn request_id() -> RequestId {
    RequestId::from_bytes([0x11; 16])
}

/// The opening bytes of a connection, then the frames.
fn connection(frames: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = vec![0; 64];
    bytes[..6].copy_from_slice(b"sdrest");
    bytes[8..12].copy_from_slice(&PROTOCOL.to_le_bytes());
    bytes[12..18].copy_from_slice(b"sdrest");
    for frame in frames {
        bytes.extend_from_slice(&u32::try_from(frame.len()).unwrap().to_be_bytes());
        bytes.extend_from_slice(frame);
    }
    bytes
}

fn seeds() -> Vec<Seed> {
    let mut all = authd::seeds();
    all.extend(conversation::seeds());
    all.extend(worker::seeds());
    all.extend(values::seeds());
    all
}

#[test]
fn the_corpus_holds_what_honest_parties_say_and_stays_small() {
    let update = std::env::var_os("SDREST_UPDATE_CORPUS").is_some();
    for seed in seeds() {
        let folder = corpus_folder(seed.target);
        let path = folder.join(&seed.name);
        if update {
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(&path, &seed.bytes).unwrap();
        }
        let committed = std::fs::read(&path).unwrap_or_default();
        assert!(
            committed == seed.bytes,
            "{}: the protocol has changed; run this with SDREST_UPDATE_CORPUS=1",
            path.display()
        );
    }
    let files = std::fs::read_dir(corpus_folder("")).unwrap().flat_map(|folder| {
        std::fs::read_dir(folder.unwrap().path()).unwrap().map(|file| file.unwrap())
    });
    let size: u64 = files.map(|file| file.metadata().unwrap().len()).sum();
    assert!(size < 100_000, "the corpus holds {size} bytes");
}
