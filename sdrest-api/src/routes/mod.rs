//! The handlers, one file a subject, and the JSON that they take and give. They know of HTTP, of callers
//! and of the queue; never of RPC, of SQL or of a path on this host.

pub mod answers;
pub mod api_keys;
pub mod auth;
pub mod catalog;
pub mod conversations;
pub mod docs;
pub mod generate;
pub mod images;
pub mod jobs;
pub mod login_answer;
pub mod models;
mod page;
pub mod queue;
pub mod stream;
pub mod system;
pub mod txt2img;
pub mod who;
