//! diffusers `AutoencoderKL`: from latents to pictures, and back to the moments of the latents.

use super::{
    error::ModelError,
    layers::{Conv2d, ConvShape},
    vae_blocks::{Decoder, Encoder, VaeSettings},
    weights::Scope,
};
use tch::Tensor;

/// A checked `vae/config.json`.
#[derive(Clone, Debug, PartialEq)]
pub struct AutoencoderKlConfig {
    pub in_channels: i64,
    pub out_channels: i64,
    pub latent_channels: i64,
    pub blocks: VaeSettings,
    /// Latents of the UNet are the VAE's times this.
    pub scaling_factor: f64,
    pub use_quant_conv: bool,
    pub use_post_quant_conv: bool,
}

impl AutoencoderKlConfig {
    /// How much smaller latents are than pictures: diffusers' `vae_scale_factor`.
    pub fn scale_factor(&self) -> u32 {
        1 << self.blocks.widths.len().saturating_sub(1).min(16)
    }
}

/// diffusers `AutoencoderKL`.
#[derive(Debug)]
pub struct AutoencoderKl {
    encoder: Encoder,
    decoder: Decoder,
    quant_conv: Option<Conv2d>,
    post_quant_conv: Option<Conv2d>,
}

impl AutoencoderKl {
    pub fn load(scope: &Scope<'_>, c: &AutoencoderKlConfig) -> Result<Self, ModelError> {
        let pointwise = |name: &str, channels: i64| {
            Conv2d::load(&scope.sub(name), ConvShape::same(channels, channels, 1))
        };
        let z = c.latent_channels;
        Ok(Self {
            encoder: Encoder::load(&scope.sub("encoder"), (c.in_channels, z), &c.blocks)?,
            decoder: Decoder::load(&scope.sub("decoder"), (z, c.out_channels), &c.blocks)?,
            quant_conv: c.use_quant_conv.then(|| pointwise("quant_conv", 2 * z)).transpose()?,
            post_quant_conv: c
                .use_post_quant_conv
                .then(|| pointwise("post_quant_conv", z))
                .transpose()?,
        })
    }

    /// `z` is (B, latent_channels, h, w), already divided by `scaling_factor`; the picture is
    /// (B, out_channels, h × scale_factor, …) in about −1…1.
    pub fn decode(&self, z: &Tensor) -> Result<Tensor, ModelError> {
        let _guard = tch::no_grad_guard();
        match &self.post_quant_conv {
            Some(conv) => self.decoder.forward(&conv.forward(z)?),
            None => self.decoder.forward(z),
        }
    }

    /// `picture` is (B, in_channels, h, w) in −1…1; the answer holds mean and log-variance,
    /// (B, 2 × latent_channels, h / scale_factor, …).
    pub fn encode(&self, picture: &Tensor) -> Result<Tensor, ModelError> {
        let _guard = tch::no_grad_guard();
        let moments = self.encoder.forward(picture)?;
        match &self.quant_conv {
            Some(conv) => conv.forward(&moments),
            None => Ok(moments),
        }
    }
}
