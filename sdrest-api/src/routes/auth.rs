//! Signing in with one password or by the kernel's word, refreshing, signing out. The password goes from the
//! body to authd and nowhere else.

use super::login_answer::{ConversationAnswer, LoginAnswer};
use crate::{
    app::App,
    auth::{Authenticated, Policy, User, token},
    edge::{AUTH_BODY, Body, Fields, FromFields, Peer, RequestTag},
    error::{ApiError, ErrorBody},
};
use axum::{
    Extension, Json,
    extract::State,
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use sdrest_proto::{
    authd::{AuthMode, SignIn},
    bounds::Username,
    error::ErrorCode,
    id::RequestId,
    login::{BeginLogin, ConversationRef, LoginState, PeerLogin, Poll, Step},
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
    /// At most 511 bytes. Not needed, and not looked at, where `/auth/methods` says that the kernel knows the caller.
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

/// Sign in with a name and one password, or with a name alone where the kernel knows the caller.
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
    let policy = app.authd.policies().current();
    match policy.description().sign_in {
        SignIn::No => Err(nothing_to_answer(&policy)),
        SignIn::Peer => {
            let uid = app.kernel.uid_of(peer).await?;
            let login = PeerLogin { uid, username, request };
            let grant = app.authd.verbs().login_peer(login).await?;
            Ok(LoginAnswer::new(&policy, &grant).into_response())
        }
        SignIn::Conversation => {
            let password = password.filter(|password| !password.is_empty()).ok_or_else(|| {
                ApiError::new(ErrorCode::MissingPassword, "`password` is missing")
            })?;
            let (password, source) = (Some(password), peer.source());
            let login = BeginLogin { username, password, source, request, wait_ms: HOLD_MS };
            by_password(&app, &policy, login).await
        }
    }
}

async fn by_password(app: &App, policy: &Policy, login: BeginLogin) -> Result<Response, ApiError> {
    let request = login.request;
    let step = settle(app, app.authd.verbs().begin(login).await?, request).await?;
    match step.state {
        LoginState::Succeeded(grant) => Ok(LoginAnswer::new(policy, &grant).into_response()),
        LoginState::Failed(fault) => Err(fault.into()),
        LoginState::Running | LoginState::Waiting { .. } => {
            Ok(ConversationAnswer::new(policy, step).required().into_response())
        }
    }
}

/// The error where nobody is asked for a password: says what to do instead.
pub(super) fn nothing_to_answer(policy: &Policy) -> ApiError {
    let message = match (policy.description().sign_in, policy.mode()) {
        (SignIn::Peer, _) => {
            "this server asks for no password: send `POST /auth/login` with the name of your own account"
                .to_owned()
        }
        (_, AuthMode::None) => {
            "this server has no authentication: nobody needs to sign in".to_owned()
        }
        (_, mode) => format!(
            "this server signs nobody in (mode {}): send an API key in `X-API-Key`, or as `Authorization: Bearer`",
            mode.as_str()
        ),
    };
    ApiError::new(ErrorCode::BadRequest, message)
}

/// Waits while a module works, keeping what it says, until it asks, ends, or has said something that must
/// be read first.
async fn settle(app: &App, mut step: Step, request: RequestId) -> Result<Step, ApiError> {
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
            request,
        };
        let mut next = app.authd.verbs().news(poll).await?;
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
    let grant = app.authd.verbs().refresh(body.value.refresh_token, request).await?;
    Ok(LoginAnswer::new(&app.authd.policies().current(), &grant))
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
    if let Some(session) = user.session()
        && let Some(token) = token(&headers)?
    {
        app.authd.verbs().logout(token, request).await?;
        app.authd.policies().revoke(session);
    }
    Ok(Json(LogoutAnswer { success: true }))
}
