//! The end of diffusers' pipelines: `vae.decode(latents / scaling_factor)`, then `VaeImageProcessor`'s
//! `postprocess` to 8-bit pixels.

use super::error::PipelineError;
use crate::loaders::StableDiffusion;
use sdrest_proto::image::Rgb8Image;
use tch::{Device, Kind, Tensor};

/// `latents` is (1, channels, h, w).
pub(super) fn decode(
    model: &StableDiffusion,
    latents: &Tensor,
) -> Result<Rgb8Image, PipelineError> {
    let _guard = tch::no_grad_guard();
    let options = model.options;
    let z = latents.f_div_scalar(model.description.vae.scaling_factor)?;
    let picture = model.vae.decode(&z.f_to_device(options.device)?.f_to_kind(options.kind)?)?;
    to_rgb8(&picture)
}

/// One picture, (1, 3, height, width) in about −1…1: `denormalize`, `pt_to_numpy`, and `numpy_to_pil`'s
/// rounding to the nearest, halves to even.
pub fn to_rgb8(picture: &Tensor) -> Result<Rgb8Image, PipelineError> {
    let unit = picture.f_mul_scalar(0.5)?.f_add_scalar(0.5)?.f_clamp(0.0, 1.0)?;
    let rows = unit.f_to_device(Device::Cpu)?.f_permute([0, 2, 3, 1])?.f_to_kind(Kind::Float)?;
    let bytes = rows.f_mul_scalar(255.0)?.f_round()?.f_to_kind(Kind::Uint8)?.f_contiguous()?;
    let (_, height, width, channels) = bytes.size4()?;
    let count = usize::try_from(height * width * channels).unwrap_or(0);
    let mut data = vec![0; count];
    bytes.f_copy_data_u8(&mut data, count)?;
    let side = |n: i64| u32::try_from(n).unwrap_or(0);
    Rgb8Image::new(side(width), side(height), data).map_err(PipelineError::Image)
}
