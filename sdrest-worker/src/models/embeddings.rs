//! diffusers `models/embeddings.py`: `Timesteps` and `TimestepEmbedding`.

use super::{
    error::ModelError,
    layers::{Activation, Linear},
    weights::Scope,
};
use tch::{Kind, Tensor};

/// diffusers `Timesteps`: sines and cosines of the timestep (arXiv:2006.11239), always in float32.
#[derive(Clone, Copy, Debug)]
pub struct Timesteps {
    pub num_channels: i64,
    /// Cosines first.
    pub flip_sin_to_cos: bool,
    pub downscale_freq_shift: f64,
}

impl Timesteps {
    const MAX_PERIOD: f64 = 10_000.0;

    /// `timesteps` is (N); the answer is (N, num_channels) in float32.
    pub fn forward(&self, timesteps: &Tensor) -> Result<Tensor, ModelError> {
        let half = self.num_channels / 2;
        let positions = Tensor::f_arange_start(0, half, (Kind::Float, timesteps.device()))?;
        let exponent = positions.f_mul_scalar(-Self::MAX_PERIOD.ln())?;
        let exponent = exponent.f_div_scalar(half as f64 - self.downscale_freq_shift)?;
        let frequencies = exponent.f_exp()?.f_unsqueeze(0)?;
        let angles = timesteps.f_unsqueeze(1)?.f_to_kind(Kind::Float)?.f_mul(&frequencies)?;
        let (sin, cos) = (angles.f_sin()?, angles.f_cos()?);
        let both = if self.flip_sin_to_cos { [cos, sin] } else { [sin, cos] };
        let embedding = Tensor::f_cat(&both, -1)?;
        if self.num_channels % 2 == 1 {
            return Ok(embedding.f_constant_pad_nd([0, 1, 0, 0])?);
        }
        Ok(embedding)
    }
}

/// diffusers `TimestepEmbedding`.
#[derive(Debug)]
pub struct TimestepEmbedding {
    linear_1: Linear,
    act: Activation,
    linear_2: Linear,
}

impl TimestepEmbedding {
    pub fn load(
        scope: &Scope<'_>,
        channels: i64,
        embedding: i64,
        act: Activation,
    ) -> Result<Self, ModelError> {
        Ok(Self {
            linear_1: Linear::load(&scope.sub("linear_1"), channels, embedding)?,
            act,
            linear_2: Linear::load(&scope.sub("linear_2"), embedding, embedding)?,
        })
    }

    pub fn forward(&self, sample: &Tensor) -> Result<Tensor, ModelError> {
        self.linear_2.forward(&self.act.forward(&self.linear_1.forward(sample)?)?)
    }
}
