//! The HTTP surface from outside: the real router over a queue of its own and an authd that lives in this
//! test, over a real socket with the real transport. What needs the other programs themselves is tested
//! where they run together.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod api_keys;
mod authd;
mod clock;
mod edges;
mod ends;
mod login;
mod modes;
mod news;
mod pictures;
mod polls;
mod public_paths;
mod reconnect;
mod server;
mod surface;
mod tokens;
mod walk;
mod wire;
