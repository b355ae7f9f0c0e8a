//! What every request passes on its way in and every answer on its way out, whichever route it is for:
//! the request's id and log line, the check of Host, the refusal of cross-site requests, and the readers
//! of bodies and queries. Nothing here knows what a route does.

mod authority;
mod body;
mod cross_site;
mod fields;
mod host;
mod kernel_word;
mod outermost;
mod path;
mod peer;
mod query;
mod socket_owner;
mod tag;

pub use authority::Authority;
pub use body::{AUTH_BODY, Body, FromFields, GENERATION_BODY};
pub use cross_site::{CrossSite, refuse_cross_site};
pub use fields::Fields;
pub use host::{Hosts, check_host};
pub use kernel_word::KernelWord;
pub use outermost::{Outermost, method_not_allowed, not_found, note_route, outermost};
pub use path::PathId;
pub use peer::Peer;
pub use query::Query;
pub use socket_owner::SocketTables;
pub use tag::RequestTag;
