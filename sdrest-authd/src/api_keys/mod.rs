//! API keys: made for who has just signed in, or by an administrator; checked against their owner's account as it is
//! now. No key can make a key. What the front end was told counts until the revocation version moves, so everything
//! here that takes something away moves it.

mod store;

use crate::{
    audit::{self, unix_now},
    conversation::denied,
    fault::internal,
    random,
    standing::{Owner, Standing, Standings, internal_id},
    state_dir::{StateDir, StateError},
    tokens::{How, TokenIssuer},
};
use sdrest_proto::{
    api_key::{DEFAULT_DAYS, KeyHolder, KeyInfo, MAX_DAYS, MadeKey, NewKey, Scopes},
    authd::{Claims, Whose},
    conversation::Denial,
    error::{ErrorCode, Fault},
    id::{KeyId, RequestId},
    identity::{Permission, Role, Subject},
    secret::{ApiKey, BearerToken},
};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use store::{AddError, Record, Store};

/// How old a login may be that makes a key or acts on others' keys, in seconds.
const FRESH: u64 = 300;
/// How long an account that was found good, and one that was not, is believed.
const GOOD: Duration = Duration::from_secs(300);
const BAD: Duration = Duration::from_secs(30);
/// Accounts remembered; beyond, all are asked again.
const REMEMBERED: usize = 10_000;

/// Whom a key is made for.
pub(crate) struct KeyOwner {
    pub(crate) subject: Subject,
    pub(crate) username: String,
    pub(crate) uid: Option<u32>,
    pub(crate) role: Role,
}

/// What became of an account, and when that was.
type Seen = (Instant, Result<Role, Fault>);

pub(crate) struct ApiKeys {
    store: Store,
    tokens: Arc<TokenIssuer>,
    standings: Arc<Standings>,
    seen: Mutex<HashMap<Subject, Seen>>,
}

impl ApiKeys {
    pub(crate) fn load(
        dir: &StateDir,
        tokens: Arc<TokenIssuer>,
        standings: Arc<Standings>,
    ) -> Result<Self, StateError> {
        Ok(Self { store: Store::load(dir)?, tokens, standings, seen: Mutex::default() })
    }

    /// Makes a key for the owner of a token that is fresh enough.
    pub(crate) fn make(
        &self,
        token: &BearerToken,
        new: NewKey,
        request: &RequestId,
    ) -> Result<MadeKey, Fault> {
        let claims = self.tokens.introspect(token)?;
        if claims.amr.iter().any(|how| how == How::Peer.as_str()) {
            return Err(forbidden("a login by the kernel's word cannot make keys"));
        }
        let role = role(&claims);
        if !role.may(Permission::KeysOwn) {
            return Err(forbidden("the role lacks the permission keys_own"));
        }
        needs_a_fresh_login(&claims)?;
        let owner = KeyOwner { subject: claims.sub, username: claims.name, uid: claims.uid, role };
        let made = self.make_for(&owner, new)?;
        audit::key_made(Some(request), made.info.id, owner.subject.as_str(), "owner");
        Ok(made)
    }

    /// Makes a key without asking who wants it: for administrators.
    pub(crate) fn make_for(&self, owner: &KeyOwner, new: NewKey) -> Result<MadeKey, Fault> {
        let all = Scopes::all(owner.role);
        let scopes = new.scopes.unwrap_or_else(|| all.clone());
        if let Some(over) = scopes.iter().find(|scope| !all.contains(*scope)) {
            let message = format!(
                "`scopes` must be permissions of the role {}, got {}",
                owner.role.as_str(),
                over.as_str()
            );
            return Err(Fault::new(ErrorCode::ValidationFailed, message));
        }
        let days = new.expires_in_days.unwrap_or(DEFAULT_DAYS);
        if !(1..=MAX_DAYS).contains(&days) {
            let message = format!("`expires_in_days` must be between 1 and {MAX_DAYS}, got {days}");
            return Err(Fault::new(ErrorCode::ValidationFailed, message));
        }
        let id = KeyId::random();
        let random = random::bytes().map_err(|error| internal(&error))?;
        let secret = random.first_chunk().ok_or_else(|| internal(&"too few random bytes"))?;
        let key = ApiKey::compose(id, secret);
        let created = unix_now();
        let record = Record {
            hash: store::hash(&key),
            name: new.name,
            owner: owner.subject.clone(),
            username: owner.username.clone(),
            uid: owner.uid,
            scopes,
            created,
            expires: created + u64::from(days) * 24 * 3600,
            last_used: None,
            revoked: false,
        };
        let info = record.info(id);
        self.store.add(id, record).map_err(|error| match error {
            AddError::OwnersShare | AddError::Full => {
                Fault::new(ErrorCode::QuotaExceeded, error.to_string())
            }
            AddError::State(error) => internal(&error),
        })?;
        Ok(MadeKey { key, info })
    }

    pub(crate) fn list(&self, token: &BearerToken, whose: Whose) -> Result<Vec<KeyInfo>, Fault> {
        let claims = self.tokens.introspect(token)?;
        match whose {
            Whose::Own => Ok(self.store.list(Some(&claims.sub), unix_now())),
            Whose::Everybodys if role(&claims).may(Permission::KeysAny) => Ok(self.list_all()),
            Whose::Everybodys => Err(forbidden("the role lacks the permission keys_any")),
        }
    }

    pub(crate) fn list_all(&self) -> Vec<KeyInfo> {
        self.store.list(None, unix_now())
    }

