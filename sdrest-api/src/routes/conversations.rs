//! A PAM conversation of any number of steps, over long polls or server-sent events. What a module says is
//! passed on the moment it says it. The id may reach a log; the secret travels in a header only.

use super::{
    auth::{ANSWER_BOUNDS, is_answer, nothing_to_answer},
    login_answer::ConversationAnswer,
    stream::sse,
};
use crate::{
    app::App,
    edge::{AUTH_BODY, Body, Fields, FromFields, PathId, Peer, Query, RequestTag},
    error::{ApiError, ErrorBody},
};
use axum::{
    Extension,
    extract::{FromRequestParts, State},
    http::{StatusCode, request::Parts},
    response::{IntoResponse, Response, sse::Event},
};
use futures::stream;
use sdrest_proto::{
    authd::SignIn,
    bounds::Username,
    error::ErrorCode,
    id::{ConversationId, RequestId},
    login::{BeginLogin, ConversationRef, Poll, Respond, Step},
    secret::{Answer, ConversationSecret},
};
use utoipa::ToSchema;

/// The header of the secret.
const HEADER: &str = "x-sdrest-conversation";
/// The longest wait of a poll, in seconds; authd holds no longer.
const MAX_WAIT: i64 = 30;
/// How long the first step is waited for.
const FIRST_WAIT_MS: u32 = 5_000;
/// How long one look at a conversation is held in a stream.
const STREAM_WAIT_MS: u32 = 25_000;

#[derive(Debug, ToSchema)]
pub struct BeginBody {
    /// 1 to 256 bytes.
    #[schema(value_type = String, example = "alice")]
    pub username: Username,
    /// `login`, which is the default.
    #[schema(value_type = Option<String>)]
    pub purpose: (),
}

impl FromFields for BeginBody {
    fn from_fields(fields: &mut Fields) -> Result<Self, ApiError> {
        let username =
            fields.bounded_text("username")?.ok_or_else(|| fields.missing("username"))?;
        match fields.text("purpose")?.as_deref() {
            None | Some("login") => Ok(Self { username, purpose: () }),
            Some(other) => {
                Err(fields.wrong("purpose", "`login`", &sdrest_proto::bounds::quote(other)))
            }
        }
    }
}

/// Begin a login of any number of steps.
#[utoipa::path(post, path = "/auth/conversations", tag = "auth", request_body = BeginBody, responses(
    (status = 201, body = ConversationAnswer), (status = "default", description = "Any error", body = ErrorBody)))]
pub async fn begin(
    State(app): State<App>,
    RequestTag(request): RequestTag,
    Extension(peer): Extension<Peer>,
    body: Body<BeginBody, AUTH_BODY>,
) -> Result<ConversationAnswer, ApiError> {
    let policy = app.authd.policies().current();
    if policy.description().sign_in != SignIn::Conversation {
        return Err(nothing_to_answer(&policy));
    }
    let login = BeginLogin {
        username: body.value.username,
        password: None,
        source: peer.source(),
        request,
        wait_ms: FIRST_WAIT_MS,
    };
    Ok(ConversationAnswer::new(&policy, app.authd.verbs().begin(login).await?).created())
}

/// What came after which message, and how long to wait for it.
#[derive(Debug)]
pub struct PollQuery {
    after: u32,
    wait_ms: u32,
}

impl FromFields for PollQuery {
    fn from_fields(fields: &mut Fields) -> Result<Self, ApiError> {
        let after = fields.integer("after", "from 0")?.unwrap_or(0);
        let after = u32::try_from(after)
            .map_err(|_| fields.wrong("after", "from 0", &after.to_string()))?;
        let wait = wait_seconds(fields, MAX_WAIT)?.unwrap_or(0);
        Ok(Self { after, wait_ms: wait * 1000 })
    }
}

/// The query parameter `wait`, in seconds.
pub(super) fn wait_seconds(fields: &mut Fields, max: i64) -> Result<Option<u32>, ApiError> {
    let bounds = format!("between 0 and {max} seconds");
    let Some(wait) = fields.integer("wait", &bounds)? else { return Ok(None) };
    let within = u32::try_from(wait).ok().filter(|_| wait <= max);
    within.map(Some).ok_or_else(|| fields.wrong("wait", &bounds, &wait.to_string()))
}

