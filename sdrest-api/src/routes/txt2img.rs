//! The native body of a generation, made into a request in diffusers' words: names translated, defaults
//! filled in, every value within its bounds. The defaults and bounds are those that `/parameters` shows.

use super::answers::CLIP_SKIP_OFFSET;
use crate::{
    edge::{Fields, FromFields},
    error::ApiError,
    names,
};
use sdrest_proto::{
    bounds::{
        BoundsError, ClipSkip, Dimension, GuidanceScale, ImageCount, ModelName, Prompt, Seed, Steps,
    },
    generation::{GenerationRequest, check_pair},
    model::ModelInfo,
    sampling::{SchedulerKind, SigmaSchedule},
};
use utoipa::ToSchema;

pub const DEFAULT_STEPS: u32 = 20;
pub const DEFAULT_CFG_SCALE: f64 = 7.0;
pub const DEFAULT_SAMPLER: SchedulerKind = SchedulerKind::EulerDiscrete;
pub const DEFAULT_SCHEDULER: SigmaSchedule = SigmaSchedule::Default;
/// A chosen seed is below 2³², as other programs choose theirs.
const CHOSEN_SEEDS: u64 = 1 << 32;

/// What to draw.
#[derive(Debug, ToSchema)]
pub struct TextToImage {
    /// At most 10000 characters.
    #[schema(value_type = String, example = "a red circle on a white background")]
    pub prompt: Prompt,
    /// What is not wanted.
    #[schema(value_type = Option<String>)]
    pub negative_prompt: Option<Prompt>,
    /// One of `/models`; the first by default.
    #[schema(value_type = Option<String>)]
    pub model: Option<ModelName>,
    /// Pixels, a multiple of 8; the model's own side by default.
    #[schema(value_type = Option<u32>, minimum = 64, maximum = 2048)]
    pub width: Option<Dimension>,
    #[schema(value_type = Option<u32>, minimum = 64, maximum = 2048)]
    pub height: Option<Dimension>,
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 150, default = 20)]
    pub steps: Option<Steps>,
    /// How much the prompt counts; there is no guidance at 1 and below.
    #[schema(value_type = Option<f64>, minimum = 0, maximum = 30, default = 7.0)]
    pub cfg_scale: Option<GuidanceScale>,
    /// One of `/samplers`.
    #[schema(value_type = Option<String>, default = "Euler")]
    pub sampler: Option<SchedulerKind>,
    /// One of `/schedulers` that the sampler takes.
    #[schema(value_type = Option<String>, default = "Automatic")]
    pub scheduler: Option<SigmaSchedule>,
    /// -1 lets the server choose; the answer says which it chose. The next pictures have the next numbers.
    #[schema(value_type = Option<i64>, minimum = -1, maximum = 9007199254740983_i64, default = -1)]
    pub seed: Option<Seed>,
    /// Pictures.
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 8, default = 1)]
    pub batch_count: Option<ImageCount>,
    /// Which of the text model's layers is used, counted from the last, which is 1.
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 12, default = 1)]
    pub clip_skip: Option<ClipSkip>,
}

impl FromFields for TextToImage {
    fn from_fields(fields: &mut Fields) -> Result<Self, ApiError> {
        let prompt = fields.bounded_text("prompt")?.ok_or_else(|| fields.missing("prompt"))?;
        Ok(Self {
            prompt,
            negative_prompt: fields.bounded_text("negative_prompt")?,
            model: fields.bounded_text("model")?,
            width: fields.whole("width", Dimension::MIN, Dimension::MAX)?,
            height: fields.whole("height", Dimension::MIN, Dimension::MAX)?,
            steps: fields.whole("steps", Steps::MIN, Steps::MAX)?,
            cfg_scale: cfg_scale(fields)?,
            sampler: fields.text("sampler")?.map(|name| names::sampler(&name)).transpose()?,
            scheduler: fields.text("scheduler")?.map(|name| names::spacing(&name)).transpose()?,
            seed: seed(fields)?,
            batch_count: fields.whole("batch_count", ImageCount::MIN, ImageCount::MAX)?,
            clip_skip: clip_skip(fields)?,
        })
    }
}

fn cfg_scale(fields: &mut Fields) -> Result<Option<GuidanceScale>, ApiError> {
    const NAME: &str = "cfg_scale";
    let bounds = format!("between {} and {}", GuidanceScale::MIN, GuidanceScale::MAX);
    let Some(value) = fields.number(NAME, &bounds)? else { return Ok(None) };
    GuidanceScale::try_from(value).map(Some).map_err(|error| fields.out_of_bounds(NAME, error))
}

