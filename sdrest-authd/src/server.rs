//! The verbs of the front end's socket, thin: each turns a request into a call of a room below, and the room's answer
//! into proto's words. No verb here takes a name as authority; `login_peer` alone takes the kernel's word from the
//! front end, and only where the administrator chose a mode without passwords.

use crate::{
    audit,
    conversation::{Begin, UntilAsked, denied},
    peer::Source,
    service::{Service, blocking},
    standing::{Owner, Standing},
    tokens::AUDIENCE,
};
use sdrest_proto::{
    api_key::{KeyHolder, KeyInfo, MadeKey, NewKey},
    authd::{Authd, AuthdDescription, Claims, Revocations, SignIn, Whose},
    conversation::{AccountKey, Denial},
    error::{ErrorCode, Fault},
    health::Health,
    id::{KeyId, RequestId},
    identity::Role,
    login::{BeginLogin, ConversationRef, Grant, PeerLogin, Poll, Respond, Step},
    secret::{ApiKey, BearerToken, RefreshToken},
};
use std::{sync::Arc, time::Duration};
use tarpc::context::Context;

/// The longest that an answer is held.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

#[derive(Clone)]
pub(crate) struct Verbs(pub(crate) Arc<Service>);

impl Verbs {
    /// The role that the account of a refresh token's session has now; a definite no ends the session. Nothing where
    /// the token opens no session: spending it says why.
    async fn renewed(
        &self,
        token: &RefreshToken,
        request: RequestId,
    ) -> Result<Option<Role>, Fault> {
        let Some((id, session)) = self.0.tokens.session_of(token) else { return Ok(None) };
        let owner = Owner { subject: &session.subject, uid: session.uid };
        let standing = if self.0.ways.begins(owner.subject) {
            self.0.standings.of(&owner).await
        } else {
            Standing::Ended(denied(Denial::AcctDenied))
        };
        match standing {
            Standing::Good(role) => Ok(Some(role)),
            Standing::Unsure(fault) => {
                audit::refresh_refused(&request, id, fault.code.as_str());
                Err(fault)
            }
            Standing::Ended(fault) => {
                let why = fault.code.as_str();
                audit::refresh_refused(&request, id, why);
                let subject = session.subject;
                blocking(&self.0, request, move |service| {
                    service.tokens.end_known(id, &subject, why, &request)?;
                    // Its keys are asked about again at their next use.
                    service.keys.account_changed(&subject);
                    Ok(())
                })
                .await?;
                Err(fault)
            }
        }
    }

    /// The account that the kernel named, if it is the one that was typed.
    async fn peer(&self, login: &PeerLogin) -> Result<Grant, Fault> {
        let (name, source) = (login.username.as_str(), Source::of_uid(login.uid));
        self.0.throttle.check(name, &source)?;
        let account = match self.0.table.questions().account(AccountKey::Uid(login.uid)).await {
            Ok(account) if account.username == login.username => account,
            Err(denial @ (Denial::Unavailable | Denial::Timeout)) => return Err(denied(denial)),
            Ok(_) | Err(_) => {
                self.0.throttle.failed(name, &source);
                return Err(denied(Denial::AuthErr));
            }
        };
        audit::learn(name);
        let request = login.request;
        blocking(&self.0.tokens, request, move |tokens| tokens.grant_peer(&account, &request)).await
    }
}

impl Authd for Verbs {
    async fn describe(self, _: Context) -> AuthdDescription {
        let access = self.0.tokens.access();
        let ways = self.0.ways;
        AuthdDescription {
            mode: ways.mode,
            sign_in: ways.sign_in(),
            pam: ways.pam,
            api_keys: ways.takes_keys(),
            signature: access.signature(),
            realm: self.0.realm.clone(),
            public_paths: self.0.public_paths.clone(),
            guests: self.0.guests,
            issuer: access.issuer().to_owned(),
            audience: AUDIENCE.to_owned(),
            keys: access.verifying_keys(),
        }
    }

