//! The keys on disk: only the SHA-256 of each whole key, its owner, scopes and times. A revoked key stays listed as
//! revoked until it would have expired, so that its holder is told so. What changes something blocks while it writes;
//! finding and noting a use do not.

use crate::{
    durable::Durable,
    state_dir::{StateDir, StateError},
};
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
    sync::{Mutex, MutexGuard, PoisonError},
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
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) hash: [u8; 32],
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

pub(super) struct Store {
    records: Durable<KeyId, Record>,
    /// Uses that are not on disk yet.
    used: Mutex<BTreeMap<KeyId, u64>>,
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

pub(super) fn hash(key: &ApiKey) -> [u8; 32] {
    Sha256::digest(key.expose("hashed").as_bytes()).into()
}

impl Store {
    pub(super) fn load(dir: &StateDir) -> Result<Self, StateError> {
        Ok(Self { records: Durable::load(dir, FILE)?, used: Mutex::default() })
    }

    fn used(&self) -> MutexGuard<'_, BTreeMap<KeyId, u64>> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn add(&self, id: KeyId, new: Record) -> Result<(), AddError> {
        self.records.change(|records, changes| {
            let own = || records.iter().filter(|(_, record)| record.owner == new.owner);
            if own().filter(|(_, record)| record.live(new.created)).count() >= MOST_OF_ONE {
                return Err(AddError::OwnersShare);
            }
            // Who makes and revokes for ever must not fill the file: the own oldest revoked one is forgotten.
            let revoked = own().filter(|(_, record)| record.revoked);
            let mut over: Vec<(u64, KeyId)> =
                revoked.map(|(id, record)| (record.created, *id)).collect();
            over.sort_unstable_by_key(|(created, _)| *created);
            let over_share = over.len().saturating_sub(MOST_OF_ONE - 1);
            changes.extend(over.into_iter().take(over_share).map(|(_, id)| (id, None)));
            if records.len() - changes.len() >= MOST {
                return Err(AddError::Full);
            }
            changes.insert(id, Some(new));
            Ok(())
        })
    }

    /// The record of exactly this key.
    pub(super) fn find(&self, id: KeyId, key: &ApiKey) -> Option<Record> {
        let record = self.records.read().get(&id).cloned()?;
        bool::from(record.hash.ct_eq(&hash(key))).then_some(record)
    }

    /// The record of this id, while it is live.
    pub(super) fn live(&self, id: KeyId, now: u64) -> Option<Record> {
        self.records.read().get(&id).filter(|record| record.live(now)).cloned()
    }

    /// Live keys, the newest first, as many as fit one frame.
    pub(super) fn list(&self, whose: Option<&Subject>, now: u64) -> Vec<KeyInfo> {
        let records = self.records.read();
        let mut shown: Vec<(&KeyId, &Record)> = records
            .iter()
            .filter(|(_, record)| {
                record.live(now) && whose.is_none_or(|subject| record.owner == *subject)
            })
            .collect();
        shown.sort_by_key(|(_, record)| std::cmp::Reverse(record.created));
        let mut room = LIST;
        let fit = shown.into_iter().take_while(|(_, record)| {
            let size = FIXED
                + record.name.as_str().len()
                + record.username.len()
                + record.owner.as_str().len();
            room = room.saturating_sub(size);
            room > 0
        });
        let used = self.used();
        let last_used = |id: &KeyId, record: &Record| used.get(id).copied().or(record.last_used);
        fit.map(|(id, record)| KeyInfo { last_used: last_used(id, record), ..record.info(*id) })
            .collect()
    }

    pub(super) fn revoke(&self, id: KeyId) -> Result<(), StateError> {
        self.records.change(|records, changes| {
            if let Some(record) = records.get(&id) {
                changes.insert(id, Some(Record { revoked: true, ..record.clone() }));
            }
            Ok(())
        })
    }

    /// Forgets all keys of somebody who is gone; answers which.
    pub(super) fn remove_of(&self, owner: &Subject) -> Result<Vec<KeyId>, StateError> {
        self.records.change(|records, changes| {
            let gone = records.iter().filter(|(_, record)| record.owner == *owner);
            changes.extend(gone.map(|(id, _)| (*id, None)));
            Ok(changes.keys().copied().collect())
        })
    }

    /// Notes a use, to the minute; on disk at the next `save`. Whether it was the first.
    pub(super) fn touch(&self, id: KeyId, now: u64) -> bool {
        let minute = now - now % 60;
        let Some(before) = self.records.read().get(&id).map(|record| record.last_used) else {
            return false;
        };
        if before == Some(minute) {
            return false;
        }
        self.used().insert(id, minute).or(before).is_none()
    }

    /// Writes the times of use if there are new ones, and forgets what has expired a day ago if the clock is sure.
    pub(super) fn save(&self, now: u64, sure: bool) -> Result<(), StateError> {
        let used = self.used().clone();
        self.records.change(|records, changes| {
            for (id, record) in records {
                if sure && record.expires.saturating_add(24 * 3600) <= now {
                    changes.insert(*id, None);
                } else if let Some(minute) = used.get(id) {
                    changes
                        .insert(*id, Some(Record { last_used: Some(*minute), ..record.clone() }));
                }
            }
            Ok::<_, StateError>(())
        })?;
        // What was used again meanwhile is for the next time.
        self.used().retain(|id, minute| used.get(id) != Some(minute));
        Ok(())
    }
}

#[cfg(test)]
mod tests;