/// -1 is nobody's seed: the server chooses one.
fn seed(fields: &mut Fields) -> Result<Option<Seed>, ApiError> {
    const NAME: &str = "seed";
    let bounds = format!("-1, or between {} and {}", Seed::MIN, Seed::MAX);
    let value = fields.integer(NAME, &bounds)?.filter(|value| *value != -1);
    let Some(value) = value else { return Ok(None) };
    let seed = u64::try_from(value).ok().and_then(|value| Seed::try_from(value).ok());
    seed.map(Some).ok_or_else(|| fields.wrong(NAME, &bounds, &value.to_string()))
}

/// 1 is the last layer: nothing is left out.
fn clip_skip(fields: &mut Fields) -> Result<Option<ClipSkip>, ApiError> {
    const NAME: &str = "clip_skip";
    let offset = u64::from(CLIP_SKIP_OFFSET);
    let bounds = format!("between {offset} and {}", ClipSkip::MAX + offset);
    let Some(value) = fields.integer(NAME, &bounds)? else { return Ok(None) };
    let wrong = || fields.wrong(NAME, &bounds, &value.to_string());
    let left_out =
        u64::try_from(value).ok().and_then(|value| value.checked_sub(offset)).ok_or_else(wrong)?;
    if left_out == 0 {
        return Ok(None);
    }
    ClipSkip::try_from(left_out).map(Some).map_err(|_| wrong())
}

impl TextToImage {
    /// The request that goes into the queue. `model` is the one named in the body, or the default.
    pub fn into_request(self, model: &ModelInfo) -> Result<GenerationRequest, ApiError> {
        let own_side = || Dimension::try_from(u64::from(model.default_side));
        let width = self.width.map_or_else(own_side, Ok)?;
        let height = self.height.map_or_else(own_side, Ok)?;
        check_multiple("width", width, model)?;
        check_multiple("height", height, model)?;
        let scheduler = self.sampler.unwrap_or(DEFAULT_SAMPLER);
        let sigma_schedule = self.scheduler.unwrap_or(DEFAULT_SCHEDULER);
        check_pair(scheduler, sigma_schedule)
            .map_err(|error| pair_error(error, scheduler, sigma_schedule))?;
        Ok(GenerationRequest {
            model: model.name.clone(),
            prompt: self.prompt,
            negative_prompt: self.negative_prompt.unwrap_or_else(Prompt::empty),
            width,
            height,
            num_inference_steps: self
                .steps
                .map_or_else(|| Steps::try_from(u64::from(DEFAULT_STEPS)), Ok)?,
            guidance_scale: self
                .cfg_scale
                .map_or_else(|| GuidanceScale::try_from(DEFAULT_CFG_SCALE), Ok)?,
            scheduler,
            sigma_schedule,
            seed: self.seed.map_or_else(choose_seed, Ok)?,
            num_images: self.batch_count.map_or_else(|| ImageCount::try_from(1), Ok)?,
            clip_skip: self.clip_skip,
        })
    }
}

fn choose_seed() -> Result<Seed, ApiError> {
    let random = getrandom::u64().map_err(ApiError::internal)?;
    Ok(Seed::try_from(random % CHOSEN_SEEDS)?)
}

/// The VAE shrinks by its factor; a side that is no multiple of it has no latent.
fn check_multiple(name: &'static str, side: Dimension, model: &ModelInfo) -> Result<(), ApiError> {
    let factor = model.vae_scale_factor.max(1);
    if side.get().is_multiple_of(factor) {
        return Ok(());
    }
    let bounds =
        format!("`{name}` must be a multiple of {factor} for the model {}, got {side}", model.name);
    Err(ApiError::new(sdrest_proto::error::ErrorCode::ValidationFailed, bounds))
}

/// Says it in the names that this API uses.
fn pair_error(error: BoundsError, scheduler: SchedulerKind, spacing: SigmaSchedule) -> ApiError {
    let takes: Vec<&str> =
        scheduler.spacings().iter().map(|spacing| names::spacing_label(*spacing)).collect();
    let others: Vec<&str> = SchedulerKind::ALL
        .into_iter()
        .filter(|kind| kind.takes(spacing))
        .map(names::sampler_label)
        .collect();
    let (sampler, spacing) = (names::sampler_label(scheduler), names::spacing_label(spacing));
    let message = format!(
        "`scheduler` must be {} for the sampler {sampler}, got {spacing}; {spacing} goes with {}",
        takes.join(" or "),
        others.join(", ")
    );
    ApiError::new(sdrest_proto::error::ErrorCode::ValidationFailed, message).because(error)
}
