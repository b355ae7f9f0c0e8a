//! The newest policy, for all who ask, and with it the judgement of credentials. Tokens that are signed with
//! Ed25519 are verified here without asking anybody; API keys and HS256 tokens are asked for at authd, whose
//! word is kept for a while and dropped as soon as authd says that something was revoked.

use super::{
    confirmed::Confirmed, credential::Credential, policy::Policy, user::User, voucher::Voucher,
};
use crate::error::{ApiError, status, unix_now};
use axum::http::StatusCode;
use sdrest_proto::{
    access_token::TokenError,
    api_key::KeyHolder,
    authd::{AuthMode, Claims, Revocations},
    error::{ErrorCode, Fault},
    id::{RequestId, SessionId},
    secret::{ApiKey, BearerToken},
};
use std::{fmt, sync::Arc, time::Duration};
use tokio::sync::watch;

/// How long authd's word on a key is believed, in seconds.
const KEY_SECONDS: u64 = 30;

/// How often whoever goes on for long with a key is looked at again.
const KEY_AGAIN: Duration = Duration::from_secs(30);

/// Clones share it.
#[derive(Clone)]
pub struct Policies(Arc<Inner>);

struct Inner {
    current: watch::Sender<Arc<Policy>>,
    voucher: Arc<dyn Voucher>,
    keys: Confirmed<Arc<KeyHolder>>,
    tokens: Confirmed<Arc<Claims>>,
}

impl Policies {
    pub fn new(first: Policy, voucher: Arc<dyn Voucher>) -> Self {
        let current = watch::Sender::new(Arc::new(first));
        let (keys, tokens) = (Confirmed::new(), Confirmed::new());
        Self(Arc::new(Inner { current, voucher, keys, tokens }))
    }

    pub fn current(&self) -> Arc<Policy> {
        self.0.current.borrow().clone()
    }

    /// A policy of a new connection to authd replaces the one before; what was signed out here stays so.
    pub fn install(&self, policy: Policy) {
        self.forget();
        self.0.current.send_modify(|current| {
            *current = Arc::new(policy.after(current));
        });
    }

    /// Takes news from authd. The caches go first: whoever wakes up because of the news must not find what was
    /// believed before.
    pub fn follow(&self, news: Revocations) {
        self.forget();
        self.0.current.send_modify(|current| *current = Arc::new(current.with_news(news)));
    }

    /// What authd said of keys and tokens counts no more.
    pub fn forget(&self) {
        self.0.keys.forget();
        self.0.tokens.forget();
    }

    /// Counts a session as over before the next list says so: its owner has just signed out. Lists that were
    /// under way meanwhile do not bring it back.
    pub fn revoke(&self, session: SessionId) {
        self.0.current.send_modify(|current| *current = Arc::new(current.without(session)));
    }

    /// Whose credential it is. Never a guest: what is shown and is not good is an error.
    pub(super) async fn identify(
        &self,
        credential: Credential,
        request: RequestId,
    ) -> Result<User, ApiError> {
        match credential {
            Credential::Token(token) => self.by_token(&token, request).await,
            Credential::Key(key) => self.by_key(key, request).await,
        }
    }

    async fn by_token(&self, token: &BearerToken, request: RequestId) -> Result<User, ApiError> {
        let policy = self.current();
        if policy.mode() == AuthMode::ApiKey {
            return Err(ApiError::new(
                ErrorCode::TokenInvalid,
                "this server takes API keys and no tokens",
            ));
        }
        let claims = match policy.verifier() {
            Some(verifier) => verifier.verify(token).map_err(refused)?,
            None => self.introspect(token, request).await?,
        };
        // Asked last, of the newest list: an answer of authd's may have been under way.
        if self.current().is_revoked(claims.sid) {
            return Err(ApiError::new(
                ErrorCode::TokenRevoked,
                "the session was signed out; sign in again",
            ));
        }
        User::from_claims(&claims).ok_or_else(|| {
            ApiError::new(ErrorCode::TokenInvalid, "the token carries no role; sign in again")
        })
    }

    async fn introspect(
        &self,
        token: &BearerToken,
        request: RequestId,
    ) -> Result<Arc<Claims>, ApiError> {
        let text = token.expose("asked of authd, which has the key");
        super::verifier::check_hs256_form(text).map_err(refused)?;
        let ask = || {
            let asking = self.0.voucher.introspect(BearerToken::new(text.to_owned()), request);
            async move {
                let claims = asking.await?;
                let life = claims.exp.saturating_sub(unix_now());
                Ok((Arc::new(claims), Duration::from_secs(life)))
            }
        };
        let claims = self.0.tokens.get(text, ask).await?;
        if claims.exp <= unix_now() {
            return Err(refused(TokenError::Expired));
        }
        Ok(claims)
    }

