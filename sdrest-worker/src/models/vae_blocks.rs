//! diffusers `models/autoencoders/vae.py` and the VAE's blocks of `unet_2d_blocks.py`: `Encoder`, `Decoder`,
//! `UNetMidBlock2D`, `UpDecoderBlock2D`, `DownEncoderBlock2D`, with `norm_type="group"`.

use super::{
    attention::multi_head_attention,
    error::ModelError,
    layers::{Activation, Conv2d, ConvShape, GroupNorm, Linear},
    resnet::{Downsample2D, ResnetBlock2D, ResnetSettings, Upsample2D},
    weights::Scope,
};
use tch::Tensor;

/// The epsilon of every norm in the VAE.
const EPS: f64 = 1e-6;

/// What encoder and decoder share.
#[derive(Clone, Debug, PartialEq)]
pub struct VaeSettings {
    /// `block_out_channels`, from the widest picture to the narrowest.
    pub widths: Vec<i64>,
    pub layers_per_block: usize,
    pub act_fn: Activation,
    pub norm_num_groups: i64,
    pub mid_block_add_attention: bool,
}

impl VaeSettings {
    fn resnet(&self) -> ResnetSettings {
        ResnetSettings {
            temb_channels: None,
            groups: self.norm_num_groups,
            eps: EPS,
            non_linearity: self.act_fn,
            output_scale_factor: 1.0,
        }
    }

    fn first(&self) -> i64 {
        self.widths.first().copied().unwrap_or_default()
    }

    fn last(&self) -> i64 {
        self.widths.last().copied().unwrap_or_default()
    }
}

/// diffusers `Attention` made "from a deprecated attention block": one head over all pixels, with a group
/// norm before it, biases, and a residual.
#[derive(Debug)]
struct VaeAttention {
    group_norm: GroupNorm,
    to_q: Linear,
    to_k: Linear,
    to_v: Linear,
    to_out_0: Linear,
}

impl VaeAttention {
    /// Older checkpoints call the projections query, key, value and proj_attn.
    fn load(scope: &Scope<'_>, channels: i64, groups: i64) -> Result<Self, ModelError> {
        let old = scope.has("query.weight");
        let linear = |new: &str, name: &str| {
            Linear::load(&scope.sub(if old { name } else { new }), channels, channels)
        };
        Ok(Self {
            group_norm: GroupNorm::load(&scope.sub("group_norm"), channels, groups, EPS)?,
            to_q: linear("to_q", "query")?,
            to_k: linear("to_k", "key")?,
            to_v: linear("to_v", "value")?,
            to_out_0: linear("to_out.0", "proj_attn")?,
        })
    }

    fn forward(&self, input: &Tensor) -> Result<Tensor, ModelError> {
        let (batch, channels, height, width) = input.size4()?;
        let rows = input.f_view([batch, channels, height * width])?.f_transpose(1, 2)?;
        let hidden = self.group_norm.forward(&rows.f_transpose(1, 2)?)?.f_transpose(1, 2)?;
        let query = self.to_q.forward(&hidden)?;
        let (key, value) = (self.to_k.forward(&hidden)?, self.to_v.forward(&hidden)?);
        let mixed = self.to_out_0.forward(&multi_head_attention(&query, &key, &value, 1)?)?;
        let picture = mixed.f_transpose(-1, -2)?.f_reshape([batch, channels, height, width])?;
        Ok(picture.f_add(input)?)
    }
}

/// diffusers `UNetMidBlock2D`.
#[derive(Debug)]
struct MidBlock {
    resnets: [ResnetBlock2D; 2],
    attentions_0: Option<VaeAttention>,
}

impl MidBlock {
    fn load(scope: &Scope<'_>, s: &VaeSettings) -> Result<Self, ModelError> {
        let (channels, resnet) = (s.last(), s.resnet());
        let block = |i: usize| {
            ResnetBlock2D::load(&scope.sub("resnets").sub(i), channels, channels, &resnet)
        };
        let attention =
            || VaeAttention::load(&scope.sub("attentions.0"), channels, s.norm_num_groups);
        Ok(Self {
            resnets: [block(0)?, block(1)?],
            attentions_0: s.mid_block_add_attention.then(attention).transpose()?,
        })
    }

    fn forward(&self, input: &Tensor) -> Result<Tensor, ModelError> {
        let mut hidden = self.resnets[0].forward(input, None)?;
        if let Some(attention) = &self.attentions_0 {
            hidden = attention.forward(&hidden)?;
        }
        self.resnets[1].forward(&hidden, None)
    }
}

/// A row of residual blocks, the first of which changes the width.
fn load_resnets(
    scope: &Scope<'_>,
    (inputs, outputs): (i64, i64),
    count: usize,
    resnet: &ResnetSettings,
) -> Result<Vec<ResnetBlock2D>, ModelError> {
    let scope = scope.sub("resnets");
    (0..count)
        .map(|i| {
            ResnetBlock2D::load(
                &scope.sub(i),
                if i == 0 { inputs } else { outputs },
                outputs,
                resnet,
            )
        })
        .collect()
}

