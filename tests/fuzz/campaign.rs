//! Runs one target over its corpus and then over mutations of it, for 30 seconds, or with `SDREST_TESTS=full` for 600;
//! `SDREST_FUZZ_SECONDS` says another number. A panic, an input that takes over a second, and an input after which
//! nothing happens for a minute are failures, each with the input in hex. Memory is bounded for the whole process: a
//! decoder that believes a length and sets aside what it says ends it.
//!
//! A campaign follows from its target's name and a seed: always the same one in the CI size, another one each time in
//! the full size, and in both `SDREST_FUZZ_SEED` where it is given. Each campaign prints the seed that it had.
//!
//! In a binary built by guided.py, inputs that reach something new are kept and changed further, and the smallest that
//! do so are written to `SDREST_FUZZ_FOUND`. libFuzzer itself is not used: with cargo it takes a nightly compiler.

use super::{
    guide::{Counting, Guide},
    mutation::Mutator,
};
use nix::sys::{
    resource::{Resource, UsageWho, getrusage, setrlimit},
    time::TimeValLike,
};
use std::{
    fmt::Write,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// How long each target runs, in the CI size and in the full one.
const SECONDS: [u64; 2] = [30, 600];
const SEED: u64 = 1;
/// A campaign that has not had its time after this many times as long would say little, and says that.
const BUSY: u32 = 20;
/// Inputs that a guided campaign writes are at most this long, in bytes, and at most this many.
const SMALL: usize = 1024;
const FEW: usize = 30;
/// The fewest inputs for each second of a campaign that mostly waits.
const LEAST: u64 = 50;
/// The longest time for one input.
const PATIENCE: Duration = Duration::from_secs(1);
/// The watch looks this often, and an input that it finds at work so many times in a row hangs. Time that the whole
/// process stood still does not count.
const LOOK: Duration = Duration::from_millis(500);
const LOOKS: u32 = 120;
/// Private memory of the whole process: many times the largest frame, little beside what a length can say.
const MEMORY: u64 = 1024 * 1024 * 1024;

/// What the seconds of a campaign are seconds of.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Clock {
    /// Of the processor, in the thread of the campaign: a busy machine makes it last longer, and no smaller. For
    /// targets that do all their work in this thread.
    Processor,
    /// Of the clock on the wall, and a least number of inputs. For targets that wait for threads of the server and for
    /// answers that come late on purpose: hours could pass before such a thread has used seconds of the processor.
    Wall,
}

/// What is known of a target before it runs.
pub(crate) struct Plan {
    /// Names the folder of its corpus, and seeds its mutations.
    pub(crate) name: &'static str,
    /// Words that its grammar has.
    pub(crate) dictionary: &'static [&'static str],
    /// The longest input.
    pub(crate) longest: usize,
    pub(crate) clock: Clock,
}

/// What the mutations of one target begin with.
pub(crate) struct Corpus {
    /// Inputs that must be taken.
    pub(crate) honest: Vec<Vec<u8>>,
    /// Inputs that reached something new once.
    pub(crate) found: Vec<Vec<u8>>,
}

impl Corpus {
    /// The files of one target, by name. Those that guided.py found are called `found-…`.
    pub(crate) fn read(folder: &Path) -> Self {
        let entries =
            std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
        let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        let (found, honest): (Vec<PathBuf>, Vec<PathBuf>) = paths.into_iter().partition(|path| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("found-"))
        });
        assert!(!honest.is_empty(), "{folder:?} holds nothing honest");
        let read = |paths: Vec<PathBuf>| {
            paths.iter().map(|path| std::fs::read(path).unwrap()).collect::<Vec<_>>()
        };
        Self { honest: read(honest), found: read(found) }
    }
}

/// `examine` says whether it took the input, and panics where what it took is wrong.
pub(crate) fn run(plan: &Plan, corpus: &Corpus, mut examine: impl FnMut(&[u8]) -> bool) {
    setrlimit(Resource::RLIMIT_DATA, MEMORY, MEMORY).unwrap();
    let watch = Watch::start(plan.name);
    let seed = seed();
    let name = format!("{} {seed}", plan.name);
    let mut mutator = Mutator::new(&name, &corpus.honest, plan.dictionary, plan.longest);
    let mut search = Search::start(plan);
    for input in &corpus.honest {
        let (taken, _) = search.over(input, || watch.over(input, &mut examine));
        assert!(taken, "{}: an honest input was refused: {}", plan.name, hex(input));
    }
    for input in &corpus.found {
        let (taken, _) = search.over(input, || watch.over(input, &mut examine));
        mutator.keep(input.clone(), taken);
    }
    let budget = Budget::start(plan.clock);
    let (mut count, mut taken) = (0_u64, 0_u64);
    while budget.lasts(plan.name, count) {
        let input = mutator.input();
        let (took, new) = search.over(&input, || watch.over(&input, &mut examine));
        if new {
            mutator.keep(input, took);
        }
        taken += u64::from(took);
        count += 1;
    }
    println!(
        "fuzz: {}: seed {seed}, {count} mutations, {taken} taken, {}",
        plan.name,
        budget.spent(count)
    );
    search.finish(|input| {
        watch.over(input, &mut examine);
    });
    // Where nothing is taken, nothing but the first check was tried.
    assert!(taken > 0, "{}: all of {count} mutations were refused", plan.name);
}

