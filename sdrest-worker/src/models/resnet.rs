//! diffusers `models/resnet.py`, `downsampling.py` and `upsampling.py`: `ResnetBlock2D` with
//! `time_embedding_norm="default"`, `Downsample2D`, `Upsample2D`.

use super::{
    error::ModelError,
    layers::{Activation, Conv2d, ConvShape, GroupNorm, Linear},
    weights::Scope,
};
use tch::Tensor;

/// What all residual blocks of one network share.
#[derive(Clone, Copy, Debug)]
pub struct ResnetSettings {
    /// Channels of the time embedding; `None` in the VAE.
    pub temb_channels: Option<i64>,
    pub groups: i64,
    pub eps: f64,
    pub non_linearity: Activation,
    pub output_scale_factor: f64,
}

/// diffusers `ResnetBlock2D`.
#[derive(Debug)]
pub struct ResnetBlock2D {
    norm1: GroupNorm,
    conv1: Conv2d,
    time_emb_proj: Option<Linear>,
    norm2: GroupNorm,
    conv2: Conv2d,
    conv_shortcut: Option<Conv2d>,
    non_linearity: Activation,
    output_scale_factor: f64,
}

impl ResnetBlock2D {
    pub fn load(
        scope: &Scope<'_>,
        inputs: i64,
        outputs: i64,
        s: &ResnetSettings,
    ) -> Result<Self, ModelError> {
        let time_emb_proj = s
            .temb_channels
            .map(|temb| Linear::load(&scope.sub("time_emb_proj"), temb, outputs))
            .transpose()?;
        let shortcut = (inputs != outputs).then(|| ConvShape::same(inputs, outputs, 1));
        let conv_shortcut =
            shortcut.map(|shape| Conv2d::load(&scope.sub("conv_shortcut"), shape)).transpose()?;
        Ok(Self {
            norm1: GroupNorm::load(&scope.sub("norm1"), inputs, s.groups, s.eps)?,
            conv1: Conv2d::load(&scope.sub("conv1"), ConvShape::same(inputs, outputs, 3))?,
            time_emb_proj,
            norm2: GroupNorm::load(&scope.sub("norm2"), outputs, s.groups, s.eps)?,
            conv2: Conv2d::load(&scope.sub("conv2"), ConvShape::same(outputs, outputs, 3))?,
            conv_shortcut,
            non_linearity: s.non_linearity,
            output_scale_factor: s.output_scale_factor,
        })
    }

    /// `input` is (B, inputs, h, w), `temb` (B, temb_channels).
    pub fn forward(&self, input: &Tensor, temb: Option<&Tensor>) -> Result<Tensor, ModelError> {
        let hidden = self.non_linearity.forward(&self.norm1.forward(input)?)?;
        let mut hidden = self.conv1.forward(&hidden)?;
        if let (Some(projection), Some(temb)) = (&self.time_emb_proj, temb) {
            let temb = projection.forward(&self.non_linearity.forward(temb)?)?;
            hidden = hidden.f_add(&temb.f_unsqueeze(2)?.f_unsqueeze(3)?)?;
        }
        let hidden = self.non_linearity.forward(&self.norm2.forward(&hidden)?)?;
        let hidden = self.conv2.forward(&hidden)?;
        let output = match &self.conv_shortcut {
            Some(shortcut) => shortcut.forward(input)?.f_add(&hidden)?,
            None => input.f_add(&hidden)?,
        };
        // Dividing by one changes no bit.
        if self.output_scale_factor == 1.0 {
            Ok(output)
        } else {
            Ok(output.f_div_scalar(self.output_scale_factor)?)
        }
    }
}

/// diffusers `Downsample2D` with a convolution.
#[derive(Debug)]
pub struct Downsample2D {
    conv: Conv2d,
    padding: i64,
}

impl Downsample2D {
    pub fn load(scope: &Scope<'_>, channels: i64, padding: i64) -> Result<Self, ModelError> {
        let shape =
            ConvShape { inputs: channels, outputs: channels, kernel: 3, stride: 2, padding };
        Ok(Self { conv: Conv2d::load(&scope.sub("conv"), shape)?, padding })
    }

    pub fn forward(&self, input: &Tensor) -> Result<Tensor, ModelError> {
        if self.padding == 0 {
            return self.conv.forward(&input.f_constant_pad_nd([0, 1, 0, 1])?);
        }
        self.conv.forward(input)
    }
}

/// diffusers `Upsample2D` with a convolution.
#[derive(Debug)]
pub struct Upsample2D {
    conv: Conv2d,
}

impl Upsample2D {
    pub fn load(scope: &Scope<'_>, channels: i64) -> Result<Self, ModelError> {
        Ok(Self { conv: Conv2d::load(&scope.sub("conv"), ConvShape::same(channels, channels, 3))? })
    }

    /// Doubles both sides, or brings them to `size` (height, width) where that is given.
    pub fn forward(&self, input: &Tensor, size: Option<(i64, i64)>) -> Result<Tensor, ModelError> {
        let larger = match size {
            None => input.f_upsample_nearest2d_vec(None::<&[i64]>, [2.0, 2.0])?,
            Some((height, width)) => input.f_upsample_nearest2d([height, width], None, None)?,
        };
        self.conv.forward(&larger)
    }
}
