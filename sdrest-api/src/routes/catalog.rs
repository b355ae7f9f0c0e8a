//! What generation accepts: samplers, noise spacings, and every parameter with its bounds and default. All
//! of it is made from the types that check requests, so it cannot disagree with them.

use super::{
    answers::CLIP_SKIP_OFFSET,
    txt2img::{DEFAULT_CFG_SCALE, DEFAULT_SAMPLER, DEFAULT_SCHEDULER, DEFAULT_STEPS},
};
use crate::{app::App, edge::Query, error::ErrorBody, names};
use axum::{Json, extract::State};
use sdrest_proto::{
    bounds::{ClipSkip, Dimension, GuidanceScale, ImageCount, Seed, Steps},
    sampling::{SchedulerKind, SigmaSchedule},
};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use utoipa::ToSchema;

#[derive(Debug, Serialize, ToSchema)]
pub struct SamplersAnswer {
    pub samplers: Vec<SamplerAnswer>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct SamplerAnswer {
    /// A1111's label.
    #[schema(example = "Euler a")]
    pub name: &'static str,
    /// Other names that are accepted, diffusers' class among them.
    pub aliases: Vec<&'static str>,
    /// The schedulers that it takes.
    pub schedulers: Vec<&'static str>,
}

/// The sampling algorithms.
#[utoipa::path(get, path = "/samplers", tag = "catalog", responses(
    (status = 200, body = SamplersAnswer), (status = "default", description = "Any error", body = ErrorBody)))]
pub async fn samplers(_query: Query<()>) -> Json<SamplersAnswer> {
    let answer = |kind: SchedulerKind| SamplerAnswer {
        name: names::sampler_label(kind),
        aliases: names::sampler_aliases(kind).to_vec(),
        schedulers: kind.spacings().iter().map(|spacing| names::spacing_label(*spacing)).collect(),
    };
    Json(SamplersAnswer { samplers: SchedulerKind::ALL.into_iter().map(answer).collect() })
}

#[derive(Debug, Serialize, ToSchema)]
pub struct SchedulersAnswer {
    pub schedulers: Vec<SpacingAnswer>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct SpacingAnswer {
    /// A1111's label.
    #[schema(example = "Karras")]
    pub name: &'static str,
    pub aliases: Vec<&'static str>,
    /// The samplers that take it.
    pub samplers: Vec<&'static str>,
}

/// How noise levels are spaced.
#[utoipa::path(get, path = "/schedulers", tag = "catalog", responses(
    (status = 200, body = SchedulersAnswer), (status = "default", description = "Any error", body = ErrorBody)))]
pub async fn schedulers(_query: Query<()>) -> Json<SchedulersAnswer> {
    let answer = |spacing: SigmaSchedule| SpacingAnswer {
        name: names::spacing_label(spacing),
        aliases: names::spacing_aliases(spacing).to_vec(),
        samplers: SchedulerKind::ALL
            .into_iter()
            .filter(|kind| kind.takes(spacing))
            .map(names::sampler_label)
            .collect(),
    };
    Json(SchedulersAnswer { schedulers: SigmaSchedule::ALL.into_iter().map(answer).collect() })
}

#[derive(Debug, Serialize, ToSchema)]
pub struct ParametersAnswer {
    /// By the name that a request uses.
    pub parameters: BTreeMap<&'static str, ParameterAnswer>,
}

#[derive(Debug, Default, Serialize, ToSchema)]
pub struct ParameterAnswer {
    /// string, integer or number.
    #[serde(rename = "type")]
    #[schema(example = "integer")]
    pub kind: &'static str,
    pub required: bool,
    /// What is used where nothing is said; null where that depends on the model.
    pub default: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub minimum: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub maximum: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub multiple_of: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_length: Option<u32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
    pub description: &'static str,
}

/// Every parameter of a generation, with its bounds and default.
#[utoipa::path(get, path = "/parameters", tag = "catalog", responses(
    (status = 200, body = ParametersAnswer), (status = "default", description = "Any error", body = ErrorBody)))]
