//! How many jobs one user may watch and wait for at a time. A stream and a long poll each hold a connection for
//! as long as the job or the wait lasts, so without a bound one user could hold all of them.

use sdrest_proto::{id::JobId, identity::Subject};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

/// Streams that one user may have open.
pub const MAX_STREAMS: u32 = 16;
/// Long polls that one user may have open: enough for a program that waits for many jobs one by one. With the
/// streams it is less than a sixth of the connections that the listener takes.
pub const MAX_WAITS: u32 = 64;
/// Long polls that everybody together may have open: half of those connections, because whoever has no account
/// is counted by job and may have many jobs.
const MAX_WAITS_OF_ALL: u32 = 256;

/// Streams that all who have no account may have open together: more than one address may have connections, and with
/// the long polls less than all connections. Behind a proxy one of them can take all of these.
pub const MAX_STREAMS_OF_GUESTS: u32 = 192;

/// Everybody without an account goes by one name. They are counted by job, so that who watches one job much does not
/// shut out the others, and together.
type Watcher = (Subject, Option<JobId>);

/// The open streams, or long polls, of everybody. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Streams {
    most: u32,
    most_of_guests: u32,
    most_of_all: u32,
    open: Arc<Mutex<Open>>,
}

#[derive(Debug, Default)]
struct Open {
    by: HashMap<Watcher, u32>,
    guests: u32,
    all: u32,
}

/// The right to one of them, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Ticket {
    streams: Streams,
    watcher: Watcher,
}

impl Streams {
    /// Of server-sent events. One that is refused is an error, so one user's are nothing to another.
    pub(crate) fn of_events() -> Self {
        Self::new(MAX_STREAMS, MAX_STREAMS_OF_GUESTS, u32::MAX)
    }

    /// Of long polls. One that is refused is answered at once.
    pub(crate) fn of_waits() -> Self {
        Self::new(MAX_WAITS, MAX_WAITS_OF_ALL, MAX_WAITS_OF_ALL)
    }

    fn new(most: u32, most_of_guests: u32, most_of_all: u32) -> Self {
        Self { most, most_of_guests, most_of_all, open: Arc::default() }
    }

    /// `None` where this user, everybody without an account or everybody together has as many as there may be.
    pub(crate) fn enter(&self, owner: &Subject, job: JobId) -> Option<Ticket> {
        let guest = *owner == Subject::guest() || *owner == Subject::anonymous();
        let watcher = (owner.clone(), guest.then_some(job));
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.by.get(&watcher).copied().unwrap_or(0);
        let full = count >= self.most || open.all >= self.most_of_all;
        if full || (guest && open.guests >= self.most_of_guests) {
            return None;
        }
        open.by.insert(watcher.clone(), count + 1);
        open.guests += u32::from(guest);
        open.all += 1;
        Some(Ticket { streams: self.clone(), watcher })
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut open = self.streams.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.all -= 1;
        open.guests -= u32::from(self.watcher.1.is_some());
        if let Some(count) = open.by.get_mut(&self.watcher) {
            *count -= 1;
            if *count == 0 {
                open.by.remove(&self.watcher);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_user_has_a_share_and_gets_it_back() {
        let (streams, job) = (Streams::of_events(), JobId::random());
        let one = Subject::unix(1, 1);
        let mut held: Vec<Ticket> =
            (0..MAX_STREAMS).map(|_| streams.enter(&one, JobId::random()).unwrap()).collect();
        assert!(streams.enter(&one, job).is_none());
        assert!(streams.enter(&Subject::unix(2, 1), job).is_some());
        held.pop();
        assert!(streams.enter(&one, job).is_some());
        held.clear();
        let open = streams.open.lock().unwrap();
        assert!(open.by.is_empty() && open.all == 0 && open.guests == 0);
    }

    #[test]
    fn one_guest_does_not_use_up_the_streams_of_another() {
        let (streams, job) = (Streams::of_events(), JobId::random());
        let guest = Subject::guest();
        let held: Vec<_> = (0..=MAX_STREAMS).map(|_| streams.enter(&guest, job)).collect();
        assert!(held[MAX_STREAMS as usize].is_none());
        assert!(streams.enter(&guest, JobId::random()).is_some());
    }

    #[test]
    fn guests_with_many_jobs_do_not_watch_on_every_connection() {
        let streams = Streams::of_events();
        let enter = || streams.enter(&Subject::guest(), JobId::random());
        let mut held: Vec<_> = (0..MAX_STREAMS_OF_GUESTS).map(|_| enter().unwrap()).collect();
        assert!(enter().is_none());
        assert!(streams.enter(&Subject::unix(1, 1), JobId::random()).is_some());
        held.pop();
        assert!(enter().is_some());
    }

    #[test]
    fn guests_with_many_jobs_do_not_wait_on_every_connection() {
        let waits = Streams::of_waits();
        let enter = || waits.enter(&Subject::guest(), JobId::random());
        let mut held: Vec<_> = (0..MAX_WAITS_OF_ALL).map(|_| enter().unwrap()).collect();
        assert!(enter().is_none());
        held.pop();
        assert!(enter().is_some());
    }
}
