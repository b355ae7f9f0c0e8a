//! The models that can be used, by name: a path on the host is nobody's business here.

use crate::{app::App, edge::Query, error::ErrorBody};
use axum::{Json, extract::State};
use sdrest_proto::model::ModelInfo;
use serde::Serialize;
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
    let default = app.workers.default_model().ok().map(|model| model.name);
    let answer = |model: ModelInfo| ModelAnswer {
        default: default.as_ref() == Some(&model.name),
        name: model.name.as_str().to_owned(),
        aliases: Vec::new(),
        family: model.family,
        prediction_type: model.prediction_type,
        default_side: model.default_side,
        multiple_of: model.vae_scale_factor,
        hash: model.hash,
        loaded: model.loaded,
        fault: model.fault,
    };
    Json(ModelsAnswer { models: app.workers.models().into_iter().map(answer).collect() })
}
