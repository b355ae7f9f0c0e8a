//! What happens between fork and exec of another program. Each part runs in a process of its own that has one
//! thread and no runtime, so that namespaces, credentials and death signals apply to all of it
//! (unshare(2), pivot_root(2), credentials(7), prctl(2)).
//!
//! Listening sockets arrive as standard input and standard output: that way no descriptor has to be taken
//! by number, and no line here is unsafe. Nothing here may go on after a step that failed.

pub(crate) mod conversation;
pub(crate) mod credentials;
pub(crate) mod daemon;
pub(crate) mod descriptors;
pub(crate) mod first;
mod hidden;
pub(crate) mod view;
