//! The subject of a Unix account: `unix:<uid>:<epoch>`. The epoch moves when a uid is first seen under another name
//! than before, so a uid that is given to somebody new does not come with the pictures of the one before.

use crate::{
    audit,
    state_dir::{StateDir, StateError},
};
use sdrest_proto::identity::Subject;
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

const FILE: &str = "subjects.json";

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Seen {
    name: String,
    epoch: u32,
}

pub(crate) struct Subjects {
    dir: StateDir,
    seen: Mutex<BTreeMap<u32, Seen>>,
}

impl Subjects {
    pub(crate) fn load(dir: &StateDir) -> Result<Self, StateError> {
        let seen: BTreeMap<u32, Seen> = dir.read_json(FILE)?;
        seen.values().for_each(|account| audit::learn(&account.name));
        Ok(Self { dir: dir.clone(), seen: Mutex::new(seen) })
    }

    /// The subject for this account now; on disk before it is answered. Blocks for a disk write where the account is
    /// new.
    pub(crate) fn of(&self, uid: u32, name: &str) -> Result<Subject, StateError> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let epoch = match seen.get(&uid) {
            Some(known) if known.name == name => return Ok(Subject::unix(uid, known.epoch)),
            Some(other) => other.epoch.saturating_add(1),
            None => 1,
        };
        let mut changed = seen.clone();
        changed.insert(uid, Seen { name: name.to_owned(), epoch });
        self.dir.write_json(FILE, &changed)?;
        *seen = changed;
        Ok(Subject::unix(uid, epoch))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uid_under_another_name_is_somebody_else_also_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let dir = StateDir::open(folder.path()).unwrap();
        let subjects = Subjects::load(&dir).unwrap();
        assert_eq!(subjects.of(1000, "alice").unwrap(), Subject::unix(1000, 1));
        assert_eq!(subjects.of(1000, "alice").unwrap(), Subject::unix(1000, 1));
        let subjects = Subjects::load(&dir).unwrap();
        assert_eq!(subjects.of(1000, "bob").unwrap(), Subject::unix(1000, 2));
        assert_eq!(subjects.of(1000, "alice").unwrap(), Subject::unix(1000, 3));
        assert_eq!(subjects.of(1001, "alice").unwrap(), Subject::unix(1001, 1));
    }
}