    async fn begin(self, _: Context, login: BeginLogin) -> Result<Step, Fault> {
        let until = if login.password.is_some() { UntilAsked::Yes } else { UntilAsked::No };
        let backend = self.0.backend(&login.username)?;
        let begin = Begin {
            username: login.username,
            password: login.password,
            source: Source::new(login.source),
            request: login.request,
        };
        let entry = self.0.table.begin(begin, backend)?;
        entry.news(0, wait(login.wait_ms), until).await;
        let mut step = self.0.step(&entry, 0).await?;
        step.secret = Some(entry.secret());
        Ok(step)
    }

    async fn respond(self, _: Context, respond: Respond) -> Result<Step, Fault> {
        let (after, patience) = (respond.sequence, wait(respond.wait_ms));
        let entry = self.0.table.respond(respond).await?;
        entry.news(after, patience, UntilAsked::No).await;
        self.0.step(&entry, after).await
    }

    async fn poll(self, _: Context, poll: Poll) -> Result<Step, Fault> {
        let entry = self.0.table.find(&poll.conversation)?;
        entry.news_for_one_more(poll.after, wait(poll.wait_ms)).await?;
        self.0.step(&entry, poll.after).await
    }

    async fn cancel(
        self,
        _: Context,
        conversation: ConversationRef,
        _: RequestId,
    ) -> Result<(), Fault> {
        self.0.table.cancel(&conversation)
    }

    async fn login_peer(self, _: Context, login: PeerLogin) -> Result<Grant, Fault> {
        if self.0.ways.sign_in() != SignIn::Peer {
            audit::peer_login_refused(&login.request, login.uid, login.username.as_str(), "mode");
            let message = "this server does not sign in by the kernel's word";
            return Err(Fault::new(ErrorCode::Forbidden, message));
        }
        self.peer(&login).await.inspect_err(|fault| {
            let (name, why) = (login.username.as_str(), fault.code.as_str());
            audit::peer_login_refused(&login.request, login.uid, name, why);
        })
    }

    async fn introspect(
        self,
        _: Context,
        token: BearerToken,
        _: RequestId,
    ) -> Result<Claims, Fault> {
        self.0.tokens.introspect(&token)
    }

    async fn check_key(
        self,
        _: Context,
        key: ApiKey,
        request: RequestId,
    ) -> Result<KeyHolder, Fault> {
        if !self.0.ways.takes_keys() {
            return Err(Fault::new(ErrorCode::TokenInvalid, "this server takes no API keys"));
        }
        self.0.keys.check(&key, &request).await
    }

    async fn make_key(
        self,
        _: Context,
        token: BearerToken,
        new: NewKey,
        request: RequestId,
    ) -> Result<MadeKey, Fault> {
        blocking(&self.0.keys, request, move |keys| keys.make(&token, new, &request)).await
    }

    async fn list_keys(
        self,
        _: Context,
        token: BearerToken,
        whose: Whose,
        request: RequestId,
    ) -> Result<Vec<KeyInfo>, Fault> {
        blocking(&self.0.keys, request, move |keys| keys.list(&token, whose)).await
    }

    async fn revoke_key(
        self,
        _: Context,
        token: BearerToken,
        key: KeyId,
        request: RequestId,
    ) -> Result<(), Fault> {
        blocking(&self.0.keys, request, move |keys| keys.revoke(&token, key, &request)).await
    }

    async fn refresh(
        self,
        _: Context,
        token: RefreshToken,
        request: RequestId,
    ) -> Result<Grant, Fault> {
        let role = self.renewed(&token, request).await?;
        blocking(&self.0.tokens, request, move |tokens| tokens.refresh(&token, role, &request))
            .await
    }

    async fn logout(self, _: Context, token: BearerToken, request: RequestId) -> Result<(), Fault> {
        blocking(&self.0.tokens, request, move |tokens| tokens.logout(&token, &request)).await
    }

    async fn revocations(self, _: Context, after: u64, wait_ms: u32) -> Revocations {
        self.0.tokens.revocations(after, wait(wait_ms)).await
    }

    async fn health(self, _: Context) -> Health {
        self.0.health()
    }
}

fn wait(milliseconds: u32) -> Duration {
    Duration::from_millis(milliseconds.into()).min(LONGEST_WAIT)
}
