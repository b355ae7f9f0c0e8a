//! The internal user database: names, roles and password records in the state folder. Passwords are hashed and
//! compared in the conversation program; here a record is text that is kept and handed over. Nothing in here can
//! sign anybody in: a `Candidate` goes to a conversation, and what comes back verified is looked up again.

use crate::{
    audit::{learn, unix_now},
    conversation::Candidate,
    durable::{Changes, Durable},
    fault::internal,
    state_dir::{StateDir, StateError},
};
use sdrest_proto::{
    accounts::{UserInfo, UserName},
    authd::UserState,
    bounds::{Username, quote},
    error::{ErrorCode, Fault},
    id::UserId,
    identity::Role,
    secret::Answer,
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, sync::OnceLock};
use zeroize::Zeroizing;

const FILE: &str = "users.json";
/// The shortest password in bytes; the longest is what PAM would take.
const SHORTEST: usize = 8;
/// Records kept: their list fits one frame.
const MOST: usize = 2_000;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Record {
    id: UserId,
    /// argon2id, as a PHC string.
    phc: String,
    role: Role,
    state: UserState,
    created: u64,
    password_changed: u64,
}

type Records = BTreeMap<UserName, Record>;

/// What changes something blocks while it writes.
pub(crate) struct Users {
    records: Durable<UserName, Record>,
    /// Compared with where there is no such user; nothing where nobody signs in with these.
    dummy: OnceLock<Zeroizing<String>>,
}

impl Users {
    pub(crate) fn load(dir: &StateDir) -> Result<Self, StateError> {
        let users = Self { records: Durable::load(dir, FILE)?, dummy: OnceLock::new() };
        users.records.read().keys().for_each(|name| learn(name.as_str()));
        Ok(users)
    }

    /// What unknown names are compared with, once.
    pub(crate) fn set_dummy(&self, phc: Zeroizing<String>) {
        let _ = self.dummy.set(phc);
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        UserName::try_from(name.to_owned())
            .is_ok_and(|name| self.records.read().contains_key(&name))
    }

    /// Whom a login of this name is compared with: a record that may sign in, or the dummy.
    pub(crate) fn candidate(&self, name: &Username) -> Candidate {
        let dummy = || Candidate {
            user: None,
            phc: Zeroizing::new(self.dummy.get().map(|phc| phc.to_string()).unwrap_or_default()),
        };
        let Ok(key) = UserName::try_from(name.as_str().to_owned()) else { return dummy() };
        match self.records.read().get(&key) {
            Some(record) if record.state == UserState::Enabled => Candidate {
                user: Some((record.id, name.clone())),
                phc: Zeroizing::new(record.phc.clone()),
            },
            _ => dummy(),
        }
    }

    /// The user whose password was compared with this record, if both are still the same and it may sign in.
    pub(crate) fn confirm(&self, id: UserId, phc: &Zeroizing<String>) -> Option<UserInfo> {
        let records = self.records.read();
        let (name, record) = records.iter().find(|(_, record)| record.id == id)?;
        let good = record.state == UserState::Enabled && record.phc == **phc;
        good.then(|| info(name, record))
    }

    /// The user as it is now, by the id that subjects carry.
    pub(crate) fn by_id(&self, id: UserId) -> Option<UserInfo> {
        let records = self.records.read();
        records.iter().find(|(_, record)| record.id == id).map(|(name, record)| info(name, record))
    }

    pub(crate) fn named(&self, name: &UserName) -> Result<UserInfo, Fault> {
        self.records.read().get(name).map(|record| info(name, record)).ok_or_else(|| unknown(name))
    }

    pub(crate) fn list(&self) -> Vec<UserInfo> {
        self.records.read().iter().map(|(name, record)| info(name, record)).collect()
    }

    pub(crate) fn add(
        &self,
        name: UserName,
        role: Role,
        phc: &Zeroizing<String>,
    ) -> Result<UserInfo, Fault> {
        self.change(|records, changes| {
            if records.contains_key(&name) {
                let message = format!("`username` {} is taken", quote(name.as_str()));
                return Err(Fault::new(ErrorCode::Conflict, message));
            }
            if records.len() >= MOST {
                let message = format!("at most {MOST} users can be kept, there are {MOST}");
                return Err(Fault::new(ErrorCode::QuotaExceeded, message));
            }
            let now = unix_now();
            let record = Record {
                id: UserId::random(),
                phc: phc.to_string(),
                role,
                state: UserState::Enabled,
                created: now,
                password_changed: now,
            };
            learn(name.as_str());
            let told = info(&name, &record);
            changes.insert(name, Some(record));
            Ok(told)
        })
    }

    pub(crate) fn set_password(
        &self,
        name: &UserName,
        phc: &Zeroizing<String>,
    ) -> Result<UserInfo, Fault> {
        self.amend(name, |record| {
            record.phc = phc.to_string();
            record.password_changed = unix_now();
        })
    }

    pub(crate) fn set_state(&self, name: &UserName, state: UserState) -> Result<UserInfo, Fault> {
        self.amend(name, |record| record.state = state)
    }

    /// Answers the role that was, too.
    pub(crate) fn set_role(&self, name: &UserName, role: Role) -> Result<(Role, UserInfo), Fault> {
        let mut before = role;
        let user = self.amend(name, |record| before = std::mem::replace(&mut record.role, role))?;
        Ok((before, user))
    }

    pub(crate) fn remove(&self, name: &UserName) -> Result<(), Fault> {
        self.change(|records, changes| {
            records.get(name).ok_or_else(|| unknown(name))?;
            changes.insert(name.clone(), None);
            Ok(())
        })
    }

    fn amend(&self, name: &UserName, with: impl FnOnce(&mut Record)) -> Result<UserInfo, Fault> {
        self.change(|records, changes| {
            let mut record = records.get(name).ok_or_else(|| unknown(name))?.clone();
            with(&mut record);
            let told = info(name, &record);
            changes.insert(name.clone(), Some(record));
            Ok(told)
        })
    }

    fn change<T>(
        &self,
        plan: impl FnOnce(&Records, &mut Changes<UserName, Record>) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let done = self.records.change(|records, changes| Ok(plan(records, changes)));
        done.unwrap_or_else(|error: StateError| Err(internal(&error)))
    }
}

/// Whether a new password is long enough and not too long.
pub(crate) fn check_password(password: &Answer) -> Result<(), Fault> {
    let text = password.expose("its length is checked");
    if (SHORTEST..=Answer::MAX_BYTES).contains(&text.len()) && !text.contains('\0') {
        return Ok(());
    }
    let message = format!(
        "`password` must be {SHORTEST} to {} bytes without NUL, got {} bytes",
        Answer::MAX_BYTES,
        text.len()
    );
    Err(Fault::new(ErrorCode::ValidationFailed, message))
}

fn info(name: &UserName, record: &Record) -> UserInfo {
    UserInfo {
        id: record.id,
        username: name.clone(),
        role: record.role,
        state: record.state,
        created: record.created,
        password_changed: record.password_changed,
    }
}

fn unknown(name: &UserName) -> Fault {
    let message = format!("`username` {} is no user here", quote(name.as_str()));
    Fault::new(ErrorCode::NotFound, message)
}

#[cfg(test)]
mod tests;
