//! The keys on disk: only the SHA-256 of each whole key, its owner, scopes and times. A revoked key stays listed as
//! revoked until it would have expired, so that its holder is told so. Blocks while it writes.

use crate::state_dir::{StateDir, StateError};
use sdrest_proto::{
    api_key::{KeyInfo, KeyName, Scopes},
    id::KeyId,
    identity::Subject,
    secret::ApiKey,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};
use subtle::ConstantTimeEq;

const FILE: &str = "api-keys.json";
/// Live keys of one subject.
pub(super) const MOST_OF_ONE: usize = 100;
/// Keys in all, the revoked ones included.
const MOST: usize = 20_000;

/// Bytes of one list, and of one entry without its texts: a frame holds 256 KiB.
const LIST: usize = 200 * 1024;
const FIXED: usize = 96;

/// One key, without the key.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Record {
    hash: [u8; 32],
    pub(super) name: KeyName,
    pub(super) owner: Subject,
    pub(super) username: String,
    /// For system accounts.
    pub(super) uid: Option<u32>,
    pub(super) scopes: Scopes,
    pub(super) created: u64,
    pub(super) expires: u64,
    pub(super) last_used: Option<u64>,
    pub(super) revoked: bool,
}

/// What a key is made with.
pub(super) struct NewRecord {
    pub(super) name: KeyName,
    pub(super) owner: Subject,
    pub(super) username: String,
    pub(super) uid: Option<u32>,
    pub(super) scopes: Scopes,
    pub(super) created: u64,
    pub(super) expires: u64,
}

impl Record {
    pub(super) fn info(&self, id: KeyId) -> KeyInfo {
        KeyInfo {
            id,
            name: self.name.clone(),
            owner: self.owner.clone(),
            username: self.username.clone(),
            scopes: self.scopes.clone(),
            created: self.created,
            expires: self.expires,
            last_used: self.last_used,
        }
    }

    fn live(&self, now: u64) -> bool {
        !self.revoked && self.expires > now
    }
}

type Records = BTreeMap<KeyId, Record>;

pub(super) struct Store {
    dir: StateDir,
    records: Mutex<Records>,
    /// Whether a key was used since the last write.
    used: AtomicBool,
}

/// Why a key was not added.
#[derive(Debug, thiserror::Error)]
pub(super) enum AddError {
    #[error("at most {MOST_OF_ONE} keys of one owner can be kept")]
    OwnersShare,
    #[error("at most {MOST} keys can be kept")]
    Full,
    #[error(transparent)]
    State(#[from] StateError),
}

fn hash(key: &ApiKey) -> [u8; 32] {
    Sha256::digest(key.expose("hashed").as_bytes()).into()
}

impl Store {
    pub(super) fn load(dir: &StateDir) -> Result<Self, StateError> {
        let records = Mutex::new(dir.read_json(FILE)?);
        Ok(Self { dir: dir.clone(), records, used: AtomicBool::new(false) })
    }

    fn lock(&self) -> MutexGuard<'_, Records> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the changed records and only then believes them.
    fn commit(&self, records: &mut Records, changed: Records) -> Result<(), StateError> {
        self.dir.write_json(FILE, &changed)?;
        *records = changed;
        Ok(())
    }

