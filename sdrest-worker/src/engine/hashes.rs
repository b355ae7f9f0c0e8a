//! Hashing model files beside the engine: one thread at most, which reads one file after another and tells the
//! engine of each. It is told what to hash and keeps no list of models. The engine looks for more when the thread
//! has said its last word, so that a model that came meanwhile has its turn.

use crate::loaders::hash::{FileIdentity, short_hash};
use sdrest_proto::bounds::ModelName;
use std::{
    collections::HashSet,
    fs::File,
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
};

/// A file to hash: of which registry's model, and in which state it was when it was opened.
pub(super) struct ToHash {
    pub(super) registry: usize,
    pub(super) name: ModelName,
    pub(super) identity: FileIdentity,
    pub(super) file: File,
}

/// A hash that was computed.
pub(super) struct Hashed {
    pub(super) registry: usize,
    pub(super) name: ModelName,
    pub(super) identity: FileIdentity,
    pub(super) hash: String,
}

enum Word {
    Hashed(Hashed),
    /// This file cannot be read.
    Failed(FileIdentity),
    /// The thread ends.
    End,
}

/// See the module.
pub(super) struct Hashes {
    words: (Sender<Word>, Receiver<Word>),
    /// From a thread's start to its last word.
    busy: bool,
    /// Files that are not tried again before somebody asks for it.
    failed: HashSet<FileIdentity>,
    news: Arc<dyn Fn() + Send + Sync>,
}

impl Hashes {
    /// `news` is called, from the thread, when there is something to hear.
    pub(super) fn new(news: Arc<dyn Fn() + Send + Sync>) -> Self {
        Self { words: channel(), busy: false, failed: HashSet::new(), news }
    }

    /// Whether nothing is hashed now, so that `start` would.
    pub(super) fn is_free(&self) -> bool {
        !self.busy
    }

    /// Whether the file was tried in this very state, and cannot be read.
    pub(super) fn has_failed(&self, identity: &FileIdentity) -> bool {
        self.failed.contains(identity)
    }

    /// Forgets what could not be read.
    pub(super) fn forget_failures(&mut self) {
        self.failed.clear();
    }

    /// Begins to hash `files`, if there are any.
    pub(super) fn start(&mut self, files: Vec<ToHash>) {
        if files.is_empty() || self.busy {
            return;
        }
        let (sender, news) = (self.words.0.clone(), Arc::clone(&self.news));
        let started = thread::Builder::new().name("model-hash".to_owned()).spawn(move || {
            let words = files.into_iter().map(hash).chain([Word::End]);
            for word in words {
                // Nobody receives when the engine has ended.
                if sender.send(word).is_err() {
                    return;
                }
                news();
            }
        });
        match started {
            Ok(_) => self.busy = true,
            Err(error) => {
                tracing::warn!(%error, "no thread to hash models on; their hashes stay unknown");
            }
        }
    }

    /// What was hashed since the last call, and whether the thread ended.
    pub(super) fn hear(&mut self) -> (Vec<Hashed>, bool) {
        let (mut hashed, mut ended) = (Vec::new(), false);
        while let Ok(word) = self.words.1.try_recv() {
            match word {
                Word::Hashed(one) => hashed.push(one),
                Word::Failed(identity) => {
                    self.failed.insert(identity);
                }
                Word::End => {
                    self.busy = false;
                    ended = true;
                }
            }
        }
        (hashed, ended)
    }
}

fn hash(to_hash: ToHash) -> Word {
    let ToHash { registry, name, identity, mut file } = to_hash;
    match short_hash(name.as_str(), &mut file) {
        Ok(hash) => Word::Hashed(Hashed { registry, name, identity, hash }),
        Err(error) => {
            tracing::warn!(model = %name, %error, "cannot be hashed");
            Word::Failed(identity)
        }
    }
}
