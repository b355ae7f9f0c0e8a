//! The subject of a Unix account: `unix:<uid>:<epoch>`. The epoch moves when a uid is first seen under another name
//! than before, so a uid that is given to somebody new does not come with the pictures of the one before.

use crate::{
    audit,
    durable::Durable,
    state_dir::{StateDir, StateError},
};
use sdrest_proto::identity::Subject;
use serde::{Deserialize, Serialize};

const FILE: &str = "subjects.json";

#[derive(Serialize, Deserialize)]
struct Seen {
    name: String,
    epoch: u32,
}

pub(crate) struct Subjects(Durable<u32, Seen>);

impl Subjects {
    pub(crate) fn load(dir: &StateDir) -> Result<Self, StateError> {
        let seen: Durable<u32, Seen> = Durable::load(dir, FILE)?;
        seen.read().values().for_each(|account| audit::learn(&account.name));
        Ok(Self(seen))
    }

    /// The subject for this account now; on disk before it is answered. Blocks for a disk write where the account is
    /// new. Where the uid was somebody else's, `end` takes from that one first: if it fails, nothing has changed and
    /// the next login asks again.
    pub(crate) fn of(
        &self,
        uid: u32,
        name: &str,
        end: impl FnOnce(Subject) -> Result<(), StateError>,
    ) -> Result<Subject, StateError> {
        self.0.change(|seen, changes| {
            let epoch = match seen.get(&uid) {
                Some(known) if known.name == name => return Ok(Subject::unix(uid, known.epoch)),
                Some(other) => {
                    end(Subject::unix(uid, other.epoch))?;
                    other.epoch.saturating_add(1)
                }
                None => 1,
            };
            changes.insert(uid, Some(Seen { name: name.to_owned(), epoch }));
            Ok(Subject::unix(uid, epoch))
        })
    }

    /// Who is known to have this uid.
    pub(crate) fn now(&self, uid: u32) -> Option<Subject> {
        self.0.read().get(&uid).map(|known| Subject::unix(uid, known.epoch))
    }

    /// All that are known under this name.
    pub(crate) fn named(&self, name: &str) -> Vec<Subject> {
        let seen = self.0.read();
        let named = seen.iter().filter(|(_, known)| known.name == name);
        named.map(|(uid, known)| Subject::unix(*uid, known.epoch)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uid_under_another_name_is_somebody_else_also_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let dir = StateDir::open(folder.path()).unwrap();
        let of = |subjects: &Subjects, uid, name| {
            let mut before = None;
            let end = |subject| {
                before = Some(subject);
                Ok(())
            };
            let now = subjects.of(uid, name, end).unwrap();
            (now, before)
        };
        let subjects = Subjects::load(&dir).unwrap();
        assert_eq!(of(&subjects, 1000, "alice"), (Subject::unix(1000, 1), None));
        assert_eq!(of(&subjects, 1000, "alice"), (Subject::unix(1000, 1), None));
        let subjects = Subjects::load(&dir).unwrap();
        let first = Some(Subject::unix(1000, 1));
        assert_eq!(of(&subjects, 1000, "bob"), (Subject::unix(1000, 2), first));
        let second = Some(Subject::unix(1000, 2));
        assert_eq!(of(&subjects, 1000, "alice"), (Subject::unix(1000, 3), second));
        assert_eq!(of(&subjects, 1001, "alice"), (Subject::unix(1001, 1), None));
        assert_eq!(subjects.named("alice"), [Subject::unix(1000, 3), Subject::unix(1001, 1)]);
        assert!(subjects.named("bob").is_empty());
    }
}
