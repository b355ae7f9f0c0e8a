//! A generation request as a row keeps it: JSON with names of its own, so that a change of the wire types
//! leaves old rows readable. Reading it checks every bound again.

use crate::jobs::store::record::StoreError;
use sdrest_proto::{
    bounds::{
        BoundsError, ClipSkip, Dimension, GuidanceScale, ImageCount, ModelName, Prompt, Seed, Steps,
    },
    generation::{GenerationRequest, check_pair},
    sampling::{SchedulerKind, SigmaSchedule},
};
use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredRequest {
    model: String,
    prompt: String,
    negative_prompt: String,
    width: u64,
    height: u64,
    steps: u64,
    guidance_scale: f64,
    scheduler: String,
    spacing: String,
    seed: u64,
    images: u64,
    clip_skip: Option<u64>,
}

fn spacing_name(spacing: SigmaSchedule) -> &'static str {
    match spacing {
        SigmaSchedule::Default => "default",
        SigmaSchedule::Karras => "karras",
    }
}

/// The text for the row.
pub(super) fn to_json(request: &GenerationRequest) -> Result<String, StoreError> {
    let stored = StoredRequest {
        model: request.model.as_str().to_owned(),
        prompt: request.prompt.as_str().to_owned(),
        negative_prompt: request.negative_prompt.as_str().to_owned(),
        width: request.width.into(),
        height: request.height.into(),
        steps: request.num_inference_steps.into(),
        guidance_scale: request.guidance_scale.into(),
        scheduler: request.scheduler.class_name().to_owned(),
        spacing: spacing_name(request.sigma_schedule).to_owned(),
        seed: request.seed.into(),
        images: request.num_images.into(),
        clip_skip: request.clip_skip.map(u64::from),
    };
    serde_json::to_string(&stored).map_err(|error| StoreError::corrupt("a request", error))
}

/// The request in a row.
pub(super) fn from_json(text: &str) -> Result<GenerationRequest, StoreError> {
    let stored: StoredRequest =
        serde_json::from_str(text).map_err(|error| StoreError::corrupt("jobs.request", error))?;
    check(stored).map_err(|error| StoreError::corrupt("jobs.request", error))
}

fn check(stored: StoredRequest) -> Result<GenerationRequest, BoundsError> {
    let unknown = |parameter, value: &str| BoundsError {
        parameter,
        bounds: "a name that this build knows".to_owned(),
        value: sdrest_proto::bounds::quote(value),
    };
    let scheduler = SchedulerKind::ALL
        .into_iter()
        .find(|kind| kind.class_name() == stored.scheduler)
        .ok_or_else(|| unknown("scheduler", &stored.scheduler))?;
    let sigma_schedule = SigmaSchedule::ALL
        .into_iter()
        .find(|spacing| spacing_name(*spacing) == stored.spacing)
        .ok_or_else(|| unknown("spacing", &stored.spacing))?;
    check_pair(scheduler, sigma_schedule)?;
    Ok(GenerationRequest {
        model: ModelName::try_from(stored.model)?,
        prompt: Prompt::try_from(stored.prompt)?,
        negative_prompt: Prompt::try_from(stored.negative_prompt)?,
        width: Dimension::try_from(stored.width)?,
        height: Dimension::try_from(stored.height)?,
        num_inference_steps: Steps::try_from(stored.steps)?,
        guidance_scale: GuidanceScale::try_from(stored.guidance_scale)?,
        scheduler,
        sigma_schedule,
        seed: Seed::try_from(stored.seed)?,
        num_images: ImageCount::try_from(stored.images)?,
        clip_skip: stored.clip_skip.map(ClipSkip::try_from).transpose()?,
    })
}
