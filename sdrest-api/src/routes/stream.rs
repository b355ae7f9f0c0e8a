//! Server-sent events (WHATWG HTML §9.2): a comment every 15 s so that proxies keep the line, no buffering
//! on the way, and an end when the server stops or the caller's credentials stop counting.

use crate::{app::App, auth::User};
use axum::{
    http::{HeaderName, HeaderValue, header::CACHE_CONTROL},
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures::{Stream, StreamExt, stream};
use std::{convert::Infallible, future::Future, time::Duration};

const KEEP_ALIVE: Duration = Duration::from_secs(15);
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// A stream that goes on until it ends by itself or `over` comes to pass.
pub fn sse<S, F>(events: S, over: F) -> Response
where
    S: Stream<Item = Event> + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    respond(events.take_until(over))
}

/// A stream of one caller's things: it also ends, with `auth_expired`, when the caller's token does.
pub fn sse_for<S>(app: &App, user: &User, events: S) -> Response
where
    S: Stream<Item = Event> + Send + 'static,
{
    let (policies, user, stop) = (app.authd.policies().clone(), user.clone(), app.stop.clone());
    let over = async move {
        tokio::select! {
            () = stop.cancelled() => None,
            () = policies.until_over(&user) => Some(Event::default().event("auth_expired").data("{}")),
        }
    };
    // After a last word the end follows at once, whatever the events go on to bring.
    let last = stream::once(over).map(Ending::Over).chain(stream::once(async { Ending::Ended }));
    let both = stream::select(
        events.map(Ending::Event).chain(stream::once(async { Ending::Ended })),
        last,
    );
    let until_over = both.scan(false, |ended, item| {
        let next = match (*ended, item) {
            (true, _) | (_, Ending::Ended | Ending::Over(None)) => None,
            (false, Ending::Event(event)) => Some(event),
            (false, Ending::Over(Some(event))) => {
                *ended = true;
                Some(event)
            }
        };
        std::future::ready(next)
    });
    respond(until_over)
}

enum Ending {
    Event(Event),
    /// The stream came to its own end.
    Ended,
    /// Somebody else ended it, with a last word or without.
    Over(Option<Event>),
}

fn respond<S: Stream<Item = Event> + Send + 'static>(events: S) -> Response {
    let events = events.map(Ok::<_, Infallible>);
    let mut response =
        Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response();
    response.headers_mut().insert(X_ACCEL_BUFFERING, HeaderValue::from_static("no"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
