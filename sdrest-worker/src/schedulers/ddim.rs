//! Denoising diffusion implicit models (arXiv:2010.02502, formula 12, eta = 0): diffusers'
//! `DDIMScheduler` as a Stable Diffusion pipeline runs it. That pipeline's constructor turns `clip_sample`
//! off and sets `steps_offset` to 1, whatever the configuration says, so neither key is looked at.

use super::config::{Flag, Keys, PredictionType, TimestepSpacing};
use super::noise_schedule::NoiseSchedule;
use super::numpy;
use super::scheduler::{Scheduler, SchedulerError, Tables};
use super::sigma_space::STEPS_OFFSET;
use tch::{Device, Kind, Tensor};

pub(super) struct Ddim {
    timesteps: Vec<f64>,
    tables: Tables,
    final_alpha_cumprod: Tensor,
    /// How many training steps one step goes back.
    stride: i64,
    prediction: PredictionType,
    next: usize,
}

impl Ddim {
    pub(super) fn new(keys: &Keys<'_>, steps: u32) -> Result<Self, SchedulerError> {
        let prediction = keys.prediction_type(&[
            ("epsilon", PredictionType::Epsilon),
            ("v_prediction", PredictionType::VPrediction),
            ("sample", PredictionType::Sample),
        ])?;
        keys.must_be_off(&["thresholding"])?;
        let set_alpha_to_one = keys.flag("set_alpha_to_one", Flag::On)?;
        let noise = NoiseSchedule::new(keys)?;
        let train_steps = noise.num_train_timesteps;
        if steps as usize > train_steps {
            return Err(SchedulerError::Steps {
                class: keys.class,
                most: train_steps as u32,
                value: steps,
            });
        }
        let timesteps = placement(keys, train_steps, steps)?;
        let reach = -(train_steps as f64)..train_steps as f64;
        if !timesteps.iter().all(|t| reach.contains(t)) {
            let why = "with the pipeline's `steps_offset` of 1 its first step lies past the last training step";
            return Err(SchedulerError::Unwalkable { class: keys.class, steps, why });
        }
        let final_alpha_cumprod = match set_alpha_to_one {
            Flag::On => Tensor::f_ones([], (Kind::Float, Device::Cpu))?,
            Flag::Off => noise.alphas_cumprod.f_select(0, 0)?,
        };
        let tables =
            Tables { betas: noise.betas, alphas_cumprod: noise.alphas_cumprod, sigmas: None };
        let stride = train_steps as i64 / i64::from(steps);
        Ok(Self { timesteps, tables, final_alpha_cumprod, stride, prediction, next: 0 })
    }

    /// The cumulative products at `timestep` and one stride before it.
    fn alphas(&self, timestep: i64) -> Result<(Tensor, Tensor), SchedulerError> {
        let before = timestep - self.stride;
        let alpha_prod_t = self.tables.alphas_cumprod.f_select(0, timestep)?;
        let alpha_prod_t_prev = match before {
            0.. => self.tables.alphas_cumprod.f_select(0, before)?,
            _ => self.final_alpha_cumprod.shallow_clone(),
        };
        Ok((alpha_prod_t, alpha_prod_t_prev))
    }
}

/// `set_timesteps`: whole training steps.
fn placement(keys: &Keys<'_>, train_steps: usize, steps: u32) -> Result<Vec<f64>, SchedulerError> {
    let train = train_steps as f64;
    Ok(match keys.timestep_spacing("leading")? {
        TimestepSpacing::Linspace => numpy::linspace(0.0, train - 1.0, steps as usize)
            .into_iter()
            .rev()
            .map(f64::round_ties_even)
            .collect(),
        TimestepSpacing::Leading => {
            let ratio = (train / f64::from(steps)).floor();
            (0..steps).rev().map(|i| f64::from(i) * ratio + STEPS_OFFSET).collect()
        }
        TimestepSpacing::Trailing => numpy::arange_down(train, train / f64::from(steps))
            .into_iter()
            .map(|t| t.round_ties_even() - 1.0)
            .collect(),
    })
}

impl Scheduler for Ddim {
    fn timesteps(&self) -> &[f64] {
        &self.timesteps
    }

    fn init_noise_sigma(&self) -> f64 {
        1.0
    }

    fn scale_model_input(&self, sample: &Tensor, _index: usize) -> Result<Tensor, SchedulerError> {
        Ok(sample.shallow_clone())
    }

    fn takes_noise(&self, _index: usize) -> bool {
        false
    }

    fn step(
        &mut self,
        model_output: &Tensor,
        index: usize,
        sample: &Tensor,
        _noise: Option<&Tensor>,
    ) -> Result<Tensor, SchedulerError> {
        let (expected, count) = (self.next, self.timesteps.len());
        let timestep = self.timesteps.get(index).filter(|_| index == expected);
        let timestep = *timestep.ok_or(SchedulerError::OutOfOrder { index, expected, count })?;
        self.next += 1;
        let (alpha_prod_t, alpha_prod_t_prev) = self.alphas(timestep as i64)?;
        let root = |t: &Tensor| t.f_pow_tensor_scalar(0.5);
        let (signal, noise) = (root(&alpha_prod_t)?, root(&alpha_prod_t.f_rsub_scalar(1)?)?);

        // "predicted x_0" and "predicted noise" of formula 12.
        let (original, epsilon) = match self.prediction {
            PredictionType::Epsilon => {
                let original = sample.f_sub(&noise.f_mul(model_output)?)?.f_div(&signal)?;
                (original, model_output.shallow_clone())
            }
            PredictionType::Sample => {
                let epsilon = sample.f_sub(&signal.f_mul(model_output)?)?.f_div(&noise)?;
                (model_output.shallow_clone(), epsilon)
            }
            PredictionType::VPrediction => (
                signal.f_mul(sample)?.f_sub(&noise.f_mul(model_output)?)?,
                signal.f_mul(model_output)?.f_add(&noise.f_mul(sample)?)?,
            ),
        };
        // With eta = 0 there is no random part; "direction pointing to x_t" is the rest of the noise.
        let direction = root(&alpha_prod_t_prev.f_rsub_scalar(1)?)?.f_mul(&epsilon)?;
        Ok(root(&alpha_prod_t_prev)?.f_mul(&original)?.f_add(&direction)?)
    }

    fn tables(&self) -> &Tables {
        &self.tables
    }
}