fn full() -> bool {
    std::env::var("SDREST_TESTS").is_ok_and(|tests| tests == "full")
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a whole number, not {text:?}")))
}

fn seed() -> u64 {
    let drawn = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    number("SDREST_FUZZ_SEED").unwrap_or_else(|| if full() { drawn() } else { SEED })
}

/// What a guided campaign finds.
struct Search {
    name: &'static str,
    guide: Option<Guide>,
    kept: Vec<Vec<u8>>,
}

impl Search {
    fn start(plan: &Plan) -> Self {
        // How often the threads of a server do something is not the input's doing.
        let counting = match plan.clock {
            Clock::Processor => Counting::Times,
            Clock::Wall => Counting::Branches,
        };
        Self { name: plan.name, guide: Guide::find(counting), kept: Vec::new() }
    }

    /// Runs one input; whether it was taken, and whether it reached something new.
    fn over(&mut self, input: &[u8], run: impl FnOnce() -> bool) -> (bool, bool) {
        let Some(guide) = &mut self.guide else { return (run(), false) };
        guide.look();
        let taken = run();
        let new = guide.news() > 0;
        if new {
            self.kept.push(input.to_vec());
        }
        (taken, new)
    }

    /// Writes the few small inputs that reach nearly all that was reached, the shortest ones first.
    fn finish(mut self, mut examine: impl FnMut(&[u8])) {
        let Some(mut guide) = self.guide.take() else { return };
        let (reached, all) = guide.branches();
        println!(
            "fuzz: {}: {reached} of {all} branches, {} inputs kept",
            self.name,
            self.kept.len()
        );
        let Some(folder) = std::env::var_os("SDREST_FUZZ_FOUND") else { return };
        let folder = PathBuf::from(folder).join(self.name);
        std::fs::create_dir_all(&folder).unwrap();
        guide.forget();
        self.kept.sort_by_key(Vec::len);
        let small = self.kept.iter().filter(|input| input.len() <= SMALL);
        let mut telling: Vec<(usize, &Vec<u8>)> = small
            .map(|input| {
                guide.look();
                examine(input);
                (guide.news(), input)
            })
            .filter(|(news, _)| *news > 0)
            .collect();
        telling.sort_by_key(|(news, _)| std::cmp::Reverse(*news));
        for (number, (_, input)) in telling.iter().take(FEW).enumerate() {
            std::fs::write(folder.join(format!("found-{number:02}")), input).unwrap();
        }
    }
}

/// The time of one campaign.
struct Budget {
    clock: Clock,
    seconds: u64,
    begun: Instant,
    used_before: Duration,
}

impl Budget {
    fn start(clock: Clock) -> Self {
        let usual = SECONDS[usize::from(full())];
        let seconds = number("SDREST_FUZZ_SECONDS").unwrap_or(usual);
        Self { clock, seconds, begun: Instant::now(), used_before: processor() }
    }

    fn used(&self) -> Duration {
        processor() - self.used_before
    }

    fn lasts(&self, name: &str, count: u64) -> bool {
        let (whole, wall) = (Duration::from_secs(self.seconds), self.begun.elapsed());
        let over = match self.clock {
            Clock::Processor => self.used() >= whole,
            Clock::Wall => wall >= whole && count >= self.seconds * LEAST,
        };
        let limit = whole * BUSY + LOOK * LOOKS;
        assert!(over || wall < limit, "{name}: the machine is too busy: {}", self.spent(count));
        !over
    }

    fn spent(&self, count: u64) -> String {
        let (used, wall) = (self.used().as_secs_f64(), self.begun.elapsed().as_secs_f64());
        let clock = if self.clock == Clock::Wall { wall } else { used };
        let rate = count as f64 / clock.max(0.001);
        format!("{used:.1} s of the processor in {wall:.1} s, {rate:.0} a second")
    }
}

/// What this thread has used of the processor: what CLOCK_THREAD_CPUTIME_ID says, to the microsecond.
fn processor() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_THREAD).unwrap();
    let used = usage.user_time() + usage.system_time();
    Duration::from_micros(used.num_microseconds().try_into().unwrap())
}

/// Looks at the clock while a target runs.
struct Watch {
    name: &'static str,
    current: Arc<Mutex<Current>>,
}

/// The input at work, and how often it was found there.
type Current = Option<(u32, Vec<u8>)>;

impl Watch {
    fn start(name: &'static str) -> Self {
        let watch = Self { name, current: Arc::default() };
        let current = Arc::downgrade(&watch.current);
        std::thread::spawn(move || {
            while let Some(current) = current.upgrade() {
                if let Some((found, input)) = &mut *current.lock().unwrap() {
                    *found += 1;
                    if *found > LOOKS {
                        eprintln!("{name}: hangs at {}", hex(input));
                        std::process::abort();
                    }
                }
                drop(current);
                std::thread::sleep(LOOK);
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
        *self.current.lock().unwrap() = Some((0, input.to_vec()));
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
