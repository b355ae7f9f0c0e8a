//! What diffusers' two Euler classes share: where their steps stand on the training schedule, the scaling
//! of the UNet's input, and the derivative that its output stands for. All of it in float32, whatever the
//! sample's dtype, as diffusers upcasts.

use super::config::{Keys, PredictionType, TimestepSpacing};
use super::noise_schedule::NoiseSchedule;
use super::numpy;
use super::scheduler::{SchedulerError, Tables};
use tch::{Kind, Tensor};

/// `steps_offset` of every Stable Diffusion pipeline: its constructor in diffusers sets it to 1, whatever
/// the configuration says.
pub(super) const STEPS_OFFSET: f64 = 1.0;

/// How the initial noise is scaled.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum NoiseScale {
    /// To the highest sigma.
    HighestSigma,
    /// To the norm of noise of the highest sigma over a sample of norm 1.
    WithSample,
}

/// Float32 times, in the order of the steps.
pub(super) struct Placement {
    pub(super) timesteps: Vec<f64>,
    pub(super) scale: NoiseScale,
}

/// A run over sigmas.
pub(super) struct SigmaSpace {
    pub(super) timesteps: Vec<f64>,
    pub(super) init_noise_sigma: f64,
    pub(super) tables: Tables,
    sigmas: Tensor,
    prediction: PredictionType,
    next: usize,
}

/// What a UNet's output says about a sample.
pub(super) struct Denoised {
    /// In float32.
    pub(super) sample: Tensor,
    pub(super) derivative: Tensor,
    /// The sample's noise level.
    pub(super) sigma: Tensor,
}

impl SigmaSpace {
    /// `set_timesteps` of the Euler classes, up to its timesteps.
    pub(super) fn placement(
        keys: &Keys<'_>,
        train_steps: usize,
        steps: u32,
    ) -> Result<Placement, SchedulerError> {
        let (train, count) = (train_steps as f64, f64::from(steps));
        let down = |values: Vec<f64>| values.into_iter().rev();
        let spacing = keys.timestep_spacing("linspace")?;
        let timesteps: Vec<f64> = match spacing {
            TimestepSpacing::Linspace => {
                down(numpy::linspace(0.0, train - 1.0, steps as usize)).map(in_float32).collect()
            }
            TimestepSpacing::Leading => {
                let ratio = (train / count).floor();
                down((0..steps).map(|i| f64::from(i) * ratio).collect())
                    .map(|t| t + STEPS_OFFSET)
                    .collect()
            }
            TimestepSpacing::Trailing => numpy::arange_down(train, train / count)
                .into_iter()
                .map(|t| in_float32(t.round_ties_even()) - 1.0)
                .collect(),
        };
        let scale = match spacing {
            TimestepSpacing::Leading => NoiseScale::WithSample,
            TimestepSpacing::Linspace | TimestepSpacing::Trailing => NoiseScale::HighestSigma,
        };
        Ok(Placement { timesteps, scale })
    }

    /// `walk` holds the timesteps and one sigma more.
    pub(super) fn new(
        noise: NoiseSchedule,
        walk: (Vec<f64>, Vec<f64>),
        scale: NoiseScale,
        prediction: PredictionType,
    ) -> Result<Self, SchedulerError> {
        let (timesteps, sigmas) = walk;
        let sigmas = Tensor::f_from_slice(&sigmas)?.f_to_kind(Kind::Float)?;
        let highest = sigmas.f_max()?;
        let init_noise_sigma = match scale {
            NoiseScale::HighestSigma => highest,
            NoiseScale::WithSample => norm_with_sample(&highest)?,
        };
        let init_noise_sigma = f64::try_from(init_noise_sigma)?;
        let tables = Tables {
            betas: noise.betas,
            alphas_cumprod: noise.alphas_cumprod,
            sigmas: Some(sigmas.shallow_clone()),
        };
        Ok(Self { timesteps, init_noise_sigma, tables, sigmas, prediction, next: 0 })
    }

    /// The noise level before step `index`, or after the last one.
    pub(super) fn sigma(&self, index: usize) -> Result<Tensor, SchedulerError> {
        Ok(self.sigmas.f_select(0, index as i64)?)
    }

    pub(super) fn scale_model_input(
        &self,
        sample: &Tensor,
        index: usize,
    ) -> Result<Tensor, SchedulerError> {
        Ok(sample.f_div(&norm_with_sample(&self.sigma(index)?)?)?)
    }

    /// Takes the UNet's output of step `index` for what it means.
    pub(super) fn denoise(
        &mut self,
        model_output: &Tensor,
        index: usize,
        sample: &Tensor,
    ) -> Result<Denoised, SchedulerError> {
        if index != self.next || index >= self.timesteps.len() {
            let (expected, count) = (self.next, self.timesteps.len());
            return Err(SchedulerError::OutOfOrder { index, expected, count });
        }
        self.next += 1;
        let sigma = self.sigma(index)?;
        let sample = sample.f_to_kind(Kind::Float)?;
        let original = match self.prediction {
            PredictionType::Epsilon => sample.f_sub(&sigma.f_mul(model_output)?)?,
            PredictionType::Sample => model_output.shallow_clone(),
            PredictionType::VPrediction => {
                let square = sigma.f_pow_tensor_scalar(2)?.f_add_scalar(1)?;
                let of_output = sigma.f_neg()?.f_div(&square.f_pow_tensor_scalar(0.5)?)?;
                model_output.f_mul(&of_output)?.f_add(&sample.f_div(&square)?)?
            }
        };
        let derivative = sample.f_sub(&original)?.f_div(&sigma)?;
        Ok(Denoised { sample, derivative, sigma })
    }
}

/// `(sigma ** 2 + 1) ** 0.5`
fn norm_with_sample(sigma: &Tensor) -> Result<Tensor, SchedulerError> {
    Ok(sigma.f_pow_tensor_scalar(2)?.f_add_scalar(1)?.f_pow_tensor_scalar(0.5)?)
}

fn in_float32(value: f64) -> f64 {
    f64::from(value as f32)
}