/// Where a conversation stands, once there is news.
#[utoipa::path(get, path = "/auth/conversations/{id}", tag = "auth",
    params(("id" = String, Path), ("after" = Option<u32>, Query, description = "the last `seq` that was seen"),
        ("wait" = Option<u32>, Query, description = "seconds, at most 30"),
        ("X-Sdrest-Conversation" = String, Header)),
    responses((status = 200, body = ConversationAnswer),
        (status = "default", description = "Any error", body = ErrorBody)))]
pub async fn poll(
    State(app): State<App>,
    Named { conversation, request }: Named,
    Query(query): Query<PollQuery>,
) -> Result<ConversationAnswer, ApiError> {
    let poll = Poll { conversation, after: query.after, wait_ms: query.wait_ms, request };
    tokio::select! {
        step = app.authd.verbs().poll(poll) => Ok(conversation_answer(&app, step?)),
        () = app.stop.cancelled() => Err(stopping()),
    }
}

fn conversation_answer(app: &App, step: Step) -> ConversationAnswer {
    ConversationAnswer::new(&app.authd.policies().current(), step)
}

/// The conversation itself goes on: it lives in authd.
fn stopping() -> ApiError {
    ApiError::new(ErrorCode::PamAuthUnavailable, "the server is restarting; ask again")
}

/// One value for each prompt of a step.
#[derive(Debug, ToSchema)]
pub struct AnswersBody {
    /// The `seq` of the step that asked.
    pub seq: u32,
    pub answers: Vec<AnswerBody>,
}

#[derive(Debug, ToSchema)]
pub struct AnswerBody {
    /// The prompt's number.
    pub pid: u32,
    /// At most 511 bytes.
    #[schema(value_type = String)]
    pub value: Answer,
}

impl FromFields for AnswersBody {
    fn from_fields(fields: &mut Fields) -> Result<Self, ApiError> {
        let seq = number(fields, "seq")?;
        let mut answers = fields
            .objects("answers")?
            .into_iter()
            .map(one_answer)
            .collect::<Result<Vec<_>, _>>()?;
        answers.sort_by_key(|answer| answer.pid);
        if (0..).zip(&answers).any(|(place, answer): (u32, _)| place != answer.pid) {
            return Err(fields.wrong(
                "answers",
                "one for each prompt, by its `pid`",
                "another set",
            ));
        }
        Ok(Self { seq, answers })
    }
}

fn one_answer(mut fields: Fields) -> Result<AnswerBody, ApiError> {
    let pid = number(&mut fields, "pid")?;
    let value = fields.secret("value")?.ok_or_else(|| fields.missing("value"))?;
    let value = Answer::new(value);
    if !is_answer(&value) {
        return Err(fields.wrong("value", ANSWER_BOUNDS, "something else"));
    }
    fields.finish()?;
    Ok(AnswerBody { pid, value })
}

fn number(fields: &mut Fields, name: &'static str) -> Result<u32, ApiError> {
    let value = fields.integer(name, "from 0")?.ok_or_else(|| fields.missing(name))?;
    u32::try_from(value).map_err(|_| fields.wrong(name, "from 0", &value.to_string()))
}

/// How long the answer to answers may be held. Whoever follows the events says 0: what comes of the answers
/// is told once, and then there.
#[derive(Debug)]
pub struct AnswerQuery {
    wait_ms: u32,
}

impl FromFields for AnswerQuery {
    fn from_fields(fields: &mut Fields) -> Result<Self, ApiError> {
        let wait = wait_seconds(fields, MAX_WAIT)?;
        Ok(Self { wait_ms: wait.map_or(FIRST_WAIT_MS, |seconds| seconds * 1000) })
    }
}

/// Answer the prompts of a step.
#[utoipa::path(post, path = "/auth/conversations/{id}/answers", tag = "auth", request_body = AnswersBody,
    params(("id" = String, Path),
        ("wait" = Option<u32>, Query, description = "seconds, at most 30, 5 by default; 0 for who follows the events"),
        ("X-Sdrest-Conversation" = String, Header)),
    responses((status = 200, body = ConversationAnswer),
        (status = "default", description = "Any error", body = ErrorBody)))]
