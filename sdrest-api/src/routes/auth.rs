//! Signing in with one password, refreshing, signing out, and what a caller is. The password goes from the
//! body to authd and nowhere else.

use super::login_answer::{ConversationAnswer, LoginAnswer, UserAnswer};
use crate::{
    app::App,
    auth::{Authenticated, User, bearer},
    edge::{AUTH_BODY, Body, Fields, FromFields, Peer, Query, RequestTag},
    error::{ApiError, ErrorBody, unix_now},
};
use axum::{
    Extension, Json,
    extract::State,
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use sdrest_proto::{
    authd::AuthMode,
    bounds::Username,
    error::ErrorCode,
    identity::Permission,
    login::{BeginLogin, ConversationRef, LoginState, Poll, Step},
    secret::{Answer, ConversationSecret, RefreshToken},
};
use serde::Serialize;
use std::time::Duration;
use tokio::time::Instant;
use utoipa::ToSchema;

/// How long authd holds one answer while a module works.
const HOLD_MS: u32 = 25_000;
/// How long a login waits for a module in all before it goes on as a conversation.
const PATIENCE: Duration = Duration::from_secs(45);
/// How long it waits on once the module has said something: the person must get to see that.
const AFTER_WORDS: Duration = Duration::from_secs(5);

/// Who, and the password.
#[derive(Debug, ToSchema)]
pub struct LoginBody {
    /// 1 to 256 bytes.
    #[schema(value_type = String, example = "alice")]
    pub username: Username,
    /// At most 511 bytes.
    #[schema(value_type = Option<String>)]
    pub password: Option<Answer>,
}

impl FromFields for LoginBody {
    fn from_fields(fields: &mut Fields) -> Result<Self, ApiError> {
        let username =
            fields.bounded_text("username")?.ok_or_else(|| fields.missing("username"))?;
        let password = fields.secret("password")?.map(Answer::new);
        if password.as_ref().is_some_and(|password| !is_answer(password)) {
            return Err(fields.wrong("password", ANSWER_BOUNDS, "something else"));
        }
        Ok(Self { username, password })
    }
}

pub(super) const ANSWER_BOUNDS: &str = "at most 511 bytes without NUL";

pub(super) fn is_answer(answer: &Answer) -> bool {
    answer.len() <= Answer::MAX_BYTES && !answer.expose("checked for NUL").contains('\0')
}

/// Sign in with a name and one password.
#[utoipa::path(post, path = "/auth/login", tag = "auth", request_body = LoginBody, responses(
    (status = 200, body = LoginAnswer),
    (status = 202, description = "More than one password is asked for: go on as a conversation", body = ConversationAnswer),
    (status = "default", description = "Any error", body = ErrorBody)))]
pub async fn login(
    State(app): State<App>,
    RequestTag(request): RequestTag,
    Extension(peer): Extension<Peer>,
    body: Body<LoginBody, AUTH_BODY>,
) -> Result<Response, ApiError> {
    let LoginBody { username, password } = body.value;
    if app.authd.policies().current().mode() == AuthMode::None {
        return Err(no_login());
    }
    let password = password.filter(|password| !password.is_empty());
    let password = password
        .ok_or_else(|| ApiError::new(ErrorCode::MissingPassword, "`password` is missing"))?;
    let login = BeginLogin {
        username,
        password: Some(password),
        source: peer.source(),
        request,
        wait_ms: HOLD_MS,
    };
    let step = settle(&app, app.authd.begin(login).await?).await?;
    match step.state {
        LoginState::Succeeded(grant) => Ok(LoginAnswer::new(&grant).into_response()),
        LoginState::Failed(fault) => Err(fault.into()),
        LoginState::Running | LoginState::Waiting { .. } => {
            Ok(ConversationAnswer::new(step).required().into_response())
        }
    }
}

pub(super) fn no_login() -> ApiError {
    ApiError::new(
        ErrorCode::BadRequest,
        "this server has no authentication: nobody needs to sign in",
    )
}

