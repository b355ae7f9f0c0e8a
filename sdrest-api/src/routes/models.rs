//! The models that can be used, by name: a path on the host is nobody's business here.

use crate::{
    app::App,
    edge::{AUTH_BODY, Body, Fields, FromFields, Query},
    error::{ApiError, ErrorBody},
};
use axum::{Json, extract::State};
use sdrest_proto::{bounds::ModelName, model::ModelInfo};
use serde::Serialize;
use std::collections::BTreeMap;
use utoipa::ToSchema;

#[derive(Debug, Serialize, ToSchema)]
pub struct ModelsAnswer {
    pub models: Vec<ModelAnswer>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct ModelAnswer {
    pub name: String,
    /// Other names that are accepted.
    pub aliases: Vec<String>,
    #[schema(example = "sd-1.x")]
    pub family: String,
    /// epsilon or v_prediction.
    pub prediction_type: String,
    /// The side in pixels that it was trained for: the default width and height.
    pub default_side: u32,
    /// Width and height must be multiples of it.
    pub multiple_of: u32,
    /// First ten hex digits of the SHA-256 of the UNet's weights; null until it is computed.
    pub hash: Option<String>,
    /// Whether it is in memory.
    pub loaded: bool,
    /// Whether it is the one that is used where none is named.
    pub default: bool,
    /// Why it cannot be used.
    pub fault: Option<String>,
}

/// The models that can be named in a request.
#[utoipa::path(get, path = "/models", tag = "catalog", responses(
    (status = 200, body = ModelsAnswer), (status = "default", description = "Any error", body = ErrorBody)))]
pub async fn list(State(app): State<App>, _query: Query<()>) -> Json<ModelsAnswer> {
    Json(answer(&app, app.workers.models()))
}

fn answer(app: &App, models: Vec<ModelInfo>) -> ModelsAnswer {
    let default = app.workers.default_model().ok().map(|model| model.name);
    let one = |model| ModelAnswer::new(model, default.as_ref());
    ModelsAnswer { models: models.into_iter().map(one).collect() }
}

impl ModelAnswer {
    fn new(model: ModelInfo, default: Option<&ModelName>) -> Self {
        Self {
            default: default == Some(&model.name),
            name: model.name.as_str().to_owned(),
            aliases: Vec::new(),
            family: model.family,
            prediction_type: model.prediction_type,
            default_side: model.default_side,
            multiple_of: model.vae_scale_factor,
            hash: model.hash,
            loaded: model.loaded,
            fault: model.fault,
        }
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub struct ModelTypesAnswer {
    pub types: Vec<ModelTypeAnswer>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct ModelTypeAnswer {
    #[schema(example = "checkpoint")]
    pub name: &'static str,
    #[schema(example = "sd-1.x")]
    pub family: String,
    /// How many there are.
    pub count: usize,
}

/// What in a models folder can be named as `model`.
const CHECKPOINT: &str = "checkpoint";

/// The types of models that are there.
#[utoipa::path(get, path = "/models/types", tag = "catalog", responses(
    (status = 200, body = ModelTypesAnswer), (status = "default", description = "Any error", body = ErrorBody)))]
pub async fn types(State(app): State<App>, _query: Query<()>) -> Json<ModelTypesAnswer> {
    let mut counts = BTreeMap::<String, usize>::new();
    for model in app.workers.models() {
        *counts.entry(model.family).or_default() += 1;
    }
    let answer = |(family, count)| ModelTypeAnswer { name: CHECKPOINT, family, count };
    Json(ModelTypesAnswer { types: counts.into_iter().map(answer).collect() })
}

#[derive(Debug, Serialize, ToSchema)]
pub struct DirectoriesAnswer {
    pub directories: Vec<DirectoryAnswer>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct DirectoryAnswer {
    /// The folder's own name; where it lies on the host is not told.
    pub name: String,
    #[serde(rename = "type")]
    #[schema(example = "checkpoint")]
    pub kind: &'static str,
}

/// The folders that models are in, by name: workers tell nobody where they lie.
#[utoipa::path(get, path = "/models/directories", tag = "catalog", responses(
    (status = 200, body = DirectoriesAnswer), (status = "default", description = "Any error", body = ErrorBody)))]
pub async fn directories(State(app): State<App>, _query: Query<()>) -> Json<DirectoriesAnswer> {
    let answer =
        |model: ModelInfo| DirectoryAnswer { name: model.name.to_string(), kind: CHECKPOINT };
    Json(DirectoriesAnswer { directories: app.workers.models().into_iter().map(answer).collect() })
}

/// Which model.
#[derive(Debug, ToSchema)]
pub struct ModelBody {
    /// One of `/models`.
    #[schema(value_type = String)]
    pub model: ModelName,
}

impl FromFields for ModelBody {
    fn from_fields(fields: &mut Fields) -> Result<Self, ApiError> {
        let model = fields.bounded_text("model")?.ok_or_else(|| fields.missing("model"))?;
        Ok(Self { model })
    }
}

#[derive(Debug, Serialize, ToSchema)]
pub struct ModelWrapped {
    pub model: ModelAnswer,
}

fn wrapped(app: &App, model: ModelInfo) -> Json<ModelWrapped> {
    let default = app.workers.default_model().ok().map(|model| model.name);
    Json(ModelWrapped { model: ModelAnswer::new(model, default.as_ref()) })
}

/// Look at the models folders again.
#[utoipa::path(post, path = "/models/refresh", tag = "catalog", responses(
    (status = 200, body = ModelsAnswer), (status = "default", description = "Any error", body = ErrorBody)))]
pub async fn refresh(
    State(app): State<App>,
    _query: Query<()>,
) -> Result<Json<ModelsAnswer>, ApiError> {
    let models = app.workers.refresh_models().await?;
    Ok(Json(answer(&app, models)))
}

/// Bring a model into memory.
#[utoipa::path(post, path = "/models/load", tag = "catalog", request_body = ModelBody, responses(
    (status = 200, body = ModelWrapped), (status = "default", description = "Any error", body = ErrorBody)))]
pub async fn load(
    State(app): State<App>,
    body: Body<ModelBody, AUTH_BODY>,
) -> Result<Json<ModelWrapped>, ApiError> {
    let model = app.workers.load(&body.value.model).await?;
    Ok(wrapped(&app, model))
}

/// Drop a model from memory.
#[utoipa::path(post, path = "/models/unload", tag = "catalog", request_body = ModelBody, responses(
    (status = 200, body = ModelWrapped), (status = "default", description = "Any error", body = ErrorBody)))]
pub async fn unload(
    State(app): State<App>,
    body: Body<ModelBody, AUTH_BODY>,
) -> Result<Json<ModelWrapped>, ApiError> {
    let model = app.workers.unload(&body.value.model).await?;
    Ok(wrapped(&app, model))
}
