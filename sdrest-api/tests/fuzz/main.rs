//! Fuzz targets for what HTTP brings: credentials, authorities and tokens by themselves, whole requests to the real
//! router, and raw bytes on the wire. Server, authd and tokens are those of the tests of the HTTP surface; how inputs
//! are made and judged is shared with the targets for frames.
#![allow(clippy::unwrap_used, reason = "a test may end at any failure")]
#![allow(dead_code, reason = "the shared modules serve other tests, too")]

#[path = "../http/authd.rs"]
mod authd;
#[path = "../../../tests/fuzz/campaign.rs"]
mod campaign;
#[path = "../../../tests/fuzz/guide.rs"]
mod guide;
mod headers;
#[path = "../../../tests/fuzz/mutation.rs"]
mod mutation;
mod requests;
#[path = "../http/server.rs"]
mod server;
#[path = "../http/tokens.rs"]
mod tokens;

use campaign::{Clock, Corpus, Plan};
use std::path::{Path, PathBuf};

/// Words of HTTP and of this interface.
const WORDS: &[&str] = &[
    "Bearer ",
    "bearer",
    "sdr_",
    "..",
    "//",
    "%2f",
    "%00",
    "%",
    "?",
    "#",
    ";",
    "\r\n",
    "\r\n\r\n",
    "\n",
    "\0",
    "\u{7f}",
    "ä",
    "localhost",
    "127.0.0.1",
    "[::1]",
    "evil.example",
    "@",
    ":99999",
    "http://",
    "null",
    "true",
    "-1",
    "1e999",
    "NaN",
    "\"",
    "\\u0000",
    "\\ud800",
    "{",
    "}",
    "[[[[",
    ",",
    "TOKEN",
    "KEY",
    "JOB",
    "ID",
    "SECRET",
    "Authorization: ",
    "X-API-Key: ",
    "Host: ",
    "Origin: ",
    "Sec-Fetch-Site: cross-site",
    "Prefer: wait=1",
    "Prefer: respond-async",
    "Idempotency-Key: ",
    "Last-Event-ID: ",
    "X-Sdrest-Job: ",
    "X-Sdrest-Conversation: ",
    "X-Forwarded-For: ",
    "X-Request-Id: ",
    "Content-Length: ",
    "Transfer-Encoding: chunked",
    "Expect: 100-continue",
    "Connection: upgrade",
    "Upgrade: h2c",
    "PRI * HTTP/2.0",
    "HEAD",
    "OPTIONS",
    "DELETE",
    "application/json",
    "text/event-stream",
    "/api/v1",
    "/api/",
    "Range: bytes=0-",
    "If-None-Match: *",
];

fn corpus_folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(target)
}

fn plan(name: &'static str) -> Plan {
    Plan { name, dictionary: WORDS, longest: 16 * 1024, clock: Clock::Processor }
}

/// One target, over the files of its folder.
fn run(name: &'static str, examine: impl FnMut(&[u8]) -> bool) {
    campaign::run(&plan(name), &Corpus::read(&corpus_folder(name)), examine);
}

/// One that waits for the threads of a server.
fn run_waiting(name: &'static str, examine: impl FnMut(&[u8]) -> bool) {
    let plan = Plan { clock: Clock::Wall, ..plan(name) };
    campaign::run(&plan, &Corpus::read(&corpus_folder(name)), examine);
}
