//! The verbs of the administrators' socket: internal users, keys for anybody, rotation and sessions. Whoever connects
//! is root, listed, or in the group `sdrest-admin`, and every verb that changes something is audited with the uid
//! that the kernel gave.

use crate::{
    api_keys::KeyOwner,
    audit,
    conversation::denied,
    fault::internal,
    service::{Service, blocking},
    tokens::KeyError,
    users::check_password,
};
use sdrest_proto::{
    accounts::{NewUser, UserInfo, UserName},
    api_key::{KeyInfo, MadeKey, NewKey},
    authd::{AuthdAdmin, UserState},
    conversation::{AccountKey, Denial},
    error::{ErrorCode, Fault},
    health::Health,
    id::{KeyId, RequestId},
    identity::{Role, Subject},
    secret::Answer,
};
use std::{sync::Arc, time::Duration};
use tarpc::context::Context;

/// How long front ends have to learn of a new signing key before it signs.
const ANNOUNCED: Duration = Duration::from_millis(500);

/// The verbs, for one administrator.
#[derive(Clone)]
pub(crate) struct AdminVerbs {
    pub(crate) service: Arc<Service>,
    /// The uid at the other end.
    pub(crate) admin: u32,
}

impl AdminVerbs {
    /// Does what waits for the disk, and audits what came of it.
    async fn change<T: Send + 'static>(
        &self,
        verb: &'static str,
        on: String,
        work: impl FnOnce(&Service) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Fault> {
        let admin = self.admin;
        // Audited where it is done: the caller may be gone by then.
        blocking(&self.service, RequestId::random(), move |service| {
            let done = work(service);
            audit::administered(admin, verb, &on, done.as_ref().err());
            done
        })
        .await
    }

    /// Whose keys are made under this name: an internal user's, else a system account's.
    async fn owner(&self, name: &UserName) -> Result<KeyOwner, Fault> {
        if self.service.users.has(name.as_str()) {
            let user = self.service.users.named(name)?;
            let (subject, role) = (Subject::internal(user.id), user.role);
            return Ok(KeyOwner { subject, username: name.as_str().to_owned(), uid: None, role });
        }
        let who = AccountKey::Name(name.as_str().to_owned());
        let account = self.service.table.questions().account(who).await;
        let account = account.map_err(|denial| match denial {
            Denial::Unavailable | Denial::Timeout => denied(denial),
            _ => {
                let message =
                    format!("`username` {} is nobody who may sign in here", name.as_str());
                Fault::new(ErrorCode::NotFound, message)
            }
        })?;
        let role =
            self.service.standings.admission.role(account.username.as_str(), &account.groups);
        let role = role.ok_or_else(|| denied(Denial::AcctDenied))?;
        let (username, uid) = (account.username.as_str().to_owned(), Some(account.uid));
        let subject = blocking(&self.service, RequestId::random(), move |service| {
            service.tokens.subject_of(&account).map_err(|error| internal(&error))
        });
        Ok(KeyOwner { subject: subject.await?, username, uid, role })
    }
}

/// Ends the sessions of a user and what is remembered of it.
fn end_all(service: &Service, user: &UserInfo) -> Result<(), Fault> {
    let subject = Subject::internal(user.id);
    service
        .tokens
        .end_sessions(std::slice::from_ref(&subject))
        .map_err(|error| internal(&error))?;
    service.keys.account_changed(&subject);
    Ok(())
}

impl AuthdAdmin for AdminVerbs {
    async fn health(self, _: Context) -> Health {
        self.service.health()
    }

    async fn add_user(self, _: Context, new: NewUser) -> Result<UserInfo, Fault> {
        check_password(&new.password)?;
        let phc = self.service.table.questions().hash(new.password).await?;
        let on = new.username.as_str().to_owned();
        self.change("add_user", on, move |service| service.users.add(new.username, new.role, &phc))
            .await
    }

    async fn list_users(self, _: Context) -> Result<Vec<UserInfo>, Fault> {
        Ok(self.service.users.list())
    }

