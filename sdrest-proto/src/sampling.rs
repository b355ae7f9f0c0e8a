//! Diffusion schedulers and their noise spacings, by diffusers' names. "Scheduler" means the diffusion
//! algorithm and nothing else. The labels that A1111 uses are translated at the HTTP edge.

use serde::{Deserialize, Serialize};

/// Which algorithm steps from noise to picture; each is diffusers' class of that name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SchedulerKind {
    EulerDiscrete,
    EulerAncestralDiscrete,
    Ddim,
    DpmSolverMultistep,
}

impl SchedulerKind {
    pub const ALL: [Self; 4] =
        [Self::EulerDiscrete, Self::EulerAncestralDiscrete, Self::Ddim, Self::DpmSolverMultistep];

    /// The name of diffusers' class.
    pub fn class_name(self) -> &'static str {
        match self {
            Self::EulerDiscrete => "EulerDiscreteScheduler",
            Self::EulerAncestralDiscrete => "EulerAncestralDiscreteScheduler",
            Self::Ddim => "DDIMScheduler",
            Self::DpmSolverMultistep => "DPMSolverMultistepScheduler",
        }
    }

    /// The spacings that diffusers' class has a flag for.
    pub fn spacings(self) -> &'static [SigmaSchedule] {
        match self {
            Self::EulerDiscrete | Self::DpmSolverMultistep => {
                &[SigmaSchedule::Default, SigmaSchedule::Karras]
            }
            Self::EulerAncestralDiscrete | Self::Ddim => &[SigmaSchedule::Default],
        }
    }

    pub fn takes(self, spacing: SigmaSchedule) -> bool {
        self.spacings().contains(&spacing)
    }
}

/// How the noise levels are spaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SigmaSchedule {
    /// As the model's own scheduler_config.json says, with no flag added.
    Default,
    /// `use_karras_sigmas` (arXiv:2206.00364, equation 5, rho = 7).
    Karras,
}

impl SigmaSchedule {
    pub const ALL: [Self; 2] = [Self::Default, Self::Karras];
}
