//! How many jobs one user may watch at a time. A stream holds a connection for as long as its job lives, so
//! without a bound one user could hold all of them.

use sdrest_proto::{id::JobId, identity::Subject};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

/// Streams that one user may have open.
pub const MAX_STREAMS: u32 = 16;

/// Everybody without an account goes by one name; so that one of them cannot shut out the others, they are
/// counted by job.
type Watcher = (Subject, Option<JobId>);

/// The open streams of everybody. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Streams(Arc<Mutex<HashMap<Watcher, u32>>>);

/// The right to one stream, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Ticket {
    streams: Streams,
    watcher: Watcher,
}

impl Streams {
    /// `None` where this user has as many as it may.
    pub(crate) fn enter(&self, owner: &Subject, job: JobId) -> Option<Ticket> {
        let shared = *owner == Subject::guest() || *owner == Subject::anonymous();
        let watcher = (owner.clone(), shared.then_some(job));
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(watcher.clone()).or_insert(0);
        if *count >= MAX_STREAMS {
            return None;
        }
        *count += 1;
        Some(Ticket { streams: self.clone(), watcher })
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut open = self.streams.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.watcher) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.watcher);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_user_has_a_share_and_gets_it_back() {
        let (streams, job) = (Streams::default(), JobId::random());
        let one = Subject::unix(1, 1);
        let mut held: Vec<Ticket> =
            (0..MAX_STREAMS).map(|_| streams.enter(&one, JobId::random()).unwrap()).collect();
        assert!(streams.enter(&one, job).is_none());
        assert!(streams.enter(&Subject::unix(2, 1), job).is_some());
        held.pop();
        assert!(streams.enter(&one, job).is_some());
        held.clear();
        assert!(streams.0.lock().unwrap().is_empty());
    }

    #[test]
    fn one_guest_does_not_use_up_the_streams_of_another() {
        let (streams, job) = (Streams::default(), JobId::random());
        let guest = Subject::guest();
        let held: Vec<_> = (0..=MAX_STREAMS).map(|_| streams.enter(&guest, job)).collect();
        assert!(held[MAX_STREAMS as usize].is_none());
        assert!(streams.enter(&guest, JobId::random()).is_some());
    }
}
