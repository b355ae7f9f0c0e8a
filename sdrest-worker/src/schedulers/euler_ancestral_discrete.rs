//! Ancestral sampling with Euler steps (k-diffusion's `sample_euler_ancestral`): diffusers'
//! `EulerAncestralDiscreteScheduler`. Each step goes a little further down than it has to and comes back
//! up with fresh noise; the last one too, where the noise is multiplied by 0.

use super::config::{Keys, PredictionType};
use super::noise_schedule::NoiseSchedule;
use super::numpy;
use super::scheduler::{Scheduler, SchedulerError, Tables};
use super::sigma_space::{Denoised, SigmaSpace};
use tch::Tensor;

pub(super) struct EulerAncestralDiscrete {
    space: SigmaSpace,
}

impl EulerAncestralDiscrete {
    pub(super) fn new(keys: &Keys<'_>, steps: u32) -> Result<Self, SchedulerError> {
        let prediction = keys.prediction_type(&[
            ("epsilon", PredictionType::Epsilon),
            ("v_prediction", PredictionType::VPrediction),
        ])?;
        let noise = NoiseSchedule::new(keys)?.with_finite_sigmas()?;
        let training = noise.sigmas()?;
        let placement = SigmaSpace::placement(keys, noise.num_train_timesteps, steps)?;
        let mut sigmas: Vec<f64> =
            placement.timesteps.iter().map(|t| numpy::interp(*t, &training)).collect();
        sigmas.push(0.0);
        Ok(Self {
            space: SigmaSpace::new(
                noise,
                (placement.timesteps, sigmas),
                placement.scale,
                prediction,
            )?,
        })
    }
}

impl Scheduler for EulerAncestralDiscrete {
    fn timesteps(&self) -> &[f64] {
        &self.space.timesteps
    }

    fn init_noise_sigma(&self) -> f64 {
        self.space.init_noise_sigma
    }

    fn scale_model_input(&self, sample: &Tensor, index: usize) -> Result<Tensor, SchedulerError> {
        self.space.scale_model_input(sample, index)
    }

    fn takes_noise(&self, index: usize) -> bool {
        index < self.space.timesteps.len()
    }

    fn step(
        &mut self,
        model_output: &Tensor,
        index: usize,
        sample: &Tensor,
        noise: Option<&Tensor>,
    ) -> Result<Tensor, SchedulerError> {
        let noise = noise.ok_or(SchedulerError::NoiseMissing(index))?;
        let Denoised { sample, derivative, sigma } =
            self.space.denoise(model_output, index, sample)?;
        let (down, up) = ancestral_step(&sigma, &self.space.sigma(index + 1)?)?;
        let prev_sample = sample.f_add(&derivative.f_mul(&down.f_sub(&sigma)?)?)?;
        let prev_sample = prev_sample.f_add(&noise.f_mul(&up)?)?;
        Ok(prev_sample.f_to_kind(model_output.f_kind()?)?)
    }

    fn tables(&self) -> &Tables {
        &self.space.tables
    }
}

/// How far to go down, and how much noise brings the level back up to `to`.
fn ancestral_step(from: &Tensor, to: &Tensor) -> Result<(Tensor, Tensor), SchedulerError> {
    let (from, to) = (from.f_pow_tensor_scalar(2)?, to.f_pow_tensor_scalar(2)?);
    let up = to.f_mul(&from.f_sub(&to)?)?.f_div(&from)?.f_pow_tensor_scalar(0.5)?;
    let down = to.f_sub(&up.f_pow_tensor_scalar(2)?)?.f_pow_tensor_scalar(0.5)?;
    Ok((down, up))
}
