//! The Euler method over sigmas (algorithm 2 of arXiv:2206.00364 without churn): diffusers'
//! `EulerDiscreteScheduler`. It adds no noise.

use super::config::{FinalSigma, Keys, PredictionType};
use super::karras;
use super::noise_schedule::NoiseSchedule;
use super::numpy;
use super::scheduler::{Scheduler, SchedulerError, Tables};
use super::sigma_space::{Denoised, SigmaSpace};
use sdrest_proto::sampling::SigmaSchedule;
use tch::Tensor;

pub(super) struct EulerDiscrete {
    space: SigmaSpace,
}

impl EulerDiscrete {
    pub(super) fn new(
        keys: &Keys<'_>,
        spacing: SigmaSchedule,
        steps: u32,
    ) -> Result<Self, SchedulerError> {
        let prediction = keys.prediction_type(&[
            ("epsilon", PredictionType::Epsilon),
            ("v_prediction", PredictionType::VPrediction),
            ("sample", PredictionType::Sample),
            ("original_sample", PredictionType::Sample),
        ])?;
        keys.choice("interpolation_type", "linear", &[("linear", ())])?;
        if prediction == PredictionType::VPrediction
            && keys.is_one_of("timestep_type", &["continuous"])
        {
            return Err(keys.refuse("timestep_type", "\"discrete\" with v_prediction"));
        }
        keys.must_be_off(&["use_exponential_sigmas", "use_beta_sigmas"])?;
        let karras = karras::is_wanted(keys, spacing)?;
        let final_sigma = keys.final_sigma()?;
        let noise = NoiseSchedule::new(keys)?.with_finite_sigmas()?;

        let training = noise.sigmas()?;
        let placement = SigmaSpace::placement(keys, noise.num_train_timesteps, steps)?;
        let mut timesteps = placement.timesteps.clone();
        let mut sigmas: Vec<f64> = timesteps.iter().map(|t| numpy::interp(*t, &training)).collect();
        if karras.is_on() {
            let ends = (sigmas[0], sigmas[sigmas.len() - 1]);
            sigmas = karras::sigmas(keys, ends, steps as usize)?;
            let logs: Vec<f32> = training.iter().map(|sigma| numpy::log_f32(*sigma)).collect();
            timesteps = sigmas
                .iter()
                .map(|sigma| f64::from(karras::sigma_to_t(*sigma, &logs) as f32))
                .collect();
        }
        sigmas.push(match final_sigma {
            FinalSigma::Zero => 0.0,
            FinalSigma::SigmaMin => f64::from(training[0]),
        });
        Ok(Self {
            space: SigmaSpace::new(noise, (timesteps, sigmas), placement.scale, prediction)?,
        })
    }
}

impl Scheduler for EulerDiscrete {
    fn timesteps(&self) -> &[f64] {
        &self.space.timesteps
    }

    fn init_noise_sigma(&self) -> f64 {
        self.space.init_noise_sigma
    }

    fn scale_model_input(&self, sample: &Tensor, index: usize) -> Result<Tensor, SchedulerError> {
        self.space.scale_model_input(sample, index)
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
        let Denoised { sample, derivative, sigma } =
            self.space.denoise(model_output, index, sample)?;
        // From sigma to the next one, along the derivative.
        let dt = self.space.sigma(index + 1)?.f_sub(&sigma)?;
        let prev_sample = sample.f_add(&derivative.f_mul(&dt)?)?;
        Ok(prev_sample.f_to_kind(model_output.f_kind()?)?)
    }

    fn tables(&self) -> &Tables {
        &self.space.tables
    }
}
