//! The queue under the names that the guides give it.

use super::{
    answers::JobWrapped,
    jobs::{WaitQuery, failed, look, owned},
};
use crate::{
    app::App,
    auth::{Authenticated, User, Viewer},
    edge::{PathId, Query},
    error::{ApiError, ErrorBody},
};
use axum::{Json, extract::State};
use sdrest_proto::id::JobId;
use serde::Serialize;
use utoipa::ToSchema;

/// Figures of the whole queue and of the caller's part; nothing of who else waits.
#[derive(Debug, Serialize, ToSchema)]
pub struct QueueAnswer {
    pub queued: u64,
    pub running: u64,
    /// Seconds until all of it has ended; null where nothing was measured yet.
    pub eta_seconds: Option<f64>,
    pub own: OwnQueueAnswer,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct OwnQueueAnswer {
    pub queued: u64,
    pub running: u64,
    /// The best place among the waiting ones.
    pub position: Option<u32>,
}

/// How long the queue is.
#[utoipa::path(get, path = "/queue/status", tag = "jobs", responses(
    (status = 200, body = QueueAnswer), (status = "default", description = "Any error", body = ErrorBody)))]
pub async fn status(
    State(app): State<App>,
    user: Authenticated<User>,
    _query: Query<()>,
) -> Result<Json<QueueAnswer>, ApiError> {
    let status = app.queue.status(owned(&user)).await.map_err(failed)?;
    let own = OwnQueueAnswer {
        queued: status.own.queued,
        running: status.own.running,
        position: status.own_position,
    };
    Ok(Json(QueueAnswer {
        queued: status.all.queued,
        running: status.all.running,
        eta_seconds: status.eta_seconds,
        own,
    }))
}

/// The same as `/jobs/{id}`.
#[utoipa::path(get, path = "/queue/job/{id}", tag = "jobs",
    params(("id" = String, Path), ("wait" = Option<u32>, Query, description = "seconds, at most 60")),
    responses((status = 200, body = JobWrapped), (status = "default", description = "Any error", body = ErrorBody)))]
pub async fn job(
    State(app): State<App>,
    viewer: Viewer,
    PathId(id): PathId<JobId>,
    Query(WaitQuery(wait)): Query<WaitQuery>,
) -> Result<Json<JobWrapped>, ApiError> {
    look(&app, &viewer, id, wait).await.map(Json)
}
