//! Fuzz targets for every frame that crosses a socket of authd or api, and for the bounded values and names inside
//! them. What HTTP brings is tried in the tests of sdrest-api. The corpus is made of honest messages
//! (`SDREST_UPDATE_CORPUS=1` writes it anew after a change of the protocol); an input that ever broke something is
//! added to it.
#![allow(clippy::unwrap_used, reason = "a test may end at any failure")]
#![forbid(unsafe_code)]

/// What authd itself reads from a conversation program.
#[path = "../../sdrest-authd/src/conversation/frames.rs"]
mod authd_frames;
mod campaign;
mod guide;
mod mutation;
mod rpc;
mod seeds;
mod talk;
mod targets;
mod values;
