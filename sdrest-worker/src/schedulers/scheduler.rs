//! What every diffusion scheduler of this worker offers, and what can go wrong with one. It stands on a
//! file of its own below the algorithms, so that `mod.rs` can name them without a circle. It follows
//! diffusers' `SchedulerMixin` with one difference: a step is named by its index, not by its timestep,
//! and noise is handed in, because the engine draws it when a request is admitted. Nothing in this room
//! may touch torch's random generator.

use sdrest_proto::sampling::{SchedulerKind, SigmaSchedule};
use tch::{TchError, Tensor};
use thiserror::Error;

/// One run of one algorithm: made by [`build`](super::build) for a number of steps, stepped through once.
pub trait Scheduler: Send {
    /// The times that the UNet is asked about, in the order of the steps.
    fn timesteps(&self) -> &[f64];

    /// The standard deviation that the initial noise must have.
    fn init_noise_sigma(&self) -> f64;

    /// What the UNet sees of `sample` at step `index`.
    fn scale_model_input(&self, sample: &Tensor, index: usize) -> Result<Tensor, SchedulerError>;

    /// Whether step `index` adds noise of the sample's shape. It is drawn when the request is admitted.
    fn takes_noise(&self, index: usize) -> bool;

    /// From the sample of step `index` to the next one. `model_output` has the sample's shape; `noise` is
    /// looked at only where [`takes_noise`](Self::takes_noise) says so. Steps come in order, from 0.
    fn step(
        &mut self,
        model_output: &Tensor,
        index: usize,
        sample: &Tensor,
        noise: Option<&Tensor>,
    ) -> Result<Tensor, SchedulerError>;

    /// The tables that the run was made from, for comparing them with diffusers'.
    fn tables(&self) -> &Tables;
}

/// The tables behind a run. All are float32 on the CPU.
#[derive(Debug)]
pub struct Tables {
    /// (num_train_timesteps)
    pub betas: Tensor,
    /// (num_train_timesteps)
    pub alphas_cumprod: Tensor,
    /// (steps + 1), where diffusers' class has them.
    pub sigmas: Option<Tensor>,
}

#[derive(Debug, Error)]
pub enum SchedulerError {
    /// The text is JSON's complaint, which names a line and a column and quotes nothing.
    #[error("scheduler_config.json is no JSON object: {0}")]
    Json(String),
    #[error("scheduler_config.json: `{key}` must be {wanted} for {class}, got {value}")]
    Unsupported { class: &'static str, key: String, wanted: String, value: String },
    #[error("{} has no spacing {spacing:?}; it takes {:?}", .kind.class_name(), .kind.spacings())]
    Spacing { kind: SchedulerKind, spacing: SigmaSchedule },
    #[error(
        "`num_inference_steps` must be between 1 and {most} for {class} with this model, got {value}"
    )]
    Steps { class: &'static str, most: u32, value: u32 },
    /// diffusers would look up a place outside its tables here, and fail.
    #[error("{class} cannot walk this model's noise schedule in {steps} steps: {why}")]
    Unwalkable { class: &'static str, steps: u32, why: &'static str },
    #[error("step {index} is not the next one; {expected} is, of {count}")]
    OutOfOrder { index: usize, expected: usize, count: usize },
    #[error("step {0} needs noise and was given none")]
    NoiseMissing(usize),
    #[error("a tensor operation of the scheduler failed")]
    Tensor(#[from] TchError),
}