/// diffusers `Decoder`.
#[derive(Debug)]
pub struct Decoder {
    conv_in: Conv2d,
    mid_block: MidBlock,
    /// `UpDecoderBlock2D`: resnets, then an upsampler in all but the last.
    up_blocks: Vec<(Vec<ResnetBlock2D>, Option<Upsample2D>)>,
    conv_norm_out: GroupNorm,
    conv_out: Conv2d,
}

impl Decoder {
    pub fn load(
        scope: &Scope<'_>,
        (inputs, outputs): (i64, i64),
        s: &VaeSettings,
    ) -> Result<Self, ModelError> {
        let mut up_blocks = Vec::with_capacity(s.widths.len());
        let mut previous = s.last();
        for (i, &width) in s.widths.iter().rev().enumerate() {
            let scope = scope.sub("up_blocks").sub(i);
            let resnets =
                load_resnets(&scope, (previous, width), s.layers_per_block + 1, &s.resnet())?;
            let upsampler = (i + 1 != s.widths.len())
                .then(|| Upsample2D::load(&scope.sub("upsamplers.0"), width));
            up_blocks.push((resnets, upsampler.transpose()?));
            previous = width;
        }
        Ok(Self {
            conv_in: Conv2d::load(&scope.sub("conv_in"), ConvShape::same(inputs, s.last(), 3))?,
            mid_block: MidBlock::load(&scope.sub("mid_block"), s)?,
            up_blocks,
            conv_norm_out: GroupNorm::load(
                &scope.sub("conv_norm_out"),
                s.first(),
                s.norm_num_groups,
                EPS,
            )?,
            conv_out: Conv2d::load(&scope.sub("conv_out"), ConvShape::same(s.first(), outputs, 3))?,
        })
    }

    pub fn forward(&self, sample: &Tensor) -> Result<Tensor, ModelError> {
        let mut hidden = self.mid_block.forward(&self.conv_in.forward(sample)?)?;
        for (resnets, upsampler) in &self.up_blocks {
            for resnet in resnets {
                hidden = resnet.forward(&hidden, None)?;
            }
            if let Some(upsampler) = upsampler {
                hidden = upsampler.forward(&hidden, None)?;
            }
        }
        self.conv_out.forward(&self.conv_norm_out.forward(&hidden)?.f_silu()?)
    }
}

/// diffusers `Encoder` with `double_z`.
#[derive(Debug)]
pub struct Encoder {
    conv_in: Conv2d,
    /// `DownEncoderBlock2D`: resnets, then a downsampler in all but the last.
    down_blocks: Vec<(Vec<ResnetBlock2D>, Option<Downsample2D>)>,
    mid_block: MidBlock,
    conv_norm_out: GroupNorm,
    conv_out: Conv2d,
}

impl Encoder {
    pub fn load(
        scope: &Scope<'_>,
        (inputs, latents): (i64, i64),
        s: &VaeSettings,
    ) -> Result<Self, ModelError> {
        let mut down_blocks = Vec::with_capacity(s.widths.len());
        let mut previous = s.first();
        for (i, &width) in s.widths.iter().enumerate() {
            let scope = scope.sub("down_blocks").sub(i);
            let resnets = load_resnets(&scope, (previous, width), s.layers_per_block, &s.resnet())?;
            let more = i + 1 != s.widths.len();
            let downsampler =
                more.then(|| Downsample2D::load(&scope.sub("downsamplers.0"), width, 0));
            down_blocks.push((resnets, downsampler.transpose()?));
            previous = width;
        }
        Ok(Self {
            conv_in: Conv2d::load(&scope.sub("conv_in"), ConvShape::same(inputs, s.first(), 3))?,
            down_blocks,
            mid_block: MidBlock::load(&scope.sub("mid_block"), s)?,
            conv_norm_out: GroupNorm::load(
                &scope.sub("conv_norm_out"),
                s.last(),
                s.norm_num_groups,
                EPS,
            )?,
            conv_out: Conv2d::load(
                &scope.sub("conv_out"),
                ConvShape::same(s.last(), latents * 2, 3),
            )?,
        })
    }

    /// Mean and log-variance, one after the other along the channels.
    pub fn forward(&self, sample: &Tensor) -> Result<Tensor, ModelError> {
        let mut hidden = self.conv_in.forward(sample)?;
        for (resnets, downsampler) in &self.down_blocks {
            for resnet in resnets {
                hidden = resnet.forward(&hidden, None)?;
            }
            if let Some(downsampler) = downsampler {
                hidden = downsampler.forward(&hidden)?;
            }
        }
        let hidden = self.mid_block.forward(&hidden)?;
        self.conv_out.forward(&self.conv_norm_out.forward(&hidden)?.f_silu()?)
    }
}