pub async fn answer(
    State(app): State<App>,
    Named { conversation, request }: Named,
    Query(query): Query<AnswerQuery>,
    body: Body<AnswersBody, AUTH_BODY>,
) -> Result<ConversationAnswer, ApiError> {
    let answers = body.value.answers.into_iter().map(|answer| answer.value).collect();
    let (sequence, wait_ms) = (body.value.seq, query.wait_ms);
    let respond = Respond { conversation, sequence, answers, wait_ms, request };
    Ok(conversation_answer(&app, app.authd.verbs().respond(respond).await?))
}

/// End a conversation; its process ends with it.
#[utoipa::path(delete, path = "/auth/conversations/{id}", tag = "auth",
    params(("id" = String, Path), ("X-Sdrest-Conversation" = String, Header)),
    responses((status = 204, description = "It is gone"),
        (status = "default", description = "Any error", body = ErrorBody)))]
pub async fn cancel(
    State(app): State<App>,
    Named { conversation, request }: Named,
) -> Result<StatusCode, ApiError> {
    app.authd.verbs().cancel(conversation, request).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The steps of a conversation as they come; the event's name is the state.
#[utoipa::path(get, path = "/auth/conversations/{id}/events", tag = "auth",
    params(("id" = String, Path), ("after" = Option<u32>, Query), ("X-Sdrest-Conversation" = String, Header)),
    responses((status = 200, description = "Server-sent events: running, waiting, succeeded, failed",
        content_type = "text/event-stream", body = ConversationAnswer),
        (status = "default", description = "Any error", body = ErrorBody)))]
pub async fn events(
    State(app): State<App>,
    Named { conversation, request }: Named,
    Query(query): Query<PollQuery>,
) -> Result<Response, ApiError> {
    let id = conversation.id;
    let secret = conversation.secret.expose("kept for the polls of this stream").to_owned();
    // The first look happens before the answer begins, so that a wrong secret gets its status.
    let look = Poll { conversation, after: query.after, wait_ms: 0, request };
    let first = app.authd.verbs().poll(look).await?;
    let follower = Follower { app: app.clone(), id, secret, after: first.sequence, request };
    let first = conversation_answer(&app, first);
    let over = first.is_over();
    let rest = stream::unfold((!over).then_some(follower), Follower::next);
    let events = futures::StreamExt::chain(stream::iter([event(&first)]), rest);
    Ok(sse(events, async move { app.stop.cancelled().await }).into_response())
}

struct Follower {
    app: App,
    id: ConversationId,
    secret: String,
    after: u32,
    request: RequestId,
}

impl Follower {
    async fn next(state: Option<Self>) -> Option<(Event, Option<Self>)> {
        let mut this = state?;
        loop {
            let conversation = ConversationRef {
                id: this.id,
                secret: ConversationSecret::new(this.secret.clone()),
            };
            let (after, request) = (this.after, this.request);
            let poll = Poll { conversation, after, wait_ms: STREAM_WAIT_MS, request };
            let step = this.app.authd.verbs().news(poll).await.ok()?;
            if step.sequence == this.after {
                continue;
            }
            this.after = step.sequence;
            let answer = conversation_answer(&this.app, step);
            let over = answer.is_over();
            return Some((event(&answer), (!over).then_some(this)));
        }
    }
}

fn event(answer: &ConversationAnswer) -> Event {
    let event = Event::default().event(answer.state).id(answer.seq.to_string());
    event.json_data(answer).unwrap_or_default()
}

/// The conversation that a request names, with the secret that proves who began it.
#[derive(Debug)]
pub struct Named {
    conversation: ConversationRef,
    request: RequestId,
}

impl<S: Send + Sync> FromRequestParts<S> for Named {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let RequestTag(request) = RequestTag::from_request_parts(parts, state).await?;
        let PathId(id) = PathId::<ConversationId>::from_request_parts(parts, state).await?;
        let secret = parts.headers.get(HEADER).and_then(|value| value.to_str().ok());
        let secret = secret.filter(|secret| secret.len() <= 256).ok_or_else(|| {
            ApiError::new(
                ErrorCode::AuthRequired,
                "send the conversation's secret in `X-Sdrest-Conversation`",
            )
        })?;
        let secret = ConversationSecret::new(secret.to_owned());
        Ok(Self { conversation: ConversationRef { id, secret }, request })
    }
}
