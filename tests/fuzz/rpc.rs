//! The frames of tarpc as each side reads them: a hostile front end's requests at authd, a hostile authd's and a
//! hostile worker's answers at the front end, and a whole connection with its `hello`.

use bincode::Options;
use futures::StreamExt;
use sdrest_proto::{
    authd::{AuthdAdminRequest, AuthdAdminResponse, AuthdRequest, AuthdResponse},
    codec::{Codec, MAX_DEADLINE, Side},
    transport::{self, AUTHD, AUTHD_ADMIN, Service, TrustedUids, WORKER},
    worker::{WorkerRequest, WorkerResponse},
};
use serde::{Serialize, de::DeserializeOwned};
use std::{pin::Pin, time::Instant};
use tarpc::{
    ClientMessage, Response,
    tokio_serde::{Deserializer, Serializer},
    tokio_util::bytes::BytesMut,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};

pub(crate) fn authd_request(input: &[u8]) -> bool {
    request::<AuthdRequest>(AUTHD, input)
}

pub(crate) fn authd_admin_request(input: &[u8]) -> bool {
    request::<AuthdAdminRequest>(AUTHD_ADMIN, input)
}

pub(crate) fn worker_request(input: &[u8]) -> bool {
    request::<WorkerRequest>(WORKER, input)
}

pub(crate) fn authd_answer(input: &[u8]) -> bool {
    answer::<AuthdResponse>(AUTHD, input)
}

pub(crate) fn authd_admin_answer(input: &[u8]) -> bool {
    answer::<AuthdAdminResponse>(AUTHD_ADMIN, input)
}

pub(crate) fn worker_answer(input: &[u8]) -> bool {
    answer::<WorkerResponse>(WORKER, input)
}

fn decode<T: DeserializeOwned>(side: Side, service: Service, frame: &[u8]) -> Option<T> {
    let mut codec = Codec::<T>::new(side, service.max_frame);
    Deserializer::<T>::deserialize(Pin::new(&mut codec), &BytesMut::from(frame)).ok()
}

fn encode<T: Serialize>(side: Side, service: Service, item: &T) -> Vec<u8> {
    let mut codec = Codec::<T>::new(side, service.max_frame);
    Serializer::<T>::serialize(Pin::new(&mut codec), item).unwrap().to_vec()
}

/// What was read is no larger than what it was read from, and reads the same when it is written again.
pub(crate) fn holds<T: Serialize + DeserializeOwned>(value: &T, length: usize) {
    let options = || bincode::DefaultOptions::new().with_limit(WORKER.max_frame as u64);
    let first = options().serialize(value).unwrap();
    assert!(first.len() <= length, "{length} bytes became {}", first.len());
    let again: T = options().deserialize(&first).unwrap();
    assert_eq!(first, options().serialize(&again).unwrap(), "written again, it differs");
}

fn request<T: Serialize + DeserializeOwned>(service: Service, input: &[u8]) -> bool {
    let Some(message) = decode::<ClientMessage<T>>(Side::Server, service, input) else {
        return false;
    };
    let written = encode(Side::Client, service, &message);
    let again = decode::<ClientMessage<T>>(Side::Server, service, &written);
    match (message, again) {
        (ClientMessage::Request(request), Some(ClientMessage::Request(again))) => {
            assert!(request.context.deadline <= Instant::now() + MAX_DEADLINE, "too far away");
            assert_eq!(request.id, again.id);
            holds(&request.message, input.len());
        }
        (
            ClientMessage::Cancel { request_id, .. },
            Some(ClientMessage::Cancel { request_id: again, .. }),
        ) => {
            assert_eq!(request_id, again);
        }
        _ => panic!("written again, it is something else"),
    }
    true
}

fn answer<T: Serialize + DeserializeOwned>(service: Service, input: &[u8]) -> bool {
    let Some(answer) = decode::<Response<T>>(Side::Client, service, input) else { return false };
    let written = encode(Side::Server, service, &answer);
    let again = decode::<Response<T>>(Side::Client, service, &written).unwrap();
    assert_eq!(answer.request_id, again.request_id);
    match (&answer.message, &again.message) {
        (Ok(message), Ok(_)) => holds(message, input.len()),
        // tarpc writes the kind as a signed number and reads an unsigned one, so only the text comes back.
        (Err(error), Err(again)) => assert_eq!(error.detail, again.detail),
        _ => panic!("written again, it is something else"),
    }
    true
}

/// A connection to authd that sends the input and no more: `hello` and any number of frames.
pub(crate) fn authd_connection(input: &[u8]) -> bool {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let own = TrustedUids::new([nix::unistd::geteuid().as_raw()]);
        let server = async {
            let accepted = transport::accept::<ClientMessage<AuthdRequest>, Response<AuthdResponse>>(
                ours, &own, AUTHD,
            );
            let Ok((_, frames)) = accepted.await else { return false };
            // As authd does: the first frame that cannot be read ends the connection.
            let read = frames.take_while(|frame| std::future::ready(frame.is_ok())).count().await;
            read > 0
        };
        let client = async {
            // The server may hang up at any byte.
            let _ = theirs.write_all(input).await;
            let _ = theirs.shutdown().await;
            let mut hello = Vec::new();
            let _ = theirs.read_to_end(&mut hello).await;
        };
        futures::join!(server, client).0
    })
}
