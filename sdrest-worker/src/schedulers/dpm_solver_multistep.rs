//! DPM-Solver++ of the first and second order, multistep (arXiv:2211.01095, "2M"): diffusers'
//! `DPMSolverMultistepScheduler` with `algorithm_type` "dpmsolver++". It adds no noise.

use super::config::{FinalSigma, Flag, Keys, PredictionType, TimestepSpacing};
use super::karras;
use super::noise_schedule::NoiseSchedule;
use super::numpy;
use super::scheduler::{Scheduler, SchedulerError, Tables};
use super::sigma_space::STEPS_OFFSET;
use sdrest_proto::sampling::SigmaSchedule;
use tch::{Kind, Tensor};

pub(super) struct DpmSolverMultistep {
    timesteps: Vec<f64>,
    tables: Tables,
    sigmas: Tensor,
    solver: Solver,
    /// The sample without noise that the UNet's last output stands for.
    previous: Option<Tensor>,
    next: usize,
}

/// The keys that decide over a step.
struct Solver {
    prediction: PredictionType,
    order: i64,
    kind: SolverType,
    lower_order_final: Flag,
    euler_at_final: Flag,
    final_sigma: FinalSigma,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum SolverType {
    Midpoint,
    Heun,
}

impl Solver {
    fn new(keys: &Keys<'_>) -> Result<Self, SchedulerError> {
        // diffusers reads the DEIS and UniPC classes' names for these two as the defaults.
        keys.choice("algorithm_type", "dpmsolver++", &[("dpmsolver++", ()), ("deis", ())])?;
        let kinds = [
            ("midpoint", SolverType::Midpoint),
            ("heun", SolverType::Heun),
            ("logrho", SolverType::Midpoint),
            ("bh1", SolverType::Midpoint),
            ("bh2", SolverType::Midpoint),
        ];
        keys.must_be_off(&["thresholding"])?;
        if keys.is_one_of("variance_type", &["learned", "learned_range"]) {
            return Err(keys.refuse("variance_type", "null"));
        }
        Ok(Self {
            prediction: keys.prediction_type(&[
                ("epsilon", PredictionType::Epsilon),
                ("v_prediction", PredictionType::VPrediction),
                ("sample", PredictionType::Sample),
            ])?,
            order: keys.integer("solver_order", 2, (1, 2))?,
            kind: keys.choice("solver_type", "midpoint", &kinds)?,
            lower_order_final: keys.flag("lower_order_final", Flag::On)?,
            euler_at_final: keys.flag("euler_at_final", Flag::Off)?,
            final_sigma: keys.final_sigma()?,
        })
    }
}

impl DpmSolverMultistep {
    pub(super) fn new(
        keys: &Keys<'_>,
        spacing: SigmaSchedule,
        steps: u32,
    ) -> Result<Self, SchedulerError> {
        let solver = Solver::new(keys)?;
        keys.must_be_off(&[
            "use_exponential_sigmas",
            "use_beta_sigmas",
            "use_lu_lambdas",
            "use_flow_sigmas",
            "use_dynamic_shifting",
        ])?;
        let karras = karras::is_wanted(keys, spacing)?;
        let noise = NoiseSchedule::new(keys)?.with_finite_sigmas()?;
        let training = noise.sigmas()?;
        let mut timesteps = placement(keys, &noise, steps)?;
        let mut sigmas: Vec<f64>;
        if karras.is_on() {
            let ends = (f64::from(training[training.len() - 1]), f64::from(training[0]));
            sigmas = karras::sigmas(keys, ends, steps as usize)?;
            let logs: Vec<f32> = training.iter().map(|sigma| numpy::log_f32(*sigma)).collect();
            let time = |sigma: &f64| karras::sigma_to_t(*sigma, &logs);
            // The cosine schedule's times are cut off, not rounded, on their way to whole numbers.
            let whole = if noise.is_cosine { f64::trunc } else { f64::round_ties_even };
            timesteps = sigmas.iter().map(|sigma| whole(time(sigma))).collect();
        } else {
            sigmas = timesteps.iter().map(|t| numpy::interp(*t, &training)).collect();
        }
        // diffusers finds its place by the first time that comes twice and then runs off the end.
        if timesteps.len() > 1 && timesteps[0] == timesteps[1] {
            let why = "its first two steps fall on the same training step; fewer steps work";
            return Err(SchedulerError::Unwalkable { class: keys.class, steps, why });
        }
        sigmas.push(match solver.final_sigma {
            FinalSigma::Zero => 0.0,
            FinalSigma::SigmaMin => f64::from(training[0]),
        });
        let sigmas = Tensor::f_from_slice(&sigmas)?.f_to_kind(Kind::Float)?;
        let tables = Tables {
            betas: noise.betas,
            alphas_cumprod: noise.alphas_cumprod,
            sigmas: Some(sigmas.shallow_clone()),
        };
        Ok(Self { timesteps, tables, sigmas, solver, previous: None, next: 0 })
    }

    /// `_sigma_to_alpha_sigma_t` and lambda: the signal's and the noise's share at place `index`, and the
    /// logarithm of their ratio.
    fn level(&self, index: usize) -> Result<Level, SchedulerError> {
        let sigma = self.sigmas.f_select(0, index as i64)?;
        let norm = sigma.f_pow_tensor_scalar(2)?.f_add_scalar(1)?.f_pow_tensor_scalar(0.5)?;
        let alpha = norm.f_reciprocal()?;
        let sigma = sigma.f_mul(&alpha)?;
        let lambda = alpha.f_log()?.f_sub(&sigma.f_log()?)?;
        Ok(Level { alpha, sigma, lambda })
    }

