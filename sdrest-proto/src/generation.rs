//! What a worker is asked to draw, in diffusers' words. A decoded request is a valid one: every field is
//! bounded and the pair of scheduler and spacing exists.

use crate::{
    bounds::{
        BoundsError, ClipSkip, Dimension, GuidanceScale, ImageCount, ModelName, Prompt, Seed, Steps,
    },
    sampling::{SchedulerKind, SigmaSchedule},
};
use serde::{Deserialize, Serialize};

/// One request: `num_images` pictures of one prompt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "UncheckedRequest")]
pub struct GenerationRequest {
    pub model: ModelName,
    pub prompt: Prompt,
    pub negative_prompt: Prompt,
    pub width: Dimension,
    pub height: Dimension,
    pub num_inference_steps: Steps,
    pub guidance_scale: GuidanceScale,
    pub scheduler: SchedulerKind,
    pub sigma_schedule: SigmaSchedule,
    pub seed: Seed,
    pub num_images: ImageCount,
    pub clip_skip: Option<ClipSkip>,
}

#[derive(Deserialize)]
struct UncheckedRequest {
    model: ModelName,
    prompt: Prompt,
    negative_prompt: Prompt,
    width: Dimension,
    height: Dimension,
    num_inference_steps: Steps,
    guidance_scale: GuidanceScale,
    scheduler: SchedulerKind,
    sigma_schedule: SigmaSchedule,
    seed: Seed,
    num_images: ImageCount,
    clip_skip: Option<ClipSkip>,
}

impl TryFrom<UncheckedRequest> for GenerationRequest {
    type Error = BoundsError;
    fn try_from(u: UncheckedRequest) -> Result<Self, BoundsError> {
        check_pair(u.scheduler, u.sigma_schedule)?;
        Ok(Self {
            model: u.model,
            prompt: u.prompt,
            negative_prompt: u.negative_prompt,
            width: u.width,
            height: u.height,
            num_inference_steps: u.num_inference_steps,
            guidance_scale: u.guidance_scale,
            scheduler: u.scheduler,
            sigma_schedule: u.sigma_schedule,
            seed: u.seed,
            num_images: u.num_images,
            clip_skip: u.clip_skip,
        })
    }
}

/// Refuses a pair for which diffusers' class has no flag, naming the pairs that work.
pub fn check_pair(scheduler: SchedulerKind, spacing: SigmaSchedule) -> Result<(), BoundsError> {
    if scheduler.takes(spacing) {
        return Ok(());
    }
    let works: Vec<String> = SchedulerKind::ALL
        .into_iter()
        .filter(|kind| kind.takes(spacing))
        .map(|kind| kind.class_name().to_owned())
        .collect();
    Err(BoundsError {
        parameter: "scheduler",
        bounds: format!(
            "a spacing that {} takes ({spacing:?} goes with {})",
            scheduler.class_name(),
            works.join(", ")
        ),
        value: format!("{spacing:?}"),
    })
}
