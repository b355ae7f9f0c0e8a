//! How the server is, what it is, and its public keys. Health and status may be shown to anybody: they say
//! nothing of users, prompts or paths.

use crate::{
    app::App,
    edge::Query,
    error::{ApiError, ErrorBody},
    openapi::Document,
    workers::WorkerReport,
};
use axum::{Extension, Json, extract::State};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sdrest_proto::{BUILD, PROTOCOL, authd::VerifyingKey};
use serde::Serialize;
use utoipa::ToSchema;

/// Whether it works.
#[derive(Debug, Serialize, ToSchema)]
pub struct HealthAnswer {
    /// ok, or degraded: it answers, but something that it leans on does not.
    #[schema(example = "ok")]
    pub status: &'static str,
    /// One line for a person.
    pub detail: String,
    /// ok or unavailable.
    pub auth: &'static str,
    pub workers: WorkersHealth,
    pub version: &'static str,
    pub uptime_seconds: u64,
    /// What the administrator should change.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct WorkersHealth {
    pub configured: usize,
    pub connected: usize,
}

/// Whether the server and what it leans on work.
#[utoipa::path(get, path = "/health", tag = "system", responses(
    (status = 200, body = HealthAnswer), (status = "default", description = "Any error", body = ErrorBody)))]
pub async fn health(State(app): State<App>, _query: Query<()>) -> Json<HealthAnswer> {
    Json(look(&app, &app.workers.reports().await))
}

fn look(app: &App, reports: &[WorkerReport]) -> HealthAnswer {
    let workers = WorkersHealth {
        configured: reports.len(),
        connected: reports.iter().filter(|report| report.connected).count(),
    };
    let mut wrong = Vec::new();
    if !app.authd.is_connected() {
        wrong.push("authd does not answer: nobody can sign in".to_owned());
    } else if !app.authd.is_able() {
        wrong.push("authd cannot sign anybody in; its own health says why".to_owned());
    }
    if workers.connected < workers.configured {
        wrong.push(format!("{} of {} workers answer", workers.connected, workers.configured));
    }
    HealthAnswer {
        status: if wrong.is_empty() { "ok" } else { "degraded" },
        detail: if wrong.is_empty() { "everything answers".to_owned() } else { wrong.join("; ") },
        auth: if app.authd.is_able() { "ok" } else { "unavailable" },
        workers,
        version: env!("CARGO_PKG_VERSION"),
        uptime_seconds: app.about.begun.elapsed().as_secs(),
        warnings: app.about.warnings.clone(),
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub struct StatusAnswer {
    #[serde(flatten)]
    pub health: HealthAnswer,
    /// none or pam.
    pub auth_mode: &'static str,
    pub queue: QueueFigures,
    pub worker_list: Vec<WorkerAnswer>,
    pub sandbox: SandboxAnswer,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct QueueFigures {
    pub queued: u64,
    pub running: u64,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct WorkerAnswer {
    pub name: String,
    pub connected: bool,
    /// `cpu` or `cuda:N`, as it was described last.
    pub device: Option<String>,
    pub dtype: Option<String>,
    pub torch_version: Option<String>,
    /// Jobs at a time, at most.
    pub capacity: Option<u32>,
}

/// What this process found when it looked at its own sandbox.
#[derive(Debug, Serialize, ToSchema)]
pub struct SandboxAnswer {
    pub closed: bool,
    pub no_new_privs: bool,
    pub effective_capabilities: u64,
    pub seccomp: u8,
    pub landlock_abi: u32,
    pub network_denied: bool,
}

/// Figures of the whole server.
#[utoipa::path(get, path = "/status", tag = "system", responses(
    (status = 200, body = StatusAnswer), (status = "default", description = "Any error", body = ErrorBody)))]
pub async fn status(
    State(app): State<App>,
    _query: Query<()>,
) -> Result<Json<StatusAnswer>, ApiError> {
    // Everybody's counts only: no owner is asked for.
    let nobody = sdrest_proto::identity::Subject::guest();
    let queue =
        app.queue.status(crate::jobs::Scope::Owner(&nobody)).await.map_err(super::jobs::failed)?;
    let reports = app.workers.reports().await;
    let health = look(&app, &reports);
    let workers = reports.into_iter().map(|report| {
        let description = report.description;
        WorkerAnswer {
            name: report.name,
            connected: report.connected,
            capacity: description.as_ref().map(|described| described.capacity),
            device: description.as_ref().map(|described| described.profile.device.clone()),
            dtype: description.as_ref().map(|described| described.profile.dtype.clone()),
            torch_version: description.map(|described| described.profile.torch_version),
        }
    });
    let sandbox = &app.about.sandbox;
    Ok(Json(StatusAnswer {
        worker_list: workers.collect(),
        health,
        auth_mode: app.authd.policies().current().mode().as_str(),
        queue: QueueFigures { queued: queue.all.queued, running: queue.all.running },
        sandbox: SandboxAnswer {
            closed: sandbox.closed,
            no_new_privs: sandbox.no_new_privs,
            effective_capabilities: sandbox.effective_capabilities,
            seccomp: sandbox.seccomp,
            landlock_abi: sandbox.landlock_abi,
            network_denied: sandbox.network_denied,
        },
    }))
}

#[derive(Debug, Serialize, ToSchema)]
pub struct VersionAnswer {
    pub name: &'static str,
    pub version: &'static str,
    pub build: &'static str,
    /// Of what the processes say to each other.
    pub protocol: u32,
    pub api: &'static str,
}

/// What this build is.
#[utoipa::path(get, path = "/version", tag = "system", responses(
    (status = 200, body = VersionAnswer), (status = "default", description = "Any error", body = ErrorBody)))]
pub async fn version(_query: Query<()>) -> Json<VersionAnswer> {
    let version = env!("CARGO_PKG_VERSION");
    Json(VersionAnswer { name: "sdrest", version, build: BUILD, protocol: PROTOCOL, api: "v1" })
}

/// This document.
#[utoipa::path(get, path = "/openapi.json", tag = "system", responses(
    (status = 200, description = "OpenAPI 3.1", content_type = "application/json", body = Object),
    (status = "default", description = "Any error", body = ErrorBody)))]
pub async fn openapi(Extension(document): Extension<Document>) -> Document {
    document
}

/// RFC 7517.
#[derive(Debug, Serialize, ToSchema)]
pub struct JwksAnswer {
    pub keys: Vec<JwkAnswer>,
}

/// RFC 8037.
#[derive(Debug, Serialize, ToSchema)]
pub struct JwkAnswer {
    pub kty: &'static str,
    pub crv: &'static str,
    pub alg: &'static str,
    #[serde(rename = "use")]
    pub usage: &'static str,
    pub kid: String,
    pub x: String,
}

impl From<&VerifyingKey> for JwkAnswer {
    fn from(key: &VerifyingKey) -> Self {
        let x = URL_SAFE_NO_PAD.encode(key.public);
        Self { kty: "OKP", crv: "Ed25519", alg: "EdDSA", usage: "sig", kid: key.kid.clone(), x }
    }
}

/// The public keys that access tokens are verified with.
#[utoipa::path(get, path = "/.well-known/jwks.json", tag = "auth", responses(
    (status = 200, body = JwksAnswer), (status = "default", description = "Any error", body = ErrorBody)))]
pub async fn jwks(State(app): State<App>, _query: Query<()>) -> Json<JwksAnswer> {
    let policy = app.authd.policies().current();
    Json(JwksAnswer { keys: policy.description().keys.iter().map(JwkAnswer::from).collect() })
}