    /// `convert_model_output`: the sample without noise, in the sample's dtype.
    fn original(
        &self,
        model_output: &Tensor,
        level: &Level,
        sample: &Tensor,
    ) -> Result<Tensor, SchedulerError> {
        let Level { alpha, sigma, .. } = level;
        Ok(match self.solver.prediction {
            PredictionType::Epsilon => sample.f_sub(&sigma.f_mul(model_output)?)?.f_div(alpha)?,
            PredictionType::VPrediction => {
                alpha.f_mul(sample)?.f_sub(&sigma.f_mul(model_output)?)?
            }
            PredictionType::Sample => model_output.shallow_clone(),
        })
    }

    /// Whether step `index` is of the first order.
    fn is_first_order(&self, index: usize) -> bool {
        let count = self.timesteps.len();
        let eased = self.solver.euler_at_final.is_on()
            || (self.solver.lower_order_final.is_on() && count < 15)
            || self.solver.final_sigma == FinalSigma::Zero;
        self.solver.order == 1 || index == 0 || (index + 1 == count && eased)
    }

    /// The second-order part of a step from `from` to `to`, to be added to the first-order one.
    fn correction(
        &self,
        walk: &Walk<'_>,
        now: &Tensor,
        before: &Tensor,
    ) -> Result<Tensor, SchedulerError> {
        let h_before = walk.from.lambda.f_sub(&walk.before.lambda)?;
        let r0 = h_before.f_div(walk.h)?;
        let slope = r0.f_reciprocal()?.f_mul(&now.f_sub(before)?)?;
        let factor = match self.solver.kind {
            SolverType::Midpoint => walk.decay.f_mul_scalar(0.5)?.f_neg()?,
            SolverType::Heun => {
                let shrink = walk.h.f_neg()?.f_exp()?.f_sub_scalar(1.0)?;
                walk.alpha.f_mul(&shrink.f_div(walk.h)?.f_add_scalar(1.0)?)?
            }
        };
        Ok(factor.f_mul(&slope)?)
    }
}

/// One noise level.
struct Level {
    alpha: Tensor,
    sigma: Tensor,
    lambda: Tensor,
}

/// A step of size `h` in lambda, and where the one before it came from.
struct Walk<'a> {
    before: &'a Level,
    from: &'a Level,
    h: &'a Tensor,
    alpha: &'a Tensor,
    decay: &'a Tensor,
}

/// `set_timesteps` up to its timesteps: whole training steps. One place more than asked for is laid out,
/// and the lowest is left to the final sigma.
fn placement(
    keys: &Keys<'_>,
    noise: &NoiseSchedule,
    steps: u32,
) -> Result<Vec<f64>, SchedulerError> {
    let lowest = keys.number_or_lowest("lambda_min_clipped")?;
    let train = noise.num_train_timesteps;
    let signal = noise.alphas_cumprod.f_sqrt()?.f_log()?;
    let lambda = signal.f_sub(&noise.alphas_cumprod.f_rsub_scalar(1)?.f_sqrt()?.f_log()?)?;
    let lambda: Vec<f32> = Vec::try_from(lambda)?;
    let last = train - lambda.iter().filter(|lambda| **lambda < lowest as f32).count();
    if last == 0 {
        return Err(keys.refuse("lambda_min_clipped", "below the schedule's highest lambda"));
    }
    let laid_out = steps as usize + 1;
    let timesteps: Vec<f64> = match keys.timestep_spacing("linspace")? {
        TimestepSpacing::Linspace => numpy::linspace(0.0, last as f64 - 1.0, laid_out)
            .into_iter()
            .skip(1)
            .rev()
            .map(f64::round_ties_even)
            .collect(),
        TimestepSpacing::Leading => {
            let ratio = (last / laid_out) as f64;
            (1..laid_out).rev().map(|i| i as f64 * ratio + STEPS_OFFSET).collect()
        }
        TimestepSpacing::Trailing => {
            numpy::arange_down(last as f64, train as f64 / f64::from(steps))
                .into_iter()
                .map(|t| t.round_ties_even() - 1.0)
                .collect()
        }
    };
    Ok(timesteps)
}

impl Scheduler for DpmSolverMultistep {
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
        if index != expected || index >= count {
            return Err(SchedulerError::OutOfOrder { index, expected, count });
        }
        self.next += 1;
        let (from, to) = (self.level(index)?, self.level(index + 1)?);
        let original = self.original(model_output, &from, sample)?;
        let sample = sample.f_to_kind(Kind::Float)?;
        let h = to.lambda.f_sub(&from.lambda)?;
        let decay = to.alpha.f_mul(&h.f_neg()?.f_exp()?.f_sub_scalar(1.0)?)?;
        let kept = to.sigma.f_div(&from.sigma)?.f_mul(&sample)?;
        let mut next = kept.f_sub(&decay.f_mul(&original)?)?;
        if let Some(previous) = self.previous.as_ref().filter(|_| !self.is_first_order(index)) {
            let before = self.level(index - 1)?;
            let walk =
                Walk { before: &before, from: &from, h: &h, alpha: &to.alpha, decay: &decay };
            next = next.f_add(&self.correction(&walk, &original, previous)?)?;
        }
        let next = next.f_to_kind(original.f_kind()?)?;
        self.previous = Some(original);
        Ok(next)
    }

    fn tables(&self) -> &Tables {
        &self.tables
    }
}
