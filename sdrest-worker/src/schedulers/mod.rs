//! Diffusion schedulers: the walk from noise to picture. One file per algorithm, named as in diffusers
//! 0.42; each is what a Stable Diffusion pipeline of diffusers runs when its scheduler was made by that
//! class's `from_config` from the model's own `scheduler_config.json`, with `use_karras_sigmas` added for
//! the Karras spacing and nothing added for the default one. Tables are equal to diffusers' to the last
//! bit. Nothing in this room knows the layers above it, opens a file, or draws a random number.

mod config;
mod ddim;
mod dpm_solver_multistep;
mod euler_ancestral_discrete;
mod euler_discrete;
mod karras;
mod noise_schedule;
mod numpy;
mod scheduler;
mod sigma_space;
#[cfg(test)]
mod tests;

pub use config::SchedulerConfig;
pub use scheduler::{Scheduler, SchedulerError, Tables};

use sdrest_proto::sampling::{SchedulerKind, SigmaSchedule};

/// As many steps as any training schedule has.
const MOST_STEPS: u32 = 1000;

/// Makes one run of `num_inference_steps` steps. What the configuration asks for and this worker does not
/// do is refused, naming the key and its value.
pub fn build(
    config: &SchedulerConfig,
    kind: SchedulerKind,
    spacing: SigmaSchedule,
    num_inference_steps: u32,
) -> Result<Box<dyn Scheduler>, SchedulerError> {
    let class = kind.class_name();
    if !kind.takes(spacing) {
        return Err(SchedulerError::Spacing { kind, spacing });
    }
    if !(1..=MOST_STEPS).contains(&num_inference_steps) {
        return Err(SchedulerError::Steps { class, most: MOST_STEPS, value: num_inference_steps });
    }
    let (keys, steps) = (config.read_for(class), num_inference_steps);
    Ok(match kind {
        SchedulerKind::EulerDiscrete => {
            Box::new(euler_discrete::EulerDiscrete::new(&keys, spacing, steps)?)
        }
        SchedulerKind::EulerAncestralDiscrete => {
            Box::new(euler_ancestral_discrete::EulerAncestralDiscrete::new(&keys, steps)?)
        }
        SchedulerKind::Ddim => Box::new(ddim::Ddim::new(&keys, steps)?),
        SchedulerKind::DpmSolverMultistep => {
            Box::new(dpm_solver_multistep::DpmSolverMultistep::new(&keys, spacing, steps)?)
        }
    })
}
