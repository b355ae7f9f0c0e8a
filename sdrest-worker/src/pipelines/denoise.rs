//! Step 7 of diffusers' pipelines: the denoising loop, of which this is the only body. A slot advances one
//! step per call, so that slots can take turns and stop between two steps.

use super::{decode, error::PipelineError, guidance::Guidance};
use crate::{loaders::StableDiffusion, prompt::PromptEmbeds, schedulers::Scheduler};
use sdrest_proto::image::Rgb8Image;
use tch::Tensor;

/// One admitted request, with all that its steps need.
pub struct Slot {
    pub(super) latents: Tensor,
    pub(super) scheduler: Box<dyn Scheduler>,
    pub(super) embeds: PromptEmbeds,
    pub(super) guidance: Guidance,
    /// For each step, where it takes noise.
    pub(super) noise: Vec<Option<Tensor>>,
    pub(super) done: usize,
}

impl Slot {
    /// UNet steps in all.
    pub fn steps(&self) -> usize {
        self.scheduler.timesteps().len()
    }

    /// UNet steps done.
    pub fn steps_done(&self) -> usize {
        self.done
    }

    pub fn is_denoised(&self) -> bool {
        self.done >= self.steps()
    }

    /// Pictures in this slot.
    pub fn num_images(&self) -> usize {
        self.latents.size().first().map_or(0, |&n| usize::try_from(n).unwrap_or(0))
    }

    /// Rows of the UNet's batch at each step: what a step costs, times the latents' size.
    pub fn rows(&self) -> usize {
        match self.guidance {
            Guidance::Off => self.num_images(),
            Guidance::Scale(_) => self.num_images() * 2,
        }
    }

    /// The latents as they stand, (num_images, channels, h, w), for tests.
    pub fn latents(&self) -> &Tensor {
        &self.latents
    }

    /// One step. `model` must be the one that admitted the slot.
    pub fn step(&mut self, model: &StableDiffusion) -> Result<(), PipelineError> {
        let _guard = tch::no_grad_guard();
        let index = self.done;
        let Some(&timestep) = self.scheduler.timesteps().get(index) else {
            return Err(PipelineError::Finished);
        };

        // Expand the latents if we are doing classifier free guidance.
        let input =
            self.scheduler.scale_model_input(&self.guidance.expand(&self.latents)?, index)?;
        let options = model.options;
        let input = input.f_to_device(options.device)?.f_to_kind(options.kind)?;

        // Predict the noise. Every timestep is exact in float32, in which its embedding is computed.
        let timestep = Tensor::f_from_slice(&[timestep as f32])?.f_to_device(options.device)?;
        let noise_pred = model.unet.forward(&input, &timestep, &self.embeds.0)?;

        // Perform guidance, then compute the previous noisy sample x_t -> x_t-1.
        let noise_pred = self.guidance.combine(noise_pred)?;
        // Noise is drawn on the CPU; it moves step by step, so that a device never holds that of all steps.
        let noise = self.noise.get(index).and_then(Option::as_ref);
        let noise = noise.map(|noise| noise.f_to_device(options.device)).transpose()?;
        self.latents = self.scheduler.step(&noise_pred, index, &self.latents, noise.as_ref())?;
        if let Some(used) = self.noise.get_mut(index) {
            *used = None;
        }
        self.done = index + 1;
        Ok(())
    }

    /// Picture `index` from the latents as they stand. Pictures are decoded one by one: memory for one is
    /// enough, and a picture's bytes do not depend on how many were asked for.
    pub fn decode(
        &self,
        model: &StableDiffusion,
        index: usize,
    ) -> Result<Rgb8Image, PipelineError> {
        let count = self.num_images();
        let row = i64::try_from(index).ok().filter(|_| index < count);
        let row = row.ok_or(PipelineError::NoSuchImage { index, count })?;
        decode::decode(model, &self.latents.f_narrow(0, row, 1)?)
    }
}
