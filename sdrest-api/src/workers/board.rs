//! What is known of all workers: who is connected, what each is, and the models of all of them merged. It
//! keeps the last known models of a worker that is away, because it comes back.

use sdrest_proto::{
    bounds::ModelName,
    model::ModelInfo,
    worker::{WorkerClient, WorkerDescription},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
};
use tokio::sync::watch;

use crate::workers::connection::Link;

/// One worker as it is known now.
#[derive(Clone, Debug, Default)]
pub(crate) struct Entry {
    /// The socket's file name without its ending: no path.
    pub(crate) name: String,
    pub(crate) client: Option<WorkerClient>,
    pub(crate) description: Option<WorkerDescription>,
    pub(crate) models: Vec<ModelInfo>,
}

/// All workers.
#[derive(Debug)]
pub(crate) struct Board {
    entries: Mutex<Vec<Entry>>,
    changes: watch::Sender<u64>,
}

impl Board {
    pub(crate) fn new(names: Vec<String>) -> Self {
        let entries = names.into_iter().map(|name| Entry { name, ..Entry::default() }).collect();
        Self { entries: Mutex::new(entries), changes: watch::Sender::new(0) }
    }

    fn entries(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, worker: usize, change: impl FnOnce(&mut Entry)) {
        if let Some(entry) = self.entries().get_mut(worker) {
            change(entry);
        }
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }

    pub(crate) fn connected(&self, worker: usize, link: &Link) {
        self.change(worker, |entry| {
            entry.client = Some(link.client.clone());
            entry.description = Some(link.description.clone());
            entry.models.clone_from(&link.models);
        });
    }

    pub(crate) fn disconnected(&self, worker: usize) {
        self.change(worker, |entry| entry.client = None);
    }

    pub(crate) fn set_models(&self, worker: usize, models: Vec<ModelInfo>) {
        self.change(worker, |entry| entry.models = models);
    }

    pub(crate) fn snapshot(&self) -> Vec<Entry> {
        self.entries().clone()
    }

    /// Changes whenever anything here does.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Another number after each change.
    pub(crate) fn version(&self) -> u64 {
        *self.changes.borrow()
    }

    /// The live clients.
    pub(crate) fn clients(&self) -> Vec<(usize, WorkerClient)> {
        let entries = self.entries();
        let live = entries.iter().enumerate();
        live.filter_map(|(worker, entry)| entry.client.clone().map(|client| (worker, client)))
            .collect()
    }

    /// Whether some worker was never reached, so that its models are not known.
    pub(crate) fn has_unknown(&self) -> bool {
        self.entries().iter().any(|entry| entry.description.is_none())
    }

    /// The models of all workers, by name: loaded where one has it loaded, usable where one can use it.
    pub(crate) fn models(&self) -> Vec<ModelInfo> {
        let mut merged: BTreeMap<ModelName, ModelInfo> = BTreeMap::new();
        for model in self.entries().iter().flat_map(|entry| &entry.models) {
            match merged.get_mut(&model.name) {
                None => {
                    merged.insert(model.name.clone(), model.clone());
                }
                Some(known) => {
                    known.loaded |= model.loaded;
                    known.hash = known.hash.take().or_else(|| model.hash.clone());
                    known.fault = known.fault.take().and(model.fault.clone());
                }
            }
        }
        merged.into_values().collect()
    }

    /// The model as this worker has it.
    pub(crate) fn model_of(&self, worker: usize, name: &ModelName) -> Option<ModelInfo> {
        self.entries().get(worker)?.models.iter().find(|model| model.name == *name).cloned()
    }

    /// Models that this worker lacks and another one has, also one that is away: it comes back.
    pub(crate) fn lacking(&self, worker: usize) -> Vec<String> {
        let entries = self.entries();
        let names = |entry: &Entry| -> BTreeSet<String> {
            entry
                .models
                .iter()
                .filter(|model| model.fault.is_none())
                .map(|model| model.name.to_string())
                .collect()
        };
        let own = entries.get(worker).map(names).unwrap_or_default();
        let others = entries.iter().enumerate().filter(|(other, _)| *other != worker);
        let all: BTreeSet<String> = others.flat_map(|(_, entry)| names(entry)).collect();
        all.difference(&own).cloned().collect()
    }

    /// Whether another worker may have a model that this one says it has not: one that was never reached, or one
    /// that came to be known since this one was asked.
    pub(crate) fn may_be_elsewhere(&self, worker: usize, name: &ModelName) -> bool {
        self.has_unknown() || self.lacking(worker).iter().any(|lacked| lacked == name.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(name: &str, loaded: bool, fault: Option<&str>) -> ModelInfo {
        ModelInfo {
            name: ModelName::try_from(name.to_owned()).unwrap(),
            family: "sd-1.x".to_owned(),
            prediction_type: "epsilon".to_owned(),
            default_side: 512,
            vae_scale_factor: 8,
            hash: None,
            loaded,
            fault: fault.map(str::to_owned),
        }
    }

    #[test]
    fn models_of_two_workers_are_merged_by_name() {
        let board = Board::new(vec!["0".to_owned(), "1".to_owned()]);
        board.set_models(0, vec![model("a", false, Some("broken")), model("b", false, None)]);
        board.set_models(1, vec![model("a", true, None)]);
        let merged = board.models();
        assert_eq!(merged.len(), 2);
        assert!(merged[0].loaded);
        assert_eq!(merged[0].fault, None);
        assert!(board.has_unknown());
    }
}
