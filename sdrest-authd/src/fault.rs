//! The one answer where this process could not do what it should: the cause goes to the log, and the caller learns
//! that it is there.

use sdrest_proto::{
    error::{ErrorCode, Fault},
    id::RequestId,
};
use std::fmt::Display;

pub(crate) fn internal(cause: &dyn Display) -> Fault {
    tracing::error!("{cause}");
    failed()
}

/// With the request, so that it is found by the id that its caller has.
pub(crate) fn internal_in(request: &RequestId, cause: &dyn Display) -> Fault {
    tracing::error!(request_id = %request, "{cause}");
    failed()
}

fn failed() -> Fault {
    Fault::new(ErrorCode::Internal, "the login service failed; its log says why")
}
