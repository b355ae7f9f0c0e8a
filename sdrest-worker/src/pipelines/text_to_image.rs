//! diffusers' `StableDiffusionPipeline.__call__`, up to the denoising loop: what turns a request into a slot.

use super::{
    denoise::Slot,
    error::PipelineError,
    guidance::Guidance,
    latents::{self, NoisePlan},
};
use crate::{
    loaders::StableDiffusion,
    prompt::{PromptText, encode_prompt},
    schedulers,
};
use sdrest_proto::generation::GenerationRequest;

/// Steps 1 to 6 of the pipeline. Draws all noise that the request will need.
pub fn admit(model: &StableDiffusion, request: &GenerationRequest) -> Result<Slot, PipelineError> {
    let _guard = tch::no_grad_guard();

    // 1. Check inputs: what the request's own types cannot know.
    let shape = latent_shape(model, request)?;

    // 2. Define call parameters.
    let guidance = Guidance::from(request.guidance_scale);

    // 3. Encode input prompt.
    let text = PromptText {
        prompt: request.prompt.as_str(),
        negative_prompt: (guidance != Guidance::Off).then(|| request.negative_prompt.as_str()),
        clip_skip: request.clip_skip.map(|skip| skip.get() as usize),
    };
    let num_images = i64::from(request.num_images.get());
    let embeds = encode_prompt(&model.tokenizer, &model.text_encoder, text, num_images)?;

    // 4. Prepare timesteps.
    let (config, steps) = (&model.description.scheduler, request.num_inference_steps.get());
    let scheduler = schedulers::build(config, request.scheduler, request.sigma_schedule, steps)?;

    // 5. Prepare latent variables, and the noise of the steps with them.
    let takes_noise: Vec<bool> =
        (0..scheduler.timesteps().len()).map(|index| scheduler.takes_noise(index)).collect();
    let (seed, num_images) = (request.seed.get(), request.num_images.get());
    let noise = latents::draw(&NoisePlan { shape, seed, num_images, steps: &takes_noise })?;
    let latents = noise.initial.f_mul_scalar(scheduler.init_noise_sigma())?;
    let latents = latents.f_to_device(model.options.device)?.f_to_kind(model.options.kind)?;

    Ok(Slot { latents, scheduler, embeds, guidance, noise: noise.steps, done: 0 })
}

/// (channels, height, width) of one image's latents.
fn latent_shape(
    model: &StableDiffusion,
    request: &GenerationRequest,
) -> Result<[i64; 3], PipelineError> {
    let multiple = model.description.vae.scale_factor().max(1);
    let side = |parameter: &'static str, value: u32| {
        if !value.is_multiple_of(multiple) {
            return Err(PipelineError::Size { parameter, multiple, value });
        }
        Ok(i64::from(value / multiple))
    };
    let (height, width) =
        (side("height", request.height.get())?, side("width", request.width.get())?);
    Ok([model.description.unet.in_channels, height, width])
}
