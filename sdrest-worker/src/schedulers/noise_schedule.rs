//! The training noise schedule: betas, their cumulative products and the sigmas, made by the operations
//! that the constructors of diffusers' schedulers share (`betas_for_alpha_bar` with its cosine,
//! `rescale_zero_terminal_snr` of arXiv:2305.08891), in their order and dtype, so that they are equal to
//! them to the last bit. Nothing here depends on the number of steps.

use super::config::{Flag, Keys};
use super::scheduler::SchedulerError;
use std::hint::black_box;
use tch::{Device, Kind, Tensor};

/// The most training steps that a configuration may ask for: its tables are made for every request.
const MOST_TRAIN_TIMESTEPS: i64 = 10_000;

/// float32 tables over the training steps.
pub(super) struct NoiseSchedule {
    pub(super) num_train_timesteps: usize,
    pub(super) betas: Tensor,
    pub(super) alphas_cumprod: Tensor,
    /// Whether the last step is pure noise.
    pub(super) zero_terminal_snr: Flag,
    /// The key that set the betas is `squaredcos_cap_v2`.
    pub(super) is_cosine: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum BetaSchedule {
    Linear,
    ScaledLinear,
    Cosine,
}

impl NoiseSchedule {
    pub(super) fn new(keys: &Keys<'_>) -> Result<Self, SchedulerError> {
        let train_steps = keys.integer("num_train_timesteps", 1000, (1, MOST_TRAIN_TIMESTEPS))?;
        let trained = keys.optional_numbers("trained_betas")?;
        let choices = [
            ("linear", BetaSchedule::Linear),
            ("scaled_linear", BetaSchedule::ScaledLinear),
            ("squaredcos_cap_v2", BetaSchedule::Cosine),
        ];
        let shape = keys.choice("beta_schedule", "linear", &choices)?;
        let mut betas = match &trained {
            Some(betas) if betas.len() as i64 == train_steps => {
                Tensor::f_from_slice(betas)?.f_to_kind(Kind::Float)?
            }
            Some(_) => return Err(keys.refuse("trained_betas", format!("{train_steps} numbers"))),
            None => betas(keys, shape, train_steps)?,
        };
        let zero_terminal_snr = keys.flag("rescale_betas_zero_snr", Flag::Off)?;
        if zero_terminal_snr.is_on() {
            betas = rescale_zero_terminal_snr(&betas)?;
        }
        let alphas_cumprod = betas.f_rsub_scalar(1.0)?.f_cumprod(0, None::<Kind>)?;
        let products: Vec<f32> = Vec::try_from(&alphas_cumprod)?;
        let usable =
            |product: &f32| *product <= 1.0 && (*product > 0.0 || zero_terminal_snr.is_on());
        if !products.iter().all(usable) {
            let key = if trained.is_some() { "trained_betas" } else { "beta_end" };
            return Err(keys.refuse(key, "such that some signal is left at every training step"));
        }
        let is_cosine = shape == BetaSchedule::Cosine;
        Ok(Self {
            num_train_timesteps: train_steps as usize,
            betas,
            alphas_cumprod,
            zero_terminal_snr,
            is_cosine,
        })
    }

    /// Keeps the first sigma of a schedule that ends in pure noise finite, as the sigma-based classes do.
    pub(super) fn with_finite_sigmas(self) -> Result<Self, SchedulerError> {
        if self.zero_terminal_snr.is_on() {
            let _ = self.alphas_cumprod.f_select(0, -1)?.f_fill_(2.0_f64.powi(-24))?;
        }
        Ok(self)
    }

    /// `((1 - alphas_cumprod) / alphas_cumprod) ** 0.5`, rising.
    pub(super) fn sigmas(&self) -> Result<Vec<f32>, SchedulerError> {
        let ratio = self.alphas_cumprod.f_rsub_scalar(1.0)?.f_div(&self.alphas_cumprod)?;
        Ok(Vec::try_from(ratio.f_pow_tensor_scalar(0.5)?)?)
    }
}

fn betas(keys: &Keys<'_>, shape: BetaSchedule, count: i64) -> Result<Tensor, SchedulerError> {
    let (start, end) = (keys.number("beta_start", 0.0001)?, keys.number("beta_end", 0.02)?);
    let options = (Kind::Float, Device::Cpu);
    // Python's `**` is the C library's `pow`; black_box keeps the compiler from choosing another way.
    let root = |value: f64| value.powf(black_box(0.5));
    Ok(match shape {
        BetaSchedule::Linear => Tensor::f_linspace(start, end, count, options)?,
        BetaSchedule::ScaledLinear => {
            for (key, value) in [("beta_start", start), ("beta_end", end)] {
                if value < 0.0 {
                    return Err(keys.refuse(key, "no less than 0"));
                }
            }
            Tensor::f_linspace(root(start), root(end), count, options)?.f_pow_tensor_scalar(2)?
        }
        BetaSchedule::Cosine => cosine_betas(count)?,
    })
}

/// diffusers' `betas_for_alpha_bar`: computed in float64, kept in float32.
fn cosine_betas(count: i64) -> Result<Tensor, SchedulerError> {
    let alpha_bar =
        |t: f64| ((t + 0.008) / 1.008 * std::f64::consts::PI / 2.0).cos().powf(black_box(2.0));
    let betas: Vec<f64> = (0..count)
        .map(|i| {
            let (from, to) = (i as f64 / count as f64, (i + 1) as f64 / count as f64);
            (1.0 - alpha_bar(to) / alpha_bar(from)).min(0.999)
        })
        .collect();
    Ok(Tensor::f_from_slice(&betas)?.f_to_kind(Kind::Float)?)
}

/// Shifts and scales the schedule so that its last step has no signal left (algorithm 1).
fn rescale_zero_terminal_snr(betas: &Tensor) -> Result<Tensor, SchedulerError> {
    let root = betas.f_rsub_scalar(1.0)?.f_cumprod(0, None::<Kind>)?.f_sqrt()?;
    let (first, last) = (root.f_select(0, 0)?, root.f_select(0, -1)?);
    let root = root.f_sub(&last)?.f_mul(&first.f_div(&first.f_sub(&last)?)?)?;
    let alphas_bar = root.f_pow_tensor_scalar(2)?;
    let count = alphas_bar.size1()?;
    let ratio =
        alphas_bar.f_narrow(0, 1, count - 1)?.f_div(&alphas_bar.f_narrow(0, 0, count - 1)?)?;
    Ok(Tensor::f_cat(&[alphas_bar.f_narrow(0, 0, 1)?, ratio], 0)?.f_rsub_scalar(1.0)?)
}