pub async fn parameters(State(app): State<App>, _query: Query<()>) -> Json<ParametersAnswer> {
    let default = app.workers.default_model().ok();
    let side = default.as_ref().map_or(Value::Null, |model| json!(model.default_side));
    let mut parameters = BTreeMap::from([
        ("prompt", ParameterAnswer { required: true, ..text("What to draw.") }),
        ("negative_prompt", ParameterAnswer { default: json!(""), ..text("What is not wanted.") }),
        ("width", dimension(side.clone(), "Pixels; the model's own side by default.")),
        ("height", dimension(side, "Pixels; the model's own side by default.")),
    ]);
    parameters.extend(numbers());
    parameters.extend(choices());
    let name = default.map_or(Value::Null, |model| json!(model.name));
    let values = app.workers.models().into_iter().map(|model| model.name.to_string()).collect();
    parameters.insert("model", choice(name, values, "One of /models."));
    Json(ParametersAnswer { parameters })
}

fn text(description: &'static str) -> ParameterAnswer {
    ParameterAnswer {
        kind: "string",
        max_length: Some(10_000),
        description,
        ..ParameterAnswer::default()
    }
}

fn dimension(default: Value, description: &'static str) -> ParameterAnswer {
    let within = whole((Dimension::MIN as f64, Dimension::MAX as f64), default, description);
    ParameterAnswer { multiple_of: Some(8), ..within }
}

fn whole(
    (minimum, maximum): (f64, f64),
    default: Value,
    description: &'static str,
) -> ParameterAnswer {
    let (minimum, maximum) = (Some(minimum), Some(maximum));
    ParameterAnswer {
        kind: "integer",
        default,
        minimum,
        maximum,
        description,
        ..ParameterAnswer::default()
    }
}

fn numbers() -> [(&'static str, ParameterAnswer); 5] {
    let guidance = (GuidanceScale::MIN, GuidanceScale::MAX);
    let layers = (f64::from(CLIP_SKIP_OFFSET), ClipSkip::MAX as f64 + f64::from(CLIP_SKIP_OFFSET));
    [
        (
            "steps",
            whole(
                (Steps::MIN as f64, Steps::MAX as f64),
                json!(DEFAULT_STEPS),
                "Steps of the sampler.",
            ),
        ),
        (
            "cfg_scale",
            ParameterAnswer {
                kind: "number",
                ..whole(
                    guidance,
                    json!(DEFAULT_CFG_SCALE),
                    "How much the prompt counts; no guidance at 1 and below.",
                )
            },
        ),
        (
            "seed",
            whole(
                (-1.0, Seed::MAX as f64),
                json!(-1),
                "-1: the server chooses one and says which.",
            ),
        ),
        (
            "batch_count",
            whole((ImageCount::MIN as f64, ImageCount::MAX as f64), json!(1), "Pictures."),
        ),
        (
            "clip_skip",
            whole(
                layers,
                json!(CLIP_SKIP_OFFSET),
                "Layer of the text model, counted from the last: 1.",
            ),
        ),
    ]
}

fn choice(default: Value, values: Vec<String>, description: &'static str) -> ParameterAnswer {
    ParameterAnswer { kind: "string", default, values, description, ..ParameterAnswer::default() }
}

fn choices() -> [(&'static str, ParameterAnswer); 2] {
    let samplers =
        SchedulerKind::ALL.into_iter().map(|kind| names::sampler_label(kind).to_owned()).collect();
    let spacings = SigmaSchedule::ALL
        .into_iter()
        .map(|spacing| names::spacing_label(spacing).to_owned())
        .collect();
    [
        (
            "sampler",
            choice(json!(names::sampler_label(DEFAULT_SAMPLER)), samplers, "One of /samplers."),
        ),
        (
            "scheduler",
            choice(
                json!(names::spacing_label(DEFAULT_SCHEDULER)),
                spacings,
                "One of /schedulers; not every sampler takes each.",
            ),
        ),
    ]
}
