//! diffusers `models/unets/unet_2d_blocks.py`: the blocks of the UNet. `CrossAttnDownBlock2D` and
//! `DownBlock2D` are one struct here, with or without attentions, and so are the up blocks.

use super::{
    attention::{Transformer2DModel, TransformerSettings},
    error::ModelError,
    resnet::{Downsample2D, ResnetBlock2D, ResnetSettings, Upsample2D},
    weights::Scope,
};
use tch::Tensor;

/// One level of the UNet, as a block is made from it.
#[derive(Clone, Copy, Debug)]
pub struct LevelSettings {
    pub resnet: ResnetSettings,
    /// `None` for a block type without cross-attention.
    pub transformer: Option<TransformerSettings>,
    /// How many residual blocks.
    pub num_layers: usize,
}

/// diffusers `CrossAttnDownBlock2D` / `DownBlock2D`.
#[derive(Debug)]
pub struct DownBlock {
    resnets: Vec<ResnetBlock2D>,
    /// As many as resnets, or none.
    attentions: Vec<Transformer2DModel>,
    downsamplers_0: Option<Downsample2D>,
}

impl DownBlock {
    /// `downsample_padding` is `None` in the last level, which does not shrink.
    pub fn load(
        scope: &Scope<'_>,
        (inputs, outputs): (i64, i64),
        s: &LevelSettings,
        downsample_padding: Option<i64>,
    ) -> Result<Self, ModelError> {
        let resnets = (0..s.num_layers)
            .map(|i| {
                let inputs = if i == 0 { inputs } else { outputs };
                ResnetBlock2D::load(&scope.sub("resnets").sub(i), inputs, outputs, &s.resnet)
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            resnets,
            attentions: load_attentions(scope, outputs, s)?,
            downsamplers_0: downsample_padding
                .map(|padding| Downsample2D::load(&scope.sub("downsamplers.0"), outputs, padding))
                .transpose()?,
        })
    }

    /// Pushes every output that an up block will want to `residuals`.
    pub fn forward(
        &self,
        hidden: Tensor,
        temb: &Tensor,
        context: &Tensor,
        residuals: &mut Vec<Tensor>,
    ) -> Result<Tensor, ModelError> {
        let mut hidden = hidden;
        for (i, resnet) in self.resnets.iter().enumerate() {
            hidden = resnet.forward(&hidden, Some(temb))?;
            if let Some(attention) = self.attentions.get(i) {
                hidden = attention.forward(&hidden, context)?;
            }
            residuals.push(hidden.shallow_clone());
        }
        if let Some(downsampler) = &self.downsamplers_0 {
            hidden = downsampler.forward(&hidden)?;
            residuals.push(hidden.shallow_clone());
        }
        Ok(hidden)
    }
}

/// diffusers `UNetMidBlock2DCrossAttn` with one layer.
#[derive(Debug)]
pub struct UNetMidBlock2DCrossAttn {
    resnets: [ResnetBlock2D; 2],
    attentions_0: Transformer2DModel,
}

impl UNetMidBlock2DCrossAttn {
    pub fn load(
        scope: &Scope<'_>,
        channels: i64,
        resnet: &ResnetSettings,
        transformer: &TransformerSettings,
    ) -> Result<Self, ModelError> {
        let block = |i: usize| {
            ResnetBlock2D::load(&scope.sub("resnets").sub(i), channels, channels, resnet)
        };
        Ok(Self {
            resnets: [block(0)?, block(1)?],
            attentions_0: Transformer2DModel::load(
                &scope.sub("attentions.0"),
                channels,
                transformer,
            )?,
        })
    }

    pub fn forward(
        &self,
        hidden: &Tensor,
        temb: &Tensor,
        context: &Tensor,
    ) -> Result<Tensor, ModelError> {
        let hidden = self.resnets[0].forward(hidden, Some(temb))?;
        let hidden = self.attentions_0.forward(&hidden, context)?;
        self.resnets[1].forward(&hidden, Some(temb))
    }
}

/// The channels that meet in an up block.
#[derive(Clone, Copy, Debug)]
pub struct UpChannels {
    /// Of the down block at the other end of the last skip connection.
    pub inputs: i64,
    pub outputs: i64,
    /// Of the block before.
    pub previous: i64,
}

/// diffusers `CrossAttnUpBlock2D` / `UpBlock2D`.
#[derive(Debug)]
pub struct UpBlock {
    resnets: Vec<ResnetBlock2D>,
    attentions: Vec<Transformer2DModel>,
    upsamplers_0: Option<Upsample2D>,
}

impl UpBlock {
    pub fn load(
        scope: &Scope<'_>,
        channels: UpChannels,
        s: &LevelSettings,
    ) -> Result<Self, ModelError> {
        let UpChannels { inputs, outputs, previous } = channels;
        let resnets = (0..s.num_layers)
            .map(|i| {
                let skip = if i + 1 == s.num_layers { inputs } else { outputs };
                let hidden = if i == 0 { previous } else { outputs };
                ResnetBlock2D::load(&scope.sub("resnets").sub(i), hidden + skip, outputs, &s.resnet)
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { resnets, attentions: load_attentions(scope, outputs, s)?, upsamplers_0: None })
    }

    /// Adds the upsampler that every level but the last has.
    pub fn with_upsampler(mut self, scope: &Scope<'_>, channels: i64) -> Result<Self, ModelError> {
        self.upsamplers_0 = Some(Upsample2D::load(&scope.sub("upsamplers.0"), channels)?);
        Ok(self)
    }

    /// How many residuals [`Self::forward`] takes off the stack.
    pub fn takes(&self) -> usize {
        self.resnets.len()
    }

    /// `skips` are the last residuals, in the order in which they were made; they are used from the back.
    pub fn forward(
        &self,
        hidden: Tensor,
        (temb, context): (&Tensor, &Tensor),
        skips: Vec<Tensor>,
        upsample_size: Option<(i64, i64)>,
    ) -> Result<Tensor, ModelError> {
        let mut hidden = hidden;
        for (i, (resnet, skip)) in self.resnets.iter().zip(skips.into_iter().rev()).enumerate() {
            hidden = resnet.forward(&Tensor::f_cat(&[hidden, skip], 1)?, Some(temb))?;
            if let Some(attention) = self.attentions.get(i) {
                hidden = attention.forward(&hidden, context)?;
            }
        }
        match &self.upsamplers_0 {
            Some(upsampler) => upsampler.forward(&hidden, upsample_size),
            None => Ok(hidden),
        }
    }
}

fn load_attentions(
    scope: &Scope<'_>,
    channels: i64,
    s: &LevelSettings,
) -> Result<Vec<Transformer2DModel>, ModelError> {
    let Some(transformer) = &s.transformer else { return Ok(Vec::new()) };
    (0..s.num_layers)
        .map(|i| Transformer2DModel::load(&scope.sub("attentions").sub(i), channels, transformer))
        .collect()
}
