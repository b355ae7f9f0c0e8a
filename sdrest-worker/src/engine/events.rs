//! The events of all jobs in one order, kept until they were read. A reader says how far it has come with
//! `after`; only that makes an event go. Newer steps replace older ones of the same job, so what is kept is
//! bounded by the jobs and their pictures.

use sdrest_proto::{
    event::{JobEvent, WorkerEvent},
    id::{Attempt, JobId},
};
use std::collections::VecDeque;

/// Events in one answer at most; one of them at most carries a picture.
const PAGE: usize = 256;

/// See the module.
#[derive(Debug)]
pub struct EventLog {
    kept: VecDeque<WorkerEvent>,
    last: u64,
    /// Bytes of pictures that nobody has acknowledged.
    picture_bytes: usize,
}

impl EventLog {
    /// An empty log whose first event has the sequence `floor + 1`. A cursor from an earlier life of the worker
    /// is below `floor`, so it acknowledges nothing of this one.
    pub fn starting_after(floor: u64) -> Self {
        Self { kept: VecDeque::new(), last: floor, picture_bytes: 0 }
    }

    /// The newest event's sequence.
    pub fn last(&self) -> u64 {
        self.last
    }

    pub fn len(&self) -> usize {
        self.kept.len()
    }

    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    pub fn picture_bytes(&self) -> usize {
        self.picture_bytes
    }

    /// Appends an event; a step takes the place of an earlier one of the same job.
    pub fn push(&mut self, job: JobId, attempt: Attempt, event: JobEvent) {
        if matches!(event, JobEvent::Step { .. }) {
            self.kept
                .retain(|kept| kept.job != job || !matches!(kept.event, JobEvent::Step { .. }));
        }
        self.last += 1;
        self.picture_bytes += picture_bytes(&event);
        self.kept.push_back(WorkerEvent { sequence: self.last, job, attempt, event });
    }

    /// Drops all that is kept of a job: it was superseded or interrupted.
    pub fn forget(&mut self, job: JobId) {
        self.kept.retain(|kept| kept.job != job);
        self.count_pictures();
    }

    /// Forgets what came up to `after`, then copies what follows, up to a page and one picture. A cursor that
    /// this log never gave out acknowledges nothing.
    pub fn read(&mut self, after: u64) -> Vec<WorkerEvent> {
        if after <= self.last {
            while self.kept.front().is_some_and(|event| event.sequence <= after) {
                self.kept.pop_front();
            }
            self.count_pictures();
        }
        let mut pictures = 0;
        let until_second_picture = self.kept.iter().take_while(|event| {
            pictures += usize::from(matches!(event.event, JobEvent::Image { .. }));
            pictures <= 1
        });
        until_second_picture.take(PAGE).cloned().collect()
    }

    fn count_pictures(&mut self) {
        self.picture_bytes = self.kept.iter().map(|kept| picture_bytes(&kept.event)).sum();
    }
}

fn picture_bytes(event: &JobEvent) -> usize {
    match event {
        JobEvent::Image { image, .. } => image.data().len(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sdrest_proto::{bounds::Seed, image::Rgb8Image};

    const FIRST: Attempt = Attempt(1);

    fn picture(index: u32) -> JobEvent {
        let image = Rgb8Image::new(2, 1, vec![7; 6]).unwrap();
        JobEvent::Image { index, seed: Seed::try_from(1).unwrap(), image }
    }

    fn sequences(events: &[WorkerEvent]) -> Vec<u64> {
        events.iter().map(|event| event.sequence).collect()
    }

    #[test]
    fn events_stay_until_they_are_acknowledged() {
        let (mut log, job) = (EventLog::starting_after(100), JobId::random());
        log.push(job, FIRST, JobEvent::Started);
        log.push(job, FIRST, JobEvent::Done { engine_micros: 1 });
        assert_eq!(sequences(&log.read(0)), [101, 102]);
        assert_eq!(sequences(&log.read(0)), [101, 102]);
        assert_eq!(sequences(&log.read(101)), [102]);
        assert_eq!(sequences(&log.read(0)), [102]);
        assert!(log.read(102).is_empty());
    }

    #[test]
    fn a_cursor_from_elsewhere_forgets_nothing() {
        let (mut log, job) = (EventLog::starting_after(100), JobId::random());
        log.push(job, FIRST, JobEvent::Started);
        assert_eq!(log.read(7).len(), 1);
        assert_eq!(log.read(u64::MAX).len(), 1);
    }

    #[test]
    fn a_newer_step_replaces_the_older_one_of_its_job_only() {
        let (mut log, job, other) = (EventLog::starting_after(0), JobId::random(), JobId::random());
        for step in 1..=5 {
            log.push(job, FIRST, JobEvent::Step { step, steps: 5 });
            log.push(other, FIRST, JobEvent::Step { step, steps: 5 });
        }
        assert_eq!(sequences(&log.read(0)), [9, 10]);
    }

    #[test]
    fn one_picture_a_page_and_its_bytes_are_counted() {
        let (mut log, job) = (EventLog::starting_after(0), JobId::random());
        log.push(job, FIRST, JobEvent::Started);
        log.push(job, FIRST, picture(0));
        log.push(job, FIRST, picture(1));
        log.push(job, FIRST, JobEvent::Done { engine_micros: 1 });
        assert_eq!(log.picture_bytes(), 12);
        assert_eq!(sequences(&log.read(0)), [1, 2]);
        assert_eq!(sequences(&log.read(2)), [3, 4]);
        assert_eq!(log.picture_bytes(), 6);
        log.forget(job);
        assert_eq!((log.len(), log.picture_bytes()), (0, 0));
    }
}
