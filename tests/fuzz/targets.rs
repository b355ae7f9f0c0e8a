//! The table of targets: each is a test of its own, by its name.

use super::{
    campaign::{self, Clock, Corpus, Plan},
    rpc, talk, values,
};
use std::path::{Path, PathBuf};

/// Names that decoders of texts look for.
const WORDS: &[&str] = &[
    "unix:",
    "internal:",
    "oidc:",
    "proxy:",
    "guest",
    "anonymous",
    "admin",
    "root",
    "sdr_",
    "..",
    "/",
    "\0",
    "\u{1b}[2J",
    "\u{85}",
    "\u{202e}",
    "ä",
    "\u{10ffff}",
    "null",
    "\"",
    "\\u0000",
    "\\ud800",
    "[[[[",
    "{\"",
    "1e999",
    "-1",
    "NaN",
    "generate",
    "keys_any",
    "KeysOwn",
];
/// A frame of authd is at most 256 KiB, and a quarter of that holds every list that the seeds repeat.
const FRAME: usize = 64 * 1024;

pub(crate) fn corpus_folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target)
}

fn run(name: &'static str, check: fn(&[u8]) -> bool) {
    let plan = Plan { name, dictionary: WORDS, longest: FRAME, clock: Clock::Processor };
    campaign::run(&plan, &Corpus::read(&corpus_folder(name)), check);
}

macro_rules! targets {
    ($($name:ident => $check:path,)*) => {
        $(#[test]
        fn $name() {
            run(stringify!($name), $check);
        })*

        /// A folder of the corpus that no target reads, or a seed for nobody, would go unnoticed.
        #[test]
        fn every_folder_of_the_corpus_has_its_target() {
            let names = [$(stringify!($name)),*];
            for entry in std::fs::read_dir(corpus_folder("")).unwrap() {
                let name = entry.unwrap().file_name().into_string().unwrap();
                assert!(names.contains(&name.as_str()), "{name}");
            }
        }
    };
}

targets! {
    // What authd decodes.
    authd_request => rpc::authd_request,
    authd_admin_request => rpc::authd_admin_request,
    authd_connection => rpc::authd_connection,
    conversation_says => talk::conversation_says,
    conversation_stream => talk::conversation_stream,
    // What api decodes.
    authd_answer => rpc::authd_answer,
    worker_answer => rpc::worker_answer,
    // What the others decode.
    authd_admin_answer => rpc::authd_admin_answer,
    worker_request => rpc::worker_request,
    authd_says => talk::authd_says,
    authd_stream => talk::authd_stream,
    // The values inside.
    api_key => values::api_key,
    names => values::names,
    values_json => values::json,
    values_bincode => values::bincode,
}
