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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn model() -> ModelInfo {
        ModelInfo {
            name: ModelName::try_from("demo".to_owned()).unwrap(),
            family: "sd-1.x".to_owned(),
            prediction_type: "epsilon".to_owned(),
            default_side: 128,
            vae_scale_factor: 16,
            hash: None,
            loaded: true,
            fault: None,
        }
    }

    fn request(body: Value) -> Result<GenerationRequest, String> {
        let mut fields = Fields::of_body(body).unwrap();
        let read = TextToImage::from_fields(&mut fields).and_then(|body| {
            fields.finish()?;
            body.into_request(&model())
        });
        read.map_err(|error| error.fault().message.clone())
    }

    #[test]
    fn defaults_come_from_the_model_and_the_table() {
        let made = request(json!({"prompt": "x"})).unwrap();
        assert_eq!((made.width.get(), made.height.get()), (128, 128));
        assert_eq!((made.num_inference_steps.get(), made.num_images.get()), (DEFAULT_STEPS, 1));
        assert_eq!((made.scheduler, made.sigma_schedule), (DEFAULT_SAMPLER, DEFAULT_SCHEDULER));
        assert_eq!(made.clip_skip, None);
        assert!(made.seed.get() < CHOSEN_SEEDS);
        assert_eq!(made.model.as_str(), "demo");
    }

    #[test]
    fn a_chosen_seed_is_another_each_time_and_a_given_one_is_kept() {
        let chosen = || request(json!({"prompt": "x", "seed": -1})).unwrap().seed.get();
        let seeds: std::collections::HashSet<u64> = (0..8).map(|_| chosen()).collect();
        assert!(seeds.len() > 1);
        assert_eq!(request(json!({"prompt": "x", "seed": 7})).unwrap().seed.get(), 7);
    }

    #[test]
    fn names_are_translated_and_layers_counted_from_the_last() {
        let body =
            json!({"prompt": "x", "sampler": "dpm++ 2m", "scheduler": "KARRAS", "clip_skip": 2});
        let made = request(body).unwrap();
        assert_eq!(made.scheduler, SchedulerKind::DpmSolverMultistep);
        assert_eq!(made.sigma_schedule, SigmaSchedule::Karras);
        assert_eq!(made.clip_skip.map(ClipSkip::get), Some(1));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (body, message) in [
            (json!({}), "`prompt` is missing"),
            (json!({"prompt": 1}), "`prompt` must be a text, got 1"),
            (json!({"prompt": "x", "steps": 0}), "`steps` must be between 1 and 150, got 0"),
            (
                json!({"prompt": "x", "cfg_scale": 31}),
                "`cfg_scale` must be between 0 and 30, got 31",
            ),
            (
                json!({"prompt": "x", "width": 100}),
                "`width` must be between 64 and 2048 and a multiple of 8, got 100",
            ),
            (
                json!({"prompt": "x", "width": 136}),
                "`width` must be a multiple of 16 for the model demo, got 136",
            ),
            (
                json!({"prompt": "x", "seed": -2}),
                "`seed` must be -1, or between 0 and 9007199254740983, got -2",
            ),
            (json!({"prompt": "x", "clip_skip": 0}), "`clip_skip` must be between 1 and 12, got 0"),
            (
                json!({"prompt": "x", "clip_skip": 13}),
                "`clip_skip` must be between 1 and 12, got 13",
            ),
            (
                json!({"prompt": "x", "batch_count": 9}),
                "`batch_count` must be between 1 and 8, got 9",
            ),
            (
                json!({"prompt": "x", "sampler": "DDIM", "scheduler": "Karras"}),
                "`scheduler` must be Automatic for the sampler DDIM, got Karras; Karras goes with Euler, DPM++ 2M",
            ),
        ] {
            assert_eq!(request(body.clone()).unwrap_err(), message, "{body}");
        }
        let unknown = request(json!({"prompt": "x", "lora": []})).unwrap_err();
        assert!(unknown.starts_with("unknown field \"lora\"; known are `prompt`"), "{unknown}");
        let long = request(json!({"prompt": "x".repeat(20_000)})).unwrap_err();
        assert!(long.contains("at most 10000 characters") && long.len() < 300, "{long}");
    }
}