    async fn set_password(self, _: Context, user: UserName, password: Answer) -> Result<(), Fault> {
        check_password(&password)?;
        self.service.users.named(&user)?;
        let phc = self.service.table.questions().hash(password).await?;
        self.change("set_password", user.as_str().to_owned(), move |service| {
            let user = service.users.set_password(&user, &phc)?;
            end_all(service, &user)
        })
        .await
    }

    async fn set_user_state(
        self,
        _: Context,
        user: UserName,
        state: UserState,
    ) -> Result<UserInfo, Fault> {
        let verb = match state {
            UserState::Enabled => "enable_user",
            UserState::Disabled => "disable_user",
        };
        self.change(verb, user.as_str().to_owned(), move |service| {
            let user = service.users.set_state(&user, state)?;
            match state {
                UserState::Disabled => end_all(service, &user)?,
                UserState::Enabled => service.keys.account_changed(&Subject::internal(user.id)),
            }
            Ok(user)
        })
        .await
    }

    async fn set_user_role(
        self,
        _: Context,
        user: UserName,
        role: Role,
    ) -> Result<UserInfo, Fault> {
        let on = format!("{} role {}", user.as_str(), role.as_str());
        self.change("set_user_role", on, move |service| {
            let (before, user) = service.users.set_role(&user, role)?;
            // Tokens carry the role that was: who has less now must not go on with them. Asked for once more, it may be
            // because this failed the first time.
            if role <= before {
                end_all(service, &user)?;
            }
            service.keys.account_changed(&Subject::internal(user.id));
            Ok(user)
        })
        .await
    }

    async fn remove_user(self, _: Context, user: UserName) -> Result<(), Fault> {
        self.change("remove_user", user.as_str().to_owned(), move |service| {
            // The record goes last: while it is there, a removal that failed half way can be asked for again.
            let known = service.users.set_state(&user, UserState::Disabled)?;
            end_all(service, &known)?;
            service.keys.remove_of(&Subject::internal(known.id))?;
            service.users.remove(&user)
        })
        .await
    }

    async fn make_key_for(self, _: Context, user: UserName, new: NewKey) -> Result<MadeKey, Fault> {
        let owner = self.owner(&user).await?;
        let on = user.as_str().to_owned();
        let subject = owner.subject.clone();
        let made = self
            .change("make_key_for", on, move |service| service.keys.make_for(&owner, new))
            .await?;
        audit::key_made(None, made.info.id, subject.as_str(), "administrator");
        Ok(made)
    }

    async fn list_all_keys(self, _: Context) -> Result<Vec<KeyInfo>, Fault> {
        Ok(self.service.keys.list_all())
    }

    async fn revoke_any_key(self, _: Context, key: KeyId) -> Result<(), Fault> {
        self.change("revoke_any_key", key.to_string(), move |service| service.keys.revoke_any(key))
            .await
    }

    async fn rotate_key(self, _: Context) -> Result<String, Fault> {
        let rotate = |service: &Service| {
            service.tokens.rotate_key().map_err(|error| match error {
                KeyError::TooSoon(seconds) => {
                    let seconds = u32::try_from(seconds).unwrap_or(u32::MAX);
                    Fault::new(ErrorCode::Conflict, error.to_string()).retry_after(seconds)
                }
                KeyError::NoRotation => Fault::new(ErrorCode::Conflict, error.to_string()),
                _ => internal(&error),
            })
        };
        // On its own: a rotation that has begun is settled, whoever hangs up.
        let whole = tokio::spawn(async move {
            let kid = self.change("rotate_key", String::new(), rotate).await?;
            tokio::time::sleep(ANNOUNCED).await;
            self.service.tokens.settle_key();
            Ok(kid)
        });
        whole.await.unwrap_or_else(|error| Err(internal(&error)))
    }

    async fn revoke_sessions(self, _: Context, user: UserName) -> Result<u32, Fault> {
        self.change("revoke_sessions", user.as_str().to_owned(), move |service| {
            let mut whose = service.tokens.subjects_named(user.as_str());
            whose.extend(service.users.named(&user).map(|user| Subject::internal(user.id)));
            service.tokens.end_sessions(&whose).map_err(|error| internal(&error))
        })
        .await
    }
}
