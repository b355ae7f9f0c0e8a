//! diffusers `models/attention_processor.py` (`Attention` with `AttnProcessor2_0`), `models/attention.py`
//! (`FeedForward` with GEGLU, `BasicTransformerBlock`) and `transformers/transformer_2d.py`
//! (`Transformer2DModel` on continuous inputs), as Stable Diffusion 1.x and 2.x put them together.

use super::{
    error::ModelError,
    layers::{Conv2d, ConvShape, GroupNorm, LayerNorm, Linear},
    weights::Scope,
};
use tch::Tensor;

/// Heads side by side in one projection, through ATen's fused attention: `AttnProcessor2_0`'s core.
/// `query` is (B, L, heads × d); the answer has its shape.
pub fn multi_head_attention(
    query: &Tensor,
    key: &Tensor,
    value: &Tensor,
    heads: i64,
) -> Result<Tensor, ModelError> {
    let (batch, _, inner) = query.size3()?;
    let split = |x: &Tensor| x.f_view([batch, -1, heads, inner / heads])?.f_transpose(1, 2);
    let (query, key, value) = (split(query)?, split(key)?, split(value)?);
    let mixed = Tensor::f_scaled_dot_product_attention(
        &query,
        &key,
        &value,
        None::<&Tensor>,
        0.0,
        false,
        None,
        false,
    )?;
    Ok(mixed.f_transpose(1, 2)?.f_reshape([batch, -1, inner])?)
}

/// diffusers `Attention` as a transformer block has it: no bias on the three projections in.
#[derive(Debug)]
pub struct Attention {
    to_q: Linear,
    to_k: Linear,
    to_v: Linear,
    to_out_0: Linear,
    heads: i64,
}

impl Attention {
    pub fn load(
        scope: &Scope<'_>,
        channels: i64,
        context: i64,
        heads: i64,
    ) -> Result<Self, ModelError> {
        Ok(Self {
            to_q: Linear::load_without_bias(&scope.sub("to_q"), channels, channels)?,
            to_k: Linear::load_without_bias(&scope.sub("to_k"), context, channels)?,
            to_v: Linear::load_without_bias(&scope.sub("to_v"), context, channels)?,
            to_out_0: Linear::load(&scope.sub("to_out.0"), channels, channels)?,
            heads,
        })
    }

    /// Attends to `context`; self-attention gives `hidden` itself.
    pub fn forward(&self, hidden: &Tensor, context: &Tensor) -> Result<Tensor, ModelError> {
        let query = self.to_q.forward(hidden)?;
        let (key, value) = (self.to_k.forward(context)?, self.to_v.forward(context)?);
        self.to_out_0.forward(&multi_head_attention(&query, &key, &value, self.heads)?)
    }
}

/// diffusers `FeedForward` with `activation_fn="geglu"` and four times the channels inside.
#[derive(Debug)]
pub struct FeedForward {
    /// `net.0.proj`, the two halves of GEGLU (arXiv:2002.05202).
    net_0_proj: Linear,
    net_2: Linear,
}

impl FeedForward {
    pub fn load(scope: &Scope<'_>, channels: i64) -> Result<Self, ModelError> {
        let inner = channels * 4;
        Ok(Self {
            net_0_proj: Linear::load(&scope.sub("net.0.proj"), channels, inner * 2)?,
            net_2: Linear::load(&scope.sub("net.2"), inner, channels)?,
        })
    }

    pub fn forward(&self, hidden: &Tensor) -> Result<Tensor, ModelError> {
        let projected = self.net_0_proj.forward(hidden)?;
        let half = projected.size().last().copied().unwrap_or_default() / 2;
        let value = projected.f_narrow(-1, 0, half)?;
        let gate = projected.f_narrow(-1, half, half)?;
        self.net_2.forward(&value.f_mul(&gate.f_gelu("none")?)?)
    }
}

/// diffusers `BasicTransformerBlock` with `norm_type="layer_norm"`.
#[derive(Debug)]
pub struct BasicTransformerBlock {
    norm1: LayerNorm,
    attn1: Attention,
    norm2: LayerNorm,
    attn2: Attention,
    norm3: LayerNorm,
    ff: FeedForward,
}

impl BasicTransformerBlock {
    const NORM_EPS: f64 = 1e-5;

