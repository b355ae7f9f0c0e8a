//! What a caller is, and how anybody can become somebody here.

use super::login_answer::UserAnswer;
use crate::{
    app::App,
    auth::{Authenticated, Policy, User},
    edge::Query,
    error::{ErrorBody, unix_now},
};
use axum::{Json, extract::State};
use sdrest_proto::{
    authd::{AuthMode, SignIn, Signature},
    identity::Permission,
};
use serde::Serialize;
use utoipa::ToSchema;

#[derive(Debug, Serialize, ToSchema)]
pub struct MeAnswer {
    pub user: UserAnswer,
    /// How the caller proved who they are (RFC 8176).
    pub methods: Vec<String>,
    /// Seconds until the token or key ends; null without one.
    pub expires_in: Option<u64>,
}

impl MeAnswer {
    fn new(user: &User) -> Self {
        Self {
            user: UserAnswer {
                id: user.subject().to_string(),
                username: user.name().to_owned(),
                role: user.role().as_str(),
                permissions: user.permissions().map(Permission::as_str).collect(),
            },
            methods: user.methods().to_vec(),
            expires_in: user.expires().map(|expires| expires.saturating_sub(unix_now())),
        }
    }
}

/// Who the caller is.
#[utoipa::path(get, path = "/auth/me", tag = "auth", responses(
    (status = 200, body = MeAnswer), (status = "default", description = "Any error", body = ErrorBody)))]
pub async fn me(user: Authenticated<User>, _query: Query<()>) -> Json<MeAnswer> {
    Json(MeAnswer::new(&user))
}

#[derive(Debug, Serialize, ToSchema)]
pub struct ValidateAnswer {
    pub valid: bool,
    #[serde(flatten)]
    pub me: MeAnswer,
}

/// Whether the token is good: an error says why it is not.
#[utoipa::path(get, path = "/auth/validate", tag = "auth", responses(
    (status = 200, body = ValidateAnswer), (status = "default", description = "Any error", body = ErrorBody)))]
pub async fn validate(user: Authenticated<User>, _query: Query<()>) -> Json<ValidateAnswer> {
    Json(ValidateAnswer { valid: true, me: MeAnswer::new(&user) })
}

#[derive(Debug, Serialize, ToSchema)]
pub struct MethodsAnswer {
    /// none, jwt, api-key, unix, pam or optional.
    #[schema(example = "pam")]
    pub mode: &'static str,
    /// All that a caller can prove who they are with.
    pub methods: Vec<MethodAnswer>,
    pub realm: String,
    /// Whether callers without credentials are guests.
    pub guests: bool,
    /// Whether API keys are accepted.
    pub api_keys: bool,
    /// Whether a sign-in asks PAM.
    pub pam: bool,
    /// EdDSA: `jwks.json` has the keys of tokens; HS256: only the server can verify them; null: it gives none.
    pub signature: Option<&'static str>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct MethodAnswer {
    /// none, jwt, unix, pam or api-key.
    #[schema(example = "pam")]
    pub name: &'static str,
    /// Whether a password is needed.
    pub password: bool,
    /// Whether more may be asked than one password.
    pub conversation: bool,
    /// Whether `POST /auth/login` with the name alone is enough: the kernel says whose the connection is.
    pub kernel: bool,
}

impl MethodAnswer {
    fn plain(name: &'static str) -> Self {
        Self { name, password: false, conversation: false, kernel: false }
    }
}

fn sign_in(policy: &Policy) -> Option<MethodAnswer> {
    let (mode, pam) = (policy.mode(), policy.description().pam);
    let plain = MethodAnswer::plain(match mode {
        AuthMode::Optional if pam => AuthMode::Pam.as_str(),
        AuthMode::Optional => AuthMode::Jwt.as_str(),
        mode => mode.as_str(),
    });
    match policy.description().sign_in {
        SignIn::Conversation => Some(MethodAnswer { password: true, conversation: pam, ..plain }),
        SignIn::Peer => Some(MethodAnswer { kernel: true, ..plain }),
        SignIn::No if mode == AuthMode::None => Some(plain),
        SignIn::No => None,
    }
}

/// How to sign in here.
#[utoipa::path(get, path = "/auth/methods", tag = "auth", responses(
    (status = 200, body = MethodsAnswer), (status = "default", description = "Any error", body = ErrorBody)))]
pub async fn methods(State(app): State<App>, _query: Query<()>) -> Json<MethodsAnswer> {
    let policy = app.authd.policies().current();
    let description = policy.description();
    let keys = description.api_keys.then(|| MethodAnswer::plain(AuthMode::ApiKey.as_str()));
    let signature = match description.signature {
        Signature::EdDsa => "EdDSA",
        Signature::Hs256 => "HS256",
    };
    Json(MethodsAnswer {
        mode: policy.mode().as_str(),
        methods: sign_in(&policy).into_iter().chain(keys).collect(),
        realm: description.realm.clone(),
        guests: policy.guests(),
        api_keys: description.api_keys,
        pam: description.pam,
        signature: (description.sign_in != SignIn::No).then_some(signature),
    })
}
