//! Runs one target over its corpus and then over mutations of it: 10,000 of them, or with `SDREST_TESTS=full` as many
//! as `SDREST_FUZZ_SECONDS` (600) allow. A panic, an input that takes over a second, and an input after which nothing
//! happens for a minute are failures, each with the input in hex. Memory is bounded for the whole process: a decoder
//! that believes a length and sets aside what it says ends it.
//!
//! The coverage-guided engine libFuzzer has no place here: it needs a nightly compiler and a build of its own.

use super::mutation::Mutator;
use nix::sys::resource::{Resource, setrlimit};
use std::{
    fmt::Write,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

const MUTATIONS: u64 = 10_000;
const SECONDS: u64 = 600;
/// The longest time for one input.
const PATIENCE: Duration = Duration::from_secs(1);
/// After this the process is ended: the input would never have come back.
const HANG: Duration = Duration::from_secs(60);
/// Private memory of the whole process: many times the largest frame, little beside what a length can say.
const MEMORY: u64 = 1024 * 1024 * 1024;

/// What is known of a target before it runs.
pub(crate) struct Plan {
    /// Names the folder of its corpus, and seeds its mutations.
    pub(crate) name: &'static str,
    /// Words that its grammar has.
    pub(crate) dictionary: &'static [&'static str],
    /// The longest input.
    pub(crate) longest: usize,
}

/// The files of one target, by name.
pub(crate) fn corpus(folder: &Path) -> Vec<Vec<u8>> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "{folder:?} is empty");
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// `examine` says whether it took the input, and panics where what it took is wrong.
pub(crate) fn run(plan: &Plan, corpus: &[Vec<u8>], mut examine: impl FnMut(&[u8]) -> bool) {
    setrlimit(Resource::RLIMIT_DATA, MEMORY, MEMORY).unwrap();
    let watch = Watch::start(plan.name);
    for input in corpus {
        let taken = watch.over(input, &mut examine);
        assert!(taken, "{}: an honest input was refused: {}", plan.name, hex(input));
    }
    let full = std::env::var("SDREST_TESTS").is_ok_and(|tests| tests == "full");
    let until = full.then(|| Instant::now() + seconds());
    let more = |count| until.map_or(count < MUTATIONS, |until| Instant::now() < until);
    let mut mutator = Mutator::new(plan.name, corpus, plan.dictionary, plan.longest);
    let (mut count, mut taken) = (0_u64, 0_u64);
    while more(count) {
        let input = mutator.input();
        taken += u64::from(watch.over(&input, &mut examine));
        count += 1;
    }
    println!("{}: {count} mutations, {taken} of them taken", plan.name);
    // Where nothing is taken, nothing but the first check was tried.
    assert!(taken > 0, "{}: all of {count} mutations were refused", plan.name);
}

fn seconds() -> Duration {
    let given = std::env::var("SDREST_FUZZ_SECONDS");
    Duration::from_secs(given.map_or(SECONDS, |given| given.parse().unwrap()))
}

/// Looks at the clock while a target runs.
struct Watch {
    name: &'static str,
    current: Arc<Mutex<Current>>,
}

/// The input at work, and since when.
type Current = Option<(Instant, Vec<u8>)>;

impl Watch {
    fn start(name: &'static str) -> Self {
        let watch = Self { name, current: Arc::default() };
        let current = Arc::downgrade(&watch.current);
        std::thread::spawn(move || {
            while let Some(current) = current.upgrade() {
                if let Some((since, input)) = &*current.lock().unwrap()
                    && since.elapsed() > HANG
                {
                    eprintln!("{name}: hangs at {}", hex(input));
                    std::process::abort();
                }
                drop(current);
                std::thread::sleep(Duration::from_millis(500));
            }
        });
        watch
    }

    fn over(&self, input: &[u8], examine: &mut impl FnMut(&[u8]) -> bool) -> bool {
        let (taken, mut fastest) = self.once(input, examine);
        // Another process may have had the processor: an input is slow when it is slow each time.
        for _ in 0..3 {
            if fastest > PATIENCE {
                fastest = fastest.min(self.once(input, examine).1);
            }
        }
        assert!(fastest <= PATIENCE, "{}: {fastest:?} for {}", self.name, hex(input));
        taken
    }

    fn once(&self, input: &[u8], examine: &mut impl FnMut(&[u8]) -> bool) -> (bool, Duration) {
        let begun = Instant::now();
        *self.current.lock().unwrap() = Some((begun, input.to_vec()));
        let taken = catch_unwind(AssertUnwindSafe(|| examine(input)));
        let taken = taken.unwrap_or_else(|_| panic!("{}: fails at {}", self.name, hex(input)));
        *self.current.lock().unwrap() = None;
        (taken, begun.elapsed())
    }
}

fn hex(input: &[u8]) -> String {
    input.iter().fold(String::with_capacity(input.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