    pub(super) fn add(&self, id: KeyId, key: &ApiKey, new: NewRecord) -> Result<(), AddError> {
        let mut records = self.lock();
        let mut changed = records.clone();
        changed.retain(|_, record| record.expires.saturating_add(24 * 3600) > new.created);
        let own = |record: &Record| record.owner == new.owner;
        if changed.values().filter(|record| own(record) && record.live(new.created)).count()
            >= MOST_OF_ONE
        {
            return Err(AddError::OwnersShare);
        }
        // Who makes and revokes for ever must not fill the file: the own oldest revoked one is forgotten.
        let mut over: Vec<(u64, KeyId)> = changed
            .iter()
            .filter(|(_, record)| own(record) && record.revoked)
            .map(|(id, record)| (record.created, *id))
            .collect();
        over.sort_unstable_by_key(|(created, _)| *created);
        for (_, id) in over.iter().take(over.len().saturating_sub(MOST_OF_ONE - 1)) {
            changed.remove(id);
        }
        if changed.len() >= MOST {
            return Err(AddError::Full);
        }
        let record = Record {
            hash: hash(key),
            name: new.name,
            owner: new.owner,
            username: new.username,
            uid: new.uid,
            scopes: new.scopes,
            created: new.created,
            expires: new.expires,
            last_used: None,
            revoked: false,
        };
        changed.insert(id, record);
        Ok(self.commit(&mut records, changed)?)
    }

    /// The record of exactly this key.
    pub(super) fn find(&self, id: KeyId, key: &ApiKey) -> Option<Record> {
        let record = self.lock().get(&id).cloned()?;
        bool::from(record.hash.ct_eq(&hash(key))).then_some(record)
    }

    /// The record of this id, while it is live.
    pub(super) fn live(&self, id: KeyId, now: u64) -> Option<Record> {
        self.lock().get(&id).filter(|record| record.live(now)).cloned()
    }

    /// Live keys, the newest first, as many as fit one frame.
    pub(super) fn list(&self, whose: Option<&Subject>, now: u64) -> Vec<KeyInfo> {
        let records = self.lock();
        let mut shown: Vec<(&KeyId, &Record)> = records
            .iter()
            .filter(|(_, record)| {
                record.live(now) && whose.is_none_or(|subject| record.owner == *subject)
            })
            .collect();
        shown.sort_by_key(|(_, record)| std::cmp::Reverse(record.created));
        let mut room = LIST;
        let fit = shown.iter().take_while(|(_, record)| {
            let size = FIXED
                + record.name.as_str().len()
                + record.username.len()
                + record.owner.as_str().len();
            room = room.saturating_sub(size);
            room > 0
        });
        fit.map(|(id, record)| record.info(**id)).collect()
    }

    pub(super) fn revoke(&self, id: KeyId) -> Result<(), StateError> {
        let mut records = self.lock();
        let mut changed = records.clone();
        if let Some(record) = changed.get_mut(&id) {
            record.revoked = true;
        }
        self.commit(&mut records, changed)
    }

    /// Forgets all keys of somebody who is gone; answers which.
    pub(super) fn remove_of(&self, owner: &Subject) -> Result<Vec<KeyId>, StateError> {
        let mut records = self.lock();
        let mut changed = records.clone();
        let gone = changed.iter().filter(|(_, record)| record.owner == *owner);
        let gone: Vec<KeyId> = gone.map(|(id, _)| *id).collect();
        changed.retain(|_, record| record.owner != *owner);
        self.commit(&mut records, changed)?;
        Ok(gone)
    }

    /// Notes a use, to the minute; on disk at the next `save`. Whether it was the first.
    pub(super) fn touch(&self, id: KeyId, now: u64) -> bool {
        let minute = now - now % 60;
        let mut records = self.lock();
        let Some(record) = records.get_mut(&id) else { return false };
        if record.last_used == Some(minute) {
            return false;
        }
        self.used.store(true, Ordering::Release);
        record.last_used.replace(minute).is_none()
    }

    /// Writes the times of use if there are new ones, and forgets what has expired a day ago.
    pub(super) fn save(&self, now: u64) -> Result<(), StateError> {
        let over = |record: &Record| record.expires.saturating_add(24 * 3600) <= now;
        let mut records = self.lock();
        let used = self.used.swap(false, Ordering::AcqRel);
        if !used && !records.values().any(over) {
            return Ok(());
        }
        let mut changed = records.clone();
        changed.retain(|_, record| !over(record));
        self.commit(&mut records, changed).inspect_err(|_| self.used.store(true, Ordering::Release))
    }
}

#[cfg(test)]
mod tests;
