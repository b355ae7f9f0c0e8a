//! bincode for tarpc, with the guards that tarpc lacks. tarpc turns a request's deadline into an instant
//! while it decodes, which panics for a hostile one; so the deadline is read from the raw frame first and
//! refused above a cap. Every decode is limited in bytes and must use up its frame.

use bincode::Options;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{io, marker::PhantomData, pin::Pin, time::Duration};
use tokio_serde::{Deserializer, Serializer};
use tokio_util::bytes::{Bytes, BytesMut};

/// The longest deadline that a request may carry. Long polls hold for 30 s; a model load takes minutes.
pub const MAX_DEADLINE: Duration = Duration::from_secs(15 * 60);

/// Which side of tarpc decodes: only requests carry deadlines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Client,
    Server,
}

/// The codec of one connection.
#[derive(Debug)]
pub struct Codec<Item> {
    side: Side,
    max_frame: usize,
    item: PhantomData<fn() -> Item>,
}

impl<Item> Codec<Item> {
    pub fn new(side: Side, max_frame: usize) -> Self {
        Self { side, max_frame, item: PhantomData }
    }

    fn options(&self) -> impl Options {
        bincode::DefaultOptions::new().with_limit(self.max_frame as u64)
    }
}

/// The beginning of tarpc's `ClientMessage`: the variant, and in a request the deadline.
#[derive(Deserialize)]
enum Head {
    Request(Duration),
    Cancel,
}

fn check_deadline(options: impl Options, frame: &[u8]) -> io::Result<()> {
    let head: Head = options.allow_trailing_bytes().deserialize(frame).map_err(invalid)?;
    match head {
        Head::Request(deadline) if deadline > MAX_DEADLINE => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!(
                "a deadline of {} s is over the limit of {} s",
                deadline.as_secs(),
                MAX_DEADLINE.as_secs()
            ),
        )),
        Head::Request(_) | Head::Cancel => Ok(()),
    }
}

fn invalid(error: bincode::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

impl<Item: DeserializeOwned> Deserializer<Item> for Codec<Item> {
    type Error = io::Error;

    fn deserialize(self: Pin<&mut Self>, frame: &BytesMut) -> io::Result<Item> {
        if self.side == Side::Server {
            check_deadline(self.options(), frame)?;
        }
        self.options().deserialize(frame).map_err(invalid)
    }
}

impl<Item, SinkItem: Serialize> Serializer<SinkItem> for Codec<Item> {
    type Error = io::Error;

    fn serialize(self: Pin<&mut Self>, item: &SinkItem) -> io::Result<Bytes> {
        self.options().serialize(item).map(Bytes::from).map_err(invalid)
    }
}
