//! Classifier-free guidance (arXiv:2207.12598) as diffusers' pipelines do it: unconditional and conditional
//! rows in one batch, and no unconditional row where `guidance_scale` is not above 1.

use crate::models::ModelError;
use sdrest_proto::bounds::GuidanceScale;
use tch::Tensor;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Guidance {
    Off,
    Scale(f64),
}

impl From<GuidanceScale> for Guidance {
    fn from(scale: GuidanceScale) -> Self {
        if scale.is_guided() { Self::Scale(scale.get()) } else { Self::Off }
    }
}

impl Guidance {
    /// The rows that the UNet sees.
    pub(super) fn expand(self, latents: &Tensor) -> Result<Tensor, ModelError> {
        match self {
            Self::Off => Ok(latents.shallow_clone()),
            Self::Scale(_) => Ok(Tensor::f_cat(&[latents, latents], 0)?),
        }
    }

    /// One prediction for each image from the rows that the UNet answered.
    pub(super) fn combine(self, noise_pred: Tensor) -> Result<Tensor, ModelError> {
        let Self::Scale(scale) = self else { return Ok(noise_pred) };
        let half = noise_pred.size().first().copied().unwrap_or_default() / 2;
        let (uncond, text) =
            (noise_pred.f_narrow(0, 0, half)?, noise_pred.f_narrow(0, half, half)?);
        Ok(uncond.f_add(&text.f_sub(&uncond)?.f_mul_scalar(scale)?)?)
    }
}