    async fn by_key(&self, key: ApiKey, request: RequestId) -> Result<User, ApiError> {
        if !self.current().description().api_keys {
            return Err(ApiError::new(
                ErrorCode::TokenInvalid,
                "API keys are not accepted by this server",
            ));
        }
        if key.id().is_none() {
            return Err(ApiError::new(
                ErrorCode::TokenInvalid,
                "the API key is not one of this server's",
            ));
        }
        let holder = self.holder(&key, request).await?;
        if holder.expires <= unix_now() {
            return Err(ApiError::new(ErrorCode::TokenExpired, "the API key has expired"));
        }
        Ok(User::from_key(KeyHolder::clone(&holder), key))
    }

    async fn holder(&self, key: &ApiKey, request: RequestId) -> Result<Arc<KeyHolder>, Fault> {
        let text = key.expose("asked of authd, which has its hash");
        let ask = || {
            let asking = self.0.voucher.check_key(ApiKey::new(text.to_owned()), request);
            async move {
                let holder = asking.await?;
                let life = holder.expires.saturating_sub(unix_now()).min(KEY_SECONDS);
                Ok((Arc::new(holder), Duration::from_secs(life)))
            }
        };
        self.0.keys.get(text, ask).await
    }

    /// Ends when this user's credentials stop counting: at their expiry, or when the session or the key is
    /// revoked. For guests and `anonymous` it never does.
    pub async fn until_over(&self, user: &User) {
        let Some(expires) = user.expires() else { return std::future::pending().await };
        let mut news = self.0.current.subscribe();
        let left = Duration::from_secs(expires.saturating_sub(unix_now()));
        let mut end = std::pin::pin!(tokio::time::sleep(left));
        while !self.is_over(user).await {
            tokio::select! {
                () = end.as_mut() => return,
                changed = news.changed() => if changed.is_err() { return },
                // An account that was locked makes no news, and a question may have failed.
                () = tokio::time::sleep(KEY_AGAIN), if user.key().is_some() => {}
            }
        }
    }

    async fn is_over(&self, user: &User) -> bool {
        if let Some(session) = user.session() {
            return self.current().is_revoked(session);
        }
        let Some(key) = user.key() else { return false };
        // Only a plain no counts: while authd cannot be asked, what was good goes on until it expires.
        let answer = self.holder(key, RequestId::random()).await;
        answer.is_err_and(|fault| {
            matches!(status(fault.code), StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
        })
    }
}

fn refused(error: TokenError) -> ApiError {
    match error {
        TokenError::Expired => ApiError::new(
            ErrorCode::TokenExpired,
            "the token has expired; refresh it or sign in again",
        ),
        TokenError::Invalid(_) => {
            ApiError::new(ErrorCode::TokenInvalid, "the bearer token is not one of this server's")
                .because(error)
        }
    }
}

impl fmt::Debug for Policies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Policies").field(&self.current()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::future::BoxFuture;
    use sdrest_proto::{
        api_key::Scopes,
        authd::{AuthdDescription, SignIn, Signature},
        id::KeyId,
        identity::{Role, Subject},
    };
    use std::sync::atomic::{AtomicBool, Ordering};

    /// Knows every key until it is told to know none.
    #[derive(Default)]
    struct Stub {
        silent: AtomicBool,
        revoked: AtomicBool,
    }

    impl Voucher for Stub {
        fn check_key(
            &self,
            _: ApiKey,
            _: RequestId,
        ) -> BoxFuture<'static, Result<KeyHolder, Fault>> {
            let answer = if self.silent.load(Ordering::SeqCst) {
                Err(Fault::new(ErrorCode::PamAuthUnavailable, "authd does not answer"))
            } else if self.revoked.load(Ordering::SeqCst) {
                Err(Fault::new(ErrorCode::TokenRevoked, "the key was revoked"))
            } else {
                Ok(holder())
            };
            Box::pin(std::future::ready(answer))
        }

