//! Pictures on their way to a file and at rest: the text that goes into them, PNG, the blob store. Nothing in
//! a file depends on time, job, host, user or attempt; nothing here imports axum, a job or a worker.

pub mod blobs;
pub mod encode;
pub mod infotext;
pub mod sweep;

pub use blobs::{BlobError, BlobStore, attempt_of, blob_key};
pub use encode::{EncodeError, encode_png, read_parameters};
pub use infotext::infotext;
