//! A table that is in memory as it is on the disk. A change is planned beside the table, written, and only then taken
//! over; so nobody ever sees what a crash could undo, a failed write changes nothing, and who only reads never waits
//! for the disk. Changes wait for each other; make them where blocking is allowed.

use crate::state_dir::{StateDir, StateError};
use serde::{Serialize, Serializer, de::DeserializeOwned};
use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError, RwLock, RwLockReadGuard},
};

/// What is to be different: a new value, or none any more.
pub(crate) type Changes<K, V> = BTreeMap<K, Option<V>>;

pub(crate) struct Durable<K, V> {
    dir: StateDir,
    file: &'static str,
    /// Held from the plan to its end. The table itself is locked for writing only after the disk has answered.
    changing: Mutex<()>,
    table: RwLock<BTreeMap<K, V>>,
}

impl<K, V> Durable<K, V>
where
    K: Ord + Serialize + DeserializeOwned,
    V: Serialize + DeserializeOwned,
{
    pub(crate) fn load(dir: &StateDir, file: &'static str) -> Result<Self, StateError> {
        let table = RwLock::new(dir.read_json(file)?);
        Ok(Self { dir: dir.clone(), file, changing: Mutex::default(), table })
    }

    /// The table as it is on the disk. Not to be held while anything is awaited.
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, BTreeMap<K, V>> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the changes that `plan` asks for; they are on disk when this answers. Nothing asked for, nothing written.
    pub(crate) fn change<T, E: From<StateError>>(
        &self,
        plan: impl FnOnce(&BTreeMap<K, V>, &mut Changes<K, V>) -> Result<T, E>,
    ) -> Result<T, E> {
        let _alone = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changes = Changes::new();
        let answer = plan(&self.read(), &mut changes)?;
        if changes.is_empty() {
            return Ok(answer);
        }
        self.dir.write_json(self.file, &Changed { table: &self.read(), changes: &changes })?;
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        for (key, value) in changes {
            match value {
                Some(value) => table.insert(key, value),
                None => table.remove(&key),
            };
        }
        Ok(answer)
    }
}

/// The table as it will be, without making it.
struct Changed<'a, K, V> {
    table: &'a BTreeMap<K, V>,
    changes: &'a Changes<K, V>,
}

impl<K: Ord + Serialize, V: Serialize> Serialize for Changed<'_, K, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let kept = self.table.iter().filter(|(key, _)| !self.changes.contains_key(*key));
        let new =
            self.changes.iter().filter_map(|(key, value)| value.as_ref().map(|value| (key, value)));
        serializer.collect_map(kept.chain(new))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Table = Durable<u32, String>;

    fn set(table: &Table, key: u32, value: Option<&str>) -> Result<(), StateError> {
        table.change(|_, changes| {
            changes.insert(key, value.map(str::to_owned));
            Ok(())
        })
    }

    #[test]
    fn what_was_changed_is_there_after_a_restart_and_a_failed_write_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        let dir = StateDir::open(&state).unwrap();
        let table = Table::load(&dir, "t.json").unwrap();
        set(&table, 1, Some("one")).unwrap();
        set(&table, 2, Some("two")).unwrap();
        set(&table, 1, Some("won")).unwrap();
        set(&table, 2, None).unwrap();
        let only = BTreeMap::from([(1, "won".to_owned())]);
        assert_eq!(*table.read(), only);
        assert_eq!(*Table::load(&dir, "t.json").unwrap().read(), only);
        std::fs::rename(&state, folder.path().join("away")).unwrap();
        set(&table, 1, None).unwrap_err();
        set(&table, 3, Some("three")).unwrap_err();
        assert_eq!(*table.read(), only, "memory is as the disk is");
        std::fs::rename(folder.path().join("away"), &state).unwrap();
        set(&table, 3, Some("three")).unwrap();
        assert_eq!(Table::load(&dir, "t.json").unwrap().read().len(), 2);
    }

    #[test]
    fn readers_do_not_wait_for_a_disk_that_hangs() {
        let folder = tempfile::tempdir().unwrap();
        let dir = StateDir::open(folder.path()).unwrap();
        let table = Table::load(&dir, "t.json").unwrap();
        set(&table, 1, Some("one")).unwrap();
        // Whoever opens a named pipe to write it waits until somebody reads it.
        let pipe = folder.path().join("t.json.new");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        std::thread::scope(|scope| {
            let (begun, begins) = std::sync::mpsc::channel();
            let table = &table;
            let writer = scope.spawn(move || {
                table.change(|_, changes| {
                    changes.insert(2, Some("two".to_owned()));
                    begun.send(()).unwrap();
                    Ok::<_, StateError>(())
                })
            });
            begins.recv().unwrap();
            for _ in 0..1000 {
                assert_eq!(table.read().len(), 1, "not on the disk, not to be seen");
            }
            std::fs::read(&pipe).unwrap();
            // A pipe cannot be flushed to a disk.
            writer.join().unwrap().unwrap_err();
        });
        assert_eq!(table.read().len(), 1);
    }
}