    pub fn load(
        scope: &Scope<'_>,
        channels: i64,
        context: i64,
        heads: i64,
    ) -> Result<Self, ModelError> {
        let norm = |name: &str| LayerNorm::load(&scope.sub(name), channels, Self::NORM_EPS);
        Ok(Self {
            norm1: norm("norm1")?,
            attn1: Attention::load(&scope.sub("attn1"), channels, channels, heads)?,
            norm2: norm("norm2")?,
            attn2: Attention::load(&scope.sub("attn2"), channels, context, heads)?,
            norm3: norm("norm3")?,
            ff: FeedForward::load(&scope.sub("ff"), channels)?,
        })
    }

    pub fn forward(&self, hidden: &Tensor, context: &Tensor) -> Result<Tensor, ModelError> {
        let normed = self.norm1.forward(hidden)?;
        let hidden = self.attn1.forward(&normed, &normed)?.f_add(hidden)?;
        let normed = self.norm2.forward(&hidden)?;
        let hidden = self.attn2.forward(&normed, context)?.f_add(&hidden)?;
        let normed = self.norm3.forward(&hidden)?;
        Ok(self.ff.forward(&normed)?.f_add(&hidden)?)
    }
}

/// What all transformers of one network level share.
#[derive(Clone, Copy, Debug)]
pub struct TransformerSettings {
    pub heads: i64,
    pub cross_attention_dim: i64,
    pub num_layers: usize,
    pub norm_num_groups: i64,
    pub use_linear_projection: bool,
}

/// A projection at a transformer's door: a 1×1 convolution in Stable Diffusion 1.x, a linear layer in 2.x.
#[derive(Debug)]
enum Projection {
    Conv(Conv2d),
    Linear(Linear),
}

impl Projection {
    fn load(scope: &Scope<'_>, channels: i64, s: &TransformerSettings) -> Result<Self, ModelError> {
        if s.use_linear_projection {
            return Ok(Self::Linear(Linear::load(scope, channels, channels)?));
        }
        Ok(Self::Conv(Conv2d::load(scope, ConvShape::same(channels, channels, 1))?))
    }
}

/// diffusers `Transformer2DModel` on continuous inputs.
#[derive(Debug)]
pub struct Transformer2DModel {
    norm: GroupNorm,
    proj_in: Projection,
    transformer_blocks: Vec<BasicTransformerBlock>,
    proj_out: Projection,
}

impl Transformer2DModel {
    const NORM_EPS: f64 = 1e-6;

    pub fn load(
        scope: &Scope<'_>,
        channels: i64,
        s: &TransformerSettings,
    ) -> Result<Self, ModelError> {
        let blocks = scope.sub("transformer_blocks");
        Ok(Self {
            norm: GroupNorm::load(&scope.sub("norm"), channels, s.norm_num_groups, Self::NORM_EPS)?,
            proj_in: Projection::load(&scope.sub("proj_in"), channels, s)?,
            transformer_blocks: (0..s.num_layers)
                .map(|i| {
                    BasicTransformerBlock::load(
                        &blocks.sub(i),
                        channels,
                        s.cross_attention_dim,
                        s.heads,
                    )
                })
                .collect::<Result<_, _>>()?,
            proj_out: Projection::load(&scope.sub("proj_out"), channels, s)?,
        })
    }

    /// `input` is (B, channels, h, w), `context` (B, L, cross_attention_dim).
    pub fn forward(&self, input: &Tensor, context: &Tensor) -> Result<Tensor, ModelError> {
        let (batch, channels, height, width) = input.size4()?;
        let rows =
            |x: &Tensor| x.f_permute([0, 2, 3, 1])?.f_reshape([batch, height * width, channels]);
        let picture = |x: &Tensor| {
            x.f_reshape([batch, height, width, channels])?.f_permute([0, 3, 1, 2])?.f_contiguous()
        };
        let normed = self.norm.forward(input)?;
        let mut hidden = match &self.proj_in {
            Projection::Conv(conv) => rows(&conv.forward(&normed)?)?,
            Projection::Linear(linear) => linear.forward(&rows(&normed)?)?,
        };
        for block in &self.transformer_blocks {
            hidden = block.forward(&hidden, context)?;
        }
        let output = match &self.proj_out {
            Projection::Conv(conv) => conv.forward(&picture(&hidden)?)?,
            Projection::Linear(linear) => picture(&linear.forward(&hidden)?)?,
        };
        Ok(output.f_add(input)?)
    }
}
