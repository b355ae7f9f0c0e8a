//! Tells which inputs reach something new. In a binary that guided.py built, each branch has a counter of eight bits
//! (LLVM's SanitizerCoverage; counters.c says where they are); in every other binary there is no guide, and nothing is
//! lost. The counters are read through the kernel, as a debugger would, so that this is safe code. Other threads of the
//! same process count too: a binary is guided one target at a time.

use nix::{
    sys::uio::{RemoteIoVec, process_vm_readv},
    unistd::Pid,
};
use std::io::IoSliceMut;

/// Counters that are compared at once.
const CHUNK: usize = 128;

pub(crate) struct Guide {
    counters: RemoteIoVec,
    now: Vec<u8>,
    before: Vec<u8>,
    /// One bit for each number of times that a branch was taken: 1, 2, 3, 4 to 7, 8 to 15, 16 to 31, 32 to 127, more.
    seen: Vec<u8>,
    counting: Counting,
}

/// What is new: that a branch is taken at all, or as often as never before.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Counting {
    Branches,
    Times,
}

impl Guide {
    /// Nothing where this binary has no counters.
    pub(crate) fn find(counting: Counting) -> Option<Self> {
        let bounds = std::env::var("SDREST_FUZZ_COUNTERS").ok()?;
        let (base, len) = bounds.split_once(' ').unwrap();
        let counters = RemoteIoVec { base: base.parse().unwrap(), len: len.parse().unwrap() };
        let empty = || vec![0; counters.len];
        let mut guide = Self { counters, now: empty(), before: empty(), seen: empty(), counting };
        guide.look();
        Some(guide)
    }

    /// What is counted from here on belongs to the next input.
    pub(crate) fn look(&mut self) {
        std::mem::swap(&mut self.now, &mut self.before);
        let mut local = [IoSliceMut::new(&mut self.now)];
        let read = process_vm_readv(Pid::this(), &mut local, &[self.counters]).unwrap();
        assert_eq!(read, self.counters.len);
    }

    /// How many of the branches that were taken since the last look are news. Looks.
    pub(crate) fn news(&mut self) -> usize {
        self.look();
        let mut news = 0;
        let (now, before) = (self.now.chunks(CHUNK), self.before.chunks(CHUNK));
        // Most chunks are as they were, and comparing them whole is what keeps a campaign fast.
        let changed = now
            .zip(before)
            .zip(self.seen.chunks_mut(CHUNK))
            .filter(|((now, before), _)| now != before);
        for ((now, before), seen) in changed {
            for ((now, before), seen) in now.iter().zip(before).zip(seen) {
                let bit = match (self.counting, now.wrapping_sub(*before)) {
                    (_, 0) => continue,
                    (Counting::Branches, _) => 1,
                    (Counting::Times, times) => bit(times),
                };
                news += usize::from(*seen & bit == 0);
                *seen |= bit;
            }
        }
        news
    }

    /// Begins anew, as if nothing had been seen.
    pub(crate) fn forget(&mut self) {
        self.seen.fill(0);
    }

    pub(crate) fn branches(&self) -> (usize, usize) {
        (self.seen.iter().filter(|seen| **seen != 0).count(), self.seen.len())
    }
}

fn bit(times: u8) -> u8 {
    match times {
        0..=1 => 1,
        2 => 2,
        3 => 4,
        4..=7 => 8,
        8..=15 => 16,
        16..=31 => 32,
        32..=127 => 64,
        _ => 128,
    }
}
