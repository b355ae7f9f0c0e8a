//! Makes bad inputs out of good ones: flipped bits, inserted and repeated runs, splices of two good inputs, numbers
//! at the edges of their types, and words that the target knows. Everything follows from a seed, so that a run can be
//! repeated; nothing here may ask the clock or the system for randomness.

/// Numbers where length checks and deadlines break.
const NUMBERS: [u64; 20] = [
    0,
    1,
    31,
    32,
    33,
    250,
    251,
    255,
    256,
    4096,
    4097,
    65_535,
    65_536,
    262_144,
    262_145,
    16_777_217,
    u32::MAX as u64,
    i64::MAX as u64,
    u64::MAX - 1,
    u64::MAX,
];

/// SplitMix64 (Steele, Lea and Flood 2014): small, and good enough to choose where to break something.
struct Random(u64);

impl Random {
    /// Seeded from a text by FNV-1a.
    fn of(text: &str) -> Self {
        Self(text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        }))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below `bound`; 0 where there is nothing to choose from.
    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % (bound.max(1) as u64)).unwrap_or(0)
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }
}

/// How many of the inputs that were kept last are the newest.
const NEWEST: usize = 32;

/// An endless row of inputs, the same for the same name, corpus and inputs that were kept.
pub(crate) struct Mutator<'a> {
    random: Random,
    corpus: Vec<Vec<u8>>,
    /// Which of them were taken.
    taken: Vec<usize>,
    dictionary: &'a [&'a str],
    longest: usize,
}

impl<'a> Mutator<'a> {
    /// `longest` is the length that no input exceeds.
    pub(crate) fn new(
        name: &str,
        honest: &[Vec<u8>],
        dictionary: &'a [&'a str],
        longest: usize,
    ) -> Self {
        let (corpus, taken) = (honest.to_vec(), (0..honest.len()).collect());
        Self { random: Random::of(name), corpus, taken, dictionary, longest }
    }

    /// Makes inputs out of this one, too.
    pub(crate) fn keep(&mut self, input: Vec<u8>, taken: bool) {
        if taken {
            self.taken.push(self.corpus.len());
        }
        self.corpus.push(input);
    }

    pub(crate) fn input(&mut self) -> Vec<u8> {
        let at = self.choice();
        let mut input = self.corpus.get(at).cloned().unwrap_or_default();
        // Mostly one change: deep decoders are reached by inputs that are nearly good.
        let changes = 1 + self.random.below(8).saturating_sub(4);
        for _ in 0..changes {
            self.change(&mut input);
        }
        input.truncate(self.longest);
        input
    }

    /// Half of the turns are for what was taken: behind it lies what a refusal never reaches. The newest have half of
    /// the rest.
    fn choice(&mut self) -> usize {
        let all = self.corpus.len();
        match self.random.below(4) {
            0 => self.random.below(all),
            1 => all.saturating_sub(1 + self.random.below(all.min(NEWEST))),
            _ => self.taken[self.random.below(self.taken.len())],
        }
    }

    fn change(&mut self, input: &mut Vec<u8>) {
        match self.random.below(11) {
            0 | 1 => {
                let (at, bit) = (self.random.below(input.len()), self.random.below(8));
                if let Some(byte) = input.get_mut(at) {
                    *byte ^= 1 << bit;
                }
            }
            2 => {
                let (at, new) = (self.random.below(input.len()), self.random.byte());
                if let Some(byte) = input.get_mut(at) {
                    *byte = new;
                }
            }
            3 => {
                let run: Vec<u8> =
                    (0..=self.random.below(16)).map(|_| self.random.byte()).collect();
                self.insert(input, &run);
            }
            4 => {
                let run = self.run_of(input);
                input.drain(run);
            }
            5 => self.repeat(input),
            6 => self.splice(input),
            7 | 8 => {
                let number = self.number();
                self.put(input, &number);
            }
            9 => {
                let at = self.random.below(self.dictionary.len());
                if let Some(word) = self.dictionary.get(at) {
                    self.put(input, word.as_bytes());
                }
            }
            _ => {
                let end = self.random.below(input.len() + 1);
                input.truncate(end);
            }
        }
    }

    fn run_of(&mut self, input: &[u8]) -> std::ops::Range<usize> {
        let start = self.random.below(input.len() + 1);
        let length = self.random.below((input.len() - start).min(64) + 1);
        start..start + length
    }

    fn insert(&mut self, input: &mut Vec<u8>, run: &[u8]) {
        let at = self.random.below(input.len() + 1);
        input.splice(at..at, run.iter().copied());
    }

    /// In between or over what is there.
    fn put(&mut self, input: &mut Vec<u8>, run: &[u8]) {
        if self.random.below(2) == 0 {
            return self.insert(input, run);
        }
        let start = self.random.below(input.len() + 1);
        let end = input.len().min(start + run.len());
        input.splice(start..end, run.iter().copied());
    }

    fn repeat(&mut self, input: &mut Vec<u8>) {
        let range = self.run_of(input);
        let run = input[range].to_vec();
        if run.is_empty() {
            return;
        }
        let most = (self.longest / run.len()).min(512);
        let times = 1 + self.random.below(most);
        self.insert(input, &run.repeat(times));
    }

    /// The beginning of this one and the end of another.
    fn splice(&mut self, input: &mut Vec<u8>) {
        let at = self.random.below(self.corpus.len());
        let Some(other) = self.corpus.get(at) else { return };
        input.truncate(self.random.below(input.len() + 1));
        input.extend_from_slice(&other[self.random.below(other.len() + 1)..]);
    }

    /// A number as decimals, as either order of bytes, or as bincode's varint with its marker.
    fn number(&mut self) -> Vec<u8> {
        let number = NUMBERS[self.random.below(NUMBERS.len())];
        let (little, big) = (number.to_le_bytes(), number.to_be_bytes());
        match self.random.below(7) {
            0 => number.to_string().into_bytes(),
            1 => little[..1].to_vec(),
            2 => [&[251], &little[..2]].concat(),
            3 => [&[252], &little[..4]].concat(),
            4 => [&[253], &little[..]].concat(),
            5 => little[..4].to_vec(),
            _ => big[4..].to_vec(),
        }
    }
}
