//! Looking at jobs, waiting for them, watching them, ending them. What is not the caller's own answers as
//! what is not there.

use super::{
    answers::{JobAnswer, JobList, JobWrapped},
    conversations::wait_seconds,
    page::page,
    stream::sse_for,
};
use crate::{
    app::App,
    auth::{Authenticated, User, Viewer},
    edge::{Fields, FromFields, PathId, Query},
    error::{ApiError, ErrorBody},
    jobs::{JobError, JobNotice, JobState, NoticeKind, Page, Scope},
};
use axum::{
    Json,
    extract::State,
    http::HeaderMap,
    response::{Response, sse::Event},
};
use futures::StreamExt;
use sdrest_proto::{bounds::quote, id::JobId};
use serde::Serialize;
use std::time::Duration;

/// The longest wait, in seconds.
const MAX_WAIT: i64 = 60;

/// The caller's own things.
pub(super) fn owned(user: &User) -> Scope<'_> {
    Scope::Owner(user.subject())
}

/// Whose jobs the viewer may ask the queue for. A guest without the job's secret is told what it would be told
/// if there were no such job.
fn visible<'a>(app: &App, viewer: &'a Viewer, job: JobId) -> Result<Scope<'a>, ApiError> {
    if viewer.shows(&app.job_secrets, job) {
        Ok(owned(viewer.user()))
    } else {
        Err(failed(JobError::no_job(job)))
    }
}

/// The public fault of a job's error, with the error itself for the log.
pub(super) fn failed(error: JobError) -> ApiError {
    let fault = error.fault();
    ApiError::from(fault).because(error)
}

/// Comes to pass after `patience`, when the server stops, or when the user's credentials stop counting.
pub(super) async fn over(app: &App, user: &User, patience: Duration) {
    tokio::select! {
        () = tokio::time::sleep(patience) => {}
        () = app.stop.cancelled() => {}
        () = app.authd.policies().until_over(user) => {}
    }
}

/// Which part of the list.
#[derive(Debug)]
pub struct ListQuery(Page<JobId>);

impl FromFields for ListQuery {
    fn from_fields(fields: &mut Fields) -> Result<Self, ApiError> {
        let page = page(fields, "a job's id")?;
        let state = match fields.text("state")? {
            None => None,
            Some(text) => Some(text.parse::<JobState>().map_err(|_| {
                fields.wrong("state", "queued, running, done, failed or cancelled", &quote(&text))
            })?),
        };
        Ok(Self(Page { state, ..page }))
    }
}

/// The caller's jobs, newest first.
#[utoipa::path(get, path = "/jobs", tag = "jobs",
    params(("limit" = Option<u32>, Query, description = "1 to 200, 50 by default"),
        ("before" = Option<String>, Query, description = "only older ones than this job"),
        ("state" = Option<String>, Query)),
    responses((status = 200, body = JobList), (status = "default", description = "Any error", body = ErrorBody)))]
pub async fn list(
    State(app): State<App>,
    user: Authenticated<User>,
    Query(ListQuery(page)): Query<ListQuery>,
) -> Result<Json<JobList>, ApiError> {
    if user.is_guest() {
        // All guests are one owner: each sees only what it has the secret of.
        return Ok(Json(JobList { jobs: Vec::new(), next: None }));
    }
    let page = app.queue.list(owned(&user), page).await.map_err(failed)?;
    let jobs = page.jobs.iter().map(JobAnswer::from).collect();
    Ok(Json(JobList { jobs, next: page.next.map(|id| id.to_string()) }))
}

/// How long to wait.
#[derive(Debug)]
pub struct WaitQuery(pub Duration);

impl FromFields for WaitQuery {
    fn from_fields(fields: &mut Fields) -> Result<Self, ApiError> {
        Ok(Self(Duration::from_secs(u64::from(wait_seconds(fields, MAX_WAIT)?.unwrap_or(0)))))
    }
}

/// A job, once it has ended or the wait is over.
#[utoipa::path(get, path = "/jobs/{id}", tag = "jobs",
    params(("id" = String, Path), ("wait" = Option<u32>, Query, description = "seconds, at most 60")),
    responses((status = 200, body = JobWrapped), (status = "default", description = "Any error", body = ErrorBody)))]
pub async fn get(
    State(app): State<App>,
    viewer: Viewer,
    PathId(id): PathId<JobId>,
    Query(WaitQuery(wait)): Query<WaitQuery>,
) -> Result<Json<JobWrapped>, ApiError> {
    look(&app, &viewer, id, wait).await.map(Json)
}

pub(super) async fn look(
    app: &App,
    viewer: &Viewer,
    id: JobId,
    wait: Duration,
) -> Result<JobWrapped, ApiError> {
    let scope = visible(app, viewer, id)?;
    let job = if wait.is_zero() {
        app.queue.job(scope, id).await
    } else {
        app.queue.wait(scope, id, over(app, viewer.user(), wait)).await
    };
    Ok(JobWrapped::from(&job.map_err(failed)?))
}

/// End a job: a waiting one at once, a running one within a step.
#[utoipa::path(delete, path = "/jobs/{id}", tag = "jobs", params(("id" = String, Path)),
    responses((status = 200, body = JobWrapped), (status = "default", description = "Any error", body = ErrorBody)))]
pub async fn cancel(
    State(app): State<App>,
    viewer: Viewer,
    PathId(id): PathId<JobId>,
) -> Result<Json<JobWrapped>, ApiError> {
    let scope = visible(&app, &viewer, id)?;
    let job = app.queue.cancel(scope, id).await.map_err(failed)?;
    Ok(Json(JobWrapped::from(&job)))
}

/// What happens to a job, as it happens.
#[utoipa::path(get, path = "/jobs/{id}/events", tag = "jobs",
    params(("id" = String, Path), ("Last-Event-ID" = Option<u64>, Header)),
    responses((status = 200, description = "Server-sent events: progress, image, done, failed, cancelled",
        content_type = "text/event-stream", body = JobWrapped),
        (status = "default", description = "Any error", body = ErrorBody)))]
pub async fn events(
    State(app): State<App>,
    viewer: Viewer,
    PathId(id): PathId<JobId>,
    _query: Query<()>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let scope = visible(&app, &viewer, id)?;
    // A number that is none begins from what is known now.
    let after =
        headers.get("last-event-id").and_then(|value| value.to_str().ok()?.trim().parse().ok());
    let notices = app.queue.events(scope, id, after).await.map_err(failed)?;
    Ok(sse_for(&app, viewer.user(), notices.map(|notice| event(&notice))))
}

#[derive(Serialize)]
struct NoticeAnswer {
    job: JobAnswer,
    /// The place of the picture that this is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<usize>,
}

fn event(notice: &JobNotice) -> Event {
    let index = match notice.kind {
        NoticeKind::Image { index } => Some(index),
        NoticeKind::Progress | NoticeKind::Done | NoticeKind::Failed | NoticeKind::Cancelled => {
            None
        }
    };
    let answer = NoticeAnswer { job: JobAnswer::from(&notice.job), index };
    let event = Event::default().event(notice.kind.as_str()).id(notice.id.to_string());
    event.json_data(answer).unwrap_or_default()
}
