//! The JSON of jobs and pictures. Native names for what the inner rooms call otherwise; a picture's place
//! in the store is not in it.

use crate::{
    error::{ErrorDetail, public_message, unix_now},
    jobs::{ImageRecord, Job, JobState, clock::UnixMillis},
    names::{sampler_label, spacing_label},
};
use sdrest_proto::generation::GenerationRequest;
use serde::Serialize;
use utoipa::ToSchema;

/// What the native API calls "clip_skip" is the layer counted from the end, as A1111 counts it.
pub const CLIP_SKIP_OFFSET: u32 = 1;

#[derive(Debug, Serialize, ToSchema)]
pub struct JobWrapped {
    pub job: JobAnswer,
    /// Of a guest's job, in the answer that accepted it: show it as `X-Sdrest-Job`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct JobList {
    /// Newest first.
    pub jobs: Vec<JobAnswer>,
    /// Give it as `before` for the next page; null on the last.
    pub next: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct JobAnswer {
    pub id: String,
    #[schema(example = "txt2img")]
    pub kind: &'static str,
    /// queued, running, done, failed or cancelled.
    pub state: &'static str,
    /// 1 for the next to be started; null unless queued.
    pub position: Option<u32>,
    /// Seconds until it ends, by what earlier jobs took; null where nothing is known.
    pub eta_seconds: Option<f64>,
    pub progress: ProgressAnswer,
    /// Unix seconds.
    pub created: f64,
    pub started: Option<f64>,
    pub ended: Option<f64>,
    /// Of the first picture; the next ones have the next numbers.
    pub seed: u64,
    pub params: ParamsAnswer,
    pub images: Vec<ImageAnswer>,
    /// Why it failed.
    pub error: Option<ErrorDetail>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct ProgressAnswer {
    /// Steps done of the picture in work.
    pub step: u32,
    pub steps: u32,
    /// Pictures finished.
    pub image: u32,
    pub images: u32,
}

/// The request as it was accepted: every default filled in.
#[derive(Debug, Serialize, ToSchema)]
pub struct ParamsAnswer {
    pub prompt: String,
    pub negative_prompt: String,
    pub model: String,
    pub width: u32,
    pub height: u32,
    pub steps: u32,
    pub cfg_scale: f64,
    pub sampler: &'static str,
    pub scheduler: &'static str,
    pub seed: u64,
    pub batch_count: u32,
    /// 1 is the last layer.
    pub clip_skip: u32,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct ImageAnswer {
    pub id: String,
    #[schema(example = "/api/v1/images/0193e0a0-0000-7000-8000-000000000000")]
    pub url: String,
    /// Draws this picture alone.
    pub seed: u64,
    pub width: u32,
    pub height: u32,
    pub sha256: String,
}

impl From<&GenerationRequest> for ParamsAnswer {
    fn from(request: &GenerationRequest) -> Self {
        Self {
            prompt: request.prompt.as_str().to_owned(),
            negative_prompt: request.negative_prompt.as_str().to_owned(),
            model: request.model.as_str().to_owned(),
            width: request.width.get(),
            height: request.height.get(),
            steps: request.num_inference_steps.get(),
            cfg_scale: request.guidance_scale.get(),
            sampler: sampler_label(request.scheduler),
            scheduler: spacing_label(request.sigma_schedule),
            seed: request.seed.get(),
            batch_count: request.num_images.get(),
            clip_skip: request.clip_skip.map_or(0, |skip| skip.get()) + CLIP_SKIP_OFFSET,
        }
    }
}

impl From<&ImageRecord> for ImageAnswer {
    fn from(image: &ImageRecord) -> Self {
        Self {
            id: image.id.to_string(),
            url: format!("/api/v1/images/{}", image.id),
            seed: image.seed,
            width: image.width,
            height: image.height,
            sha256: image.sha256.clone(),
        }
    }
}

impl From<&Job> for JobAnswer {
    fn from(job: &Job) -> Self {
        let fault = job.fault.as_ref();
        Self {
            id: job.id.to_string(),
            kind: job.kind.as_str(),
            state: job.state.as_str(),
            position: job.position,
            eta_seconds: job.eta_seconds,
            progress: progress(job),
            created: seconds(job.created),
            started: job.started.map(seconds),
            ended: job.ended.map(seconds),
            seed: job.request.seed.get(),
            params: ParamsAnswer::from(&job.request),
            images: job.images.iter().map(ImageAnswer::from).collect(),
            error: fault.map(|fault| ErrorDetail {
                message: public_message(fault),
                code: fault.code.as_str().to_owned(),
                timestamp: job.ended.map_or_else(unix_now, |ended| seconds(ended) as u64),
            }),
        }
    }
}

impl From<&Job> for JobWrapped {
    fn from(job: &Job) -> Self {
        Self { job: JobAnswer::from(job), secret: None }
    }
}

/// Progress lives in memory only; what a job that is done has reached is known without it.
fn progress(job: &Job) -> ProgressAnswer {
    let (steps, images) = (job.request.num_inference_steps.get(), job.request.num_images.get());
    if job.state == JobState::Done {
        return ProgressAnswer { step: steps, steps, image: images, images };
    }
    let known = job.progress;
    let steps = if known.steps == 0 { steps } else { known.steps };
    ProgressAnswer { step: known.step, steps, image: known.image, images }
}

/// Seconds with their milliseconds.
pub fn seconds(time: UnixMillis) -> f64 {
    time.0 as f64 / 1000.0
}