        fn introspect(
            &self,
            _: BearerToken,
            _: RequestId,
        ) -> BoxFuture<'static, Result<Claims, Fault>> {
            Box::pin(std::future::ready(Err(Fault::new(ErrorCode::TokenInvalid, "no"))))
        }
    }

    fn holder() -> KeyHolder {
        KeyHolder {
            id: KeyId::random(),
            subject: Subject::unix(1000, 1),
            username: "alice".to_owned(),
            role: Role::User,
            scopes: Scopes::all(Role::User),
            expires: unix_now() + 3600,
        }
    }

    fn news(version: u64, sessions: &[SessionId]) -> Revocations {
        Revocations { version, sessions: sessions.to_vec(), keys: Vec::new() }
    }

    fn policies(stub: &Arc<Stub>) -> Policies {
        Policies::new(policy(AuthMode::Pam), Arc::<Stub>::clone(stub))
    }

    fn description(mode: AuthMode) -> AuthdDescription {
        AuthdDescription {
            mode,
            sign_in: SignIn::Conversation,
            pam: true,
            api_keys: true,
            signature: Signature::EdDsa,
            realm: "r".to_owned(),
            public_paths: vec!["/api/health".to_owned()],
            guests: false,
            issuer: "i".to_owned(),
            audience: "a".to_owned(),
            keys: Vec::new(),
        }
    }

    fn policy(mode: AuthMode) -> Policy {
        Policy::new(description(mode), news(1, &[])).unwrap()
    }

    #[tokio::test]
    async fn a_list_that_was_under_way_does_not_bring_a_session_back() {
        let policies = policies(&Arc::default());
        let (session, other) = (SessionId::random(), SessionId::random());
        policies.revoke(session);
        assert!(policies.current().is_revoked(session));
        policies.follow(news(2, &[other]));
        assert!(policies.current().is_revoked(session), "the list is older than the logout");
        policies.install(policy(AuthMode::Pam));
        assert!(policies.current().is_revoked(session), "nor does another connection");
        policies.follow(news(3, &[session]));
        let current = policies.current();
        assert!(!current.ahead().contains_key(&session), "what the list names is not kept twice");
        assert!(current.is_revoked(other), "nor does one that says no more of another");
        policies.follow(news(4, &[]));
        assert!(policies.current().is_revoked(session), "authd's clock may have been ahead");
    }

    #[tokio::test]
    async fn what_no_list_names_any_more_is_remembered_up_to_a_bound() {
        let policies = policies(&Arc::default());
        for version in 2..6 {
            let ended: Vec<_> = (0..10_000).map(|_| SessionId::random()).collect();
            policies.follow(news(version, &ended));
        }
        let last = SessionId::random();
        policies.follow(news(6, &[last]));
        policies.follow(news(7, &[]));
        let kept = policies.current().ahead().len();
        assert!((10_000..=16_384).contains(&kept), "{kept} are kept");
        assert!(policies.current().is_revoked(last));
    }

    fn goes_on(over: std::pin::Pin<&mut impl Future<Output = ()>>) -> bool {
        futures::FutureExt::now_or_never(over).is_none()
    }

    #[tokio::test]
    async fn a_key_is_asked_for_again_after_news_and_a_stream_ends_with_it() {
        let stub = Arc::new(Stub::default());
        let policies = policies(&stub);
        let key = || ApiKey::compose(KeyId::random(), &[1; 24]);
        let user = policies.identify(Credential::Key(key()), RequestId::random()).await.unwrap();
        let mut over = std::pin::pin!(policies.until_over(&user));
        assert!(goes_on(over.as_mut()));
        policies.follow(news(2, &[SessionId::random()]));
        tokio::task::yield_now().await;
        assert!(goes_on(over.as_mut()), "somebody else's session");
        stub.silent.store(true, Ordering::SeqCst);
        policies.follow(news(3, &[]));
        assert!(goes_on(over.as_mut()), "authd cannot be asked");
        tokio::task::yield_now().await;
        stub.silent.store(false, Ordering::SeqCst);
        stub.revoked.store(true, Ordering::SeqCst);
        policies.follow(news(4, &[]));
        // The limit is only there so that a failure ends.
        tokio::time::timeout(Duration::from_secs(60), over).await.unwrap();
    }

    #[test]
    fn what_opens_what_was_closed() {
        let closed = policy(AuthMode::Pam);
        let of = |change: &dyn Fn(&mut AuthdDescription)| {
            let mut description = description(AuthMode::Pam);
            change(&mut description);
            Policy::new(description, news(1, &[])).unwrap().opens_beyond(&closed)
        };
        assert_eq!(of(&|_| {}), None);
        assert_eq!(of(&|it| it.mode = AuthMode::Jwt), None);
        assert_eq!(of(&|it| it.public_paths.clear()), None);
        assert!(of(&|it| it.mode = AuthMode::None).is_some());
        assert!(of(&|it| it.mode = AuthMode::Optional).is_some());
        assert!(of(&|it| it.guests = true).is_some());
        assert!(of(&|it| it.sign_in = SignIn::Peer).is_some());
        assert!(of(&|it| it.public_paths = vec!["/".to_owned()]).is_some());
        assert_eq!(closed.opens_beyond(&policy(AuthMode::None)), None, "it closes");
    }
}