/// Waits while a module works, keeping what it says, until it asks, ends, or has said something that must
/// be read first.
async fn settle(app: &App, mut step: Step) -> Result<Step, ApiError> {
    let Some(secret) = step.secret.take() else { return Ok(step) };
    let secret = secret.expose("kept for the polls and the answer").to_owned();
    let mut until = Instant::now() + PATIENCE;
    while matches!(step.state, LoginState::Running) && Instant::now() < until {
        if !step.messages.is_empty() {
            until = until.min(Instant::now() + AFTER_WORDS);
        }
        let left = until.saturating_duration_since(Instant::now()).as_millis();
        let poll = Poll {
            conversation: ConversationRef {
                id: step.id,
                secret: ConversationSecret::new(secret.clone()),
            },
            after: step.sequence,
            wait_ms: HOLD_MS.min(u32::try_from(left).unwrap_or(HOLD_MS)),
        };
        let mut next = app.authd.poll(poll).await?;
        let mut messages = std::mem::take(&mut step.messages);
        messages.append(&mut next.messages);
        step = Step { messages, ..next };
    }
    step.secret = Some(ConversationSecret::new(secret));
    Ok(step)
}

/// The token that buys the next pair.
#[derive(Debug, ToSchema)]
pub struct RefreshBody {
    #[schema(value_type = String)]
    pub refresh_token: RefreshToken,
}

impl FromFields for RefreshBody {
    fn from_fields(fields: &mut Fields) -> Result<Self, ApiError> {
        let token =
            fields.secret("refresh_token")?.ok_or_else(|| fields.missing("refresh_token"))?;
        Ok(Self { refresh_token: RefreshToken::new(token) })
    }
}

/// Spend a refresh token for a new pair of tokens.
#[utoipa::path(post, path = "/auth/refresh", tag = "auth", request_body = RefreshBody, responses(
    (status = 200, body = LoginAnswer), (status = "default", description = "Any error", body = ErrorBody)))]
pub async fn refresh(
    State(app): State<App>,
    RequestTag(request): RequestTag,
    body: Body<RefreshBody, AUTH_BODY>,
) -> Result<LoginAnswer, ApiError> {
    Ok(LoginAnswer::new(&app.authd.refresh(body.value.refresh_token, request).await?))
}

#[derive(Debug, Serialize, ToSchema)]
pub struct LogoutAnswer {
    pub success: bool,
}

/// Sign out: the session's tokens stop counting before this answers.
#[utoipa::path(post, path = "/auth/logout", tag = "auth", responses(
    (status = 200, body = LogoutAnswer), (status = "default", description = "Any error", body = ErrorBody)))]
pub async fn logout(
    State(app): State<App>,
    RequestTag(request): RequestTag,
    user: Authenticated<User>,
    headers: HeaderMap,
) -> Result<Json<LogoutAnswer>, ApiError> {
    if let (Some(session), Some(token)) = (user.session(), bearer(&headers)?) {
        app.authd.logout(token, request).await?;
        app.authd.policies().revoke(session);
    }
    Ok(Json(LogoutAnswer { success: true }))
}

#[derive(Debug, Serialize, ToSchema)]
pub struct MeAnswer {
    pub user: UserAnswer,
    /// How the caller proved who they are (RFC 8176).
    pub methods: Vec<String>,
    /// Seconds until the token ends; null without one.
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
    /// none or pam.
    pub mode: &'static str,
    pub methods: Vec<MethodAnswer>,
    pub realm: String,
    /// Whether callers without credentials are guests.
    pub guests: bool,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct MethodAnswer {
    pub name: &'static str,
    pub password: bool,
    /// Whether more may be asked than one password.
    pub conversation: bool,
}

/// How to sign in here.
#[utoipa::path(get, path = "/auth/methods", tag = "auth", responses(
    (status = 200, body = MethodsAnswer), (status = "default", description = "Any error", body = ErrorBody)))]
pub async fn methods(State(app): State<App>, _query: Query<()>) -> Json<MethodsAnswer> {
    let policy = app.authd.policies().current();
    let asks = match policy.mode() {
        AuthMode::None => false,
        AuthMode::Pam => true,
    };
    let method = MethodAnswer { name: policy.mode().as_str(), password: asks, conversation: asks };
    Json(MethodsAnswer {
        mode: policy.mode().as_str(),
        methods: vec![method],
        realm: policy.description().realm.clone(),
        guests: policy.guests(),
    })
}
