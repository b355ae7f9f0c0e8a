//! A caller's session with a server, over HTTP as everybody else: find it, sign in, ask, sign out. `generate`, `key`
//! and `auth-test` are built on it. A password is read without echo, sent once and kept nowhere.

pub(crate) mod agent;
pub(crate) mod api_key;
pub(crate) mod client;
pub(crate) mod conversation;
pub(crate) mod login;
pub(crate) mod server;
pub(crate) mod terminal;