    /// Revokes a key of the token's owner, or anybody's for who may; others' keys look like none.
    pub(crate) fn revoke(
        &self,
        token: &BearerToken,
        id: KeyId,
        request: &RequestId,
    ) -> Result<(), Fault> {
        let claims = self.tokens.introspect(token)?;
        let record = self.store.live(id, unix_now()).ok_or_else(not_found)?;
        if record.owner != claims.sub {
            if !role(&claims).may(Permission::KeysAny) {
                return Err(not_found());
            }
            needs_a_fresh_login(&claims)?;
        }
        self.take_away(id)?;
        audit::key_revoked(Some(request), id, record.owner.as_str(), claims.sub.as_str());
        Ok(())
    }

    /// Revokes a key without asking who wants it: for administrators.
    pub(crate) fn revoke_any(&self, id: KeyId) -> Result<(), Fault> {
        let record = self.store.live(id, unix_now()).ok_or_else(not_found)?;
        self.take_away(id)?;
        audit::key_revoked(None, id, record.owner.as_str(), "administrator");
        Ok(())
    }

    fn take_away(&self, id: KeyId) -> Result<(), Fault> {
        self.store.revoke(id).map_err(|error| internal(&error))?;
        self.tokens.moved();
        Ok(())
    }

    /// Takes away all keys of somebody whose record is gone.
    pub(crate) fn remove_of(&self, owner: &Subject) -> Result<(), Fault> {
        let gone = self.store.remove_of(owner).map_err(|error| internal(&error))?;
        self.account_changed(owner);
        for id in gone {
            audit::key_revoked(None, id, owner.as_str(), "administrator");
        }
        Ok(())
    }

    /// What was remembered of this account counts no more, here and in the front end.
    pub(crate) fn account_changed(&self, owner: &Subject) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).remove(owner);
        self.tokens.moved();
    }

    /// Who acts with this key, while key and account are good.
    pub(crate) async fn check(
        &self,
        key: &ApiKey,
        request: &RequestId,
    ) -> Result<KeyHolder, Fault> {
        let invalid = || Fault::new(ErrorCode::TokenInvalid, "the API key is not valid");
        let id = key.id().ok_or_else(invalid)?;
        let record = self.store.find(id, key).ok_or_else(invalid)?;
        let refused = |code, message: &str| {
            audit::key_refused(request, id, message);
            Fault::new(code, message)
        };
        let now = unix_now();
        if record.revoked {
            return Err(refused(ErrorCode::TokenRevoked, "the API key was revoked"));
        }
        if record.expires <= now {
            return Err(refused(ErrorCode::TokenExpired, "the API key has expired"));
        }
        let role = self
            .owner_now(&record)
            .await
            .inspect_err(|fault| audit::key_refused(request, id, fault.code.as_str()))?;
        // It may have been revoked while the account was asked about.
        if self.store.find(id, key).is_none_or(|now| now.revoked) {
            return Err(refused(ErrorCode::TokenRevoked, "the API key was revoked"));
        }
        if self.store.touch(id, now) {
            audit::key_first_used(request, id, record.owner.as_str());
        }
        Ok(KeyHolder {
            id,
            subject: record.owner,
            username: record.username,
            role,
            scopes: record.scopes,
            expires: record.expires,
        })
    }

    /// The owner's role as of the last five minutes.
    async fn owner_now(&self, record: &Record) -> Result<Role, Fault> {
        let owner = Owner { subject: &record.owner, uid: record.uid };
        // Internal records are at hand, and what changes them moves the version itself.
        if internal_id(&record.owner).is_some() {
            return match self.standings.of(&owner).await {
                Standing::Good(role) => Ok(role),
                Standing::Ended(fault) | Standing::Unsure(fault) => Err(fault),
            };
        }
        if record.uid.is_some_and(|uid| self.tokens.is_superseded(uid, &record.owner)) {
            return Err(denied(Denial::AcctDenied));
        }
        let before = self.remembered(&record.owner);
        if let Some((at, seen)) = &before
            && at.elapsed() < if seen.is_ok() { GOOD } else { BAD }
        {
            return seen.clone();
        }
        let seen = match self.standings.of(&owner).await {
            Standing::Good(role) => Ok(role),
            Standing::Ended(fault) => Err(fault),
            // Not remembered: the next use asks again.
            Standing::Unsure(fault) => return Err(fault),
        };
        let changed = before.is_some_and(|(_, before)| before != seen);
        self.remember(&record.owner, &seen);
        if changed {
            self.tokens.moved();
        }
        seen
    }

    fn remembered(&self, owner: &Subject) -> Option<Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).get(owner).cloned()
    }

    fn remember(&self, owner: &Subject, found: &Result<Role, Fault>) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.len() >= REMEMBERED {
            seen.clear();
        }
        seen.insert(owner.clone(), (Instant::now(), found.clone()));
    }

    /// Writes times of use, and forgets expired keys where the clock is to be believed. Blocks.
    pub(crate) fn save(&self, sure: bool) -> Result<(), StateError> {
        self.store.save(unix_now(), sure)
    }
}

fn role(claims: &Claims) -> Role {
    claims.roles.first().copied().unwrap_or(Role::Guest)
}

fn needs_a_fresh_login(claims: &Claims) -> Result<(), Fault> {
    // A login of the future is not fresh: the clock was put back, by nobody knows how much.
    if unix_now().checked_sub(claims.auth_time).is_some_and(|age| age <= FRESH) {
        return Ok(());
    }
    Err(forbidden("this needs a fresh login: sign in again, the last was more than 5 minutes ago"))
}

fn forbidden(message: &str) -> Fault {
    Fault::new(ErrorCode::Forbidden, message)
}

fn not_found() -> Fault {
    Fault::new(ErrorCode::NotFound, "there is no such API key")
}
