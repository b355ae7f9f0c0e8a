//! What administrators do, through authd's admin socket: the internal user database, anybody's keys and sessions, the
//! signing key. Root and the group sdrest-admin may; authd decides that by the kernel's word, not this program.

pub(crate) mod connection;
pub(crate) mod sessions;
pub(crate) mod users;
