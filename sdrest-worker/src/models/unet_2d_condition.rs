//! diffusers `UNet2DConditionModel`, the forward pass in its numbered steps, for the block types of Stable
//! Diffusion 1.x and 2.x.

use super::{
    attention::TransformerSettings,
    embeddings::{TimestepEmbedding, Timesteps},
    error::ModelError,
    layers::{Activation, Conv2d, ConvShape, GroupNorm},
    resnet::ResnetSettings,
    unet_2d_blocks::{DownBlock, LevelSettings, UNetMidBlock2DCrossAttn, UpBlock, UpChannels},
    weights::Scope,
};
use tch::Tensor;

/// One level, from the widest picture to the narrowest.
#[derive(Clone, Debug, PartialEq)]
pub struct UNetLevel {
    pub channels: i64,
    pub layers: usize,
    /// Heads of attention: what the configuration calls `attention_head_dim`.
    pub heads: i64,
    pub transformer_layers: usize,
    pub cross_attention_dim: i64,
    /// Whether the down block of this level has cross-attention, and whether its up block has.
    pub down_attention: bool,
    pub up_attention: bool,
}

/// A checked `unet/config.json`: at least one level, groups that divide every width, heads likewise.
#[derive(Clone, Debug, PartialEq)]
pub struct UNet2DConditionConfig {
    pub sample_size: i64,
    pub in_channels: i64,
    pub out_channels: i64,
    pub center_input_sample: bool,
    pub flip_sin_to_cos: bool,
    pub freq_shift: f64,
    pub levels: Vec<UNetLevel>,
    pub downsample_padding: i64,
    pub mid_block_scale_factor: f64,
    pub act_fn: Activation,
    pub norm_num_groups: i64,
    pub norm_eps: f64,
    pub use_linear_projection: bool,
    pub conv_in_kernel: i64,
    pub conv_out_kernel: i64,
}

impl UNet2DConditionConfig {
    /// The levels' resnets and transformers as the blocks want them.
    fn level_settings(&self, level: &UNetLevel) -> (ResnetSettings, TransformerSettings) {
        let resnet = ResnetSettings {
            temb_channels: Some(self.time_embed_dim()),
            groups: self.norm_num_groups,
            eps: self.norm_eps,
            non_linearity: self.act_fn,
            output_scale_factor: 1.0,
        };
        let transformer = TransformerSettings {
            heads: level.heads,
            cross_attention_dim: level.cross_attention_dim,
            num_layers: level.transformer_layers,
            norm_num_groups: self.norm_num_groups,
            use_linear_projection: self.use_linear_projection,
        };
        (resnet, transformer)
    }

    fn first_width(&self) -> i64 {
        self.levels.first().map_or(0, |level| level.channels)
    }

    fn time_embed_dim(&self) -> i64 {
        self.first_width() * 4
    }
}

/// diffusers `UNet2DConditionModel`.
#[derive(Debug)]
pub struct UNet2DConditionModel {
    time_proj: Timesteps,
    time_embedding: TimestepEmbedding,
    conv_in: Conv2d,
    down_blocks: Vec<DownBlock>,
    mid_block: UNetMidBlock2DCrossAttn,
    up_blocks: Vec<UpBlock>,
    conv_norm_out: GroupNorm,
    conv_act: Activation,
    conv_out: Conv2d,
    center_input_sample: bool,
}

impl UNet2DConditionModel {
    /// Takes every tensor that the configuration asks for; a missing or differently shaped one is an error.
    pub fn load(scope: &Scope<'_>, c: &UNet2DConditionConfig) -> Result<Self, ModelError> {
        let first = c.first_width();
        let conv_in = ConvShape::same(c.in_channels, first, c.conv_in_kernel);
        let conv_out = ConvShape::same(first, c.out_channels, c.conv_out_kernel);
        let time_embedding = scope.sub("time_embedding");
        Ok(Self {
            time_proj: Timesteps {
                num_channels: first,
                flip_sin_to_cos: c.flip_sin_to_cos,
                downscale_freq_shift: c.freq_shift,
            },
            time_embedding: TimestepEmbedding::load(
                &time_embedding,
                first,
                c.time_embed_dim(),
                c.act_fn,
            )?,
            conv_in: Conv2d::load(&scope.sub("conv_in"), conv_in)?,
            down_blocks: load_down_blocks(&scope.sub("down_blocks"), c)?,
            mid_block: load_mid_block(&scope.sub("mid_block"), c)?,
            up_blocks: load_up_blocks(&scope.sub("up_blocks"), c)?,
            conv_norm_out: GroupNorm::load(
                &scope.sub("conv_norm_out"),
                first,
                c.norm_num_groups,
                c.norm_eps,
            )?,
            conv_act: c.act_fn,
            conv_out: Conv2d::load(&scope.sub("conv_out"), conv_out)?,
            center_input_sample: c.center_input_sample,
        })
    }

    /// `sample` is (B, in_channels, h, w), `timestep` (1), int64 or float32, `encoder_hidden_states`
    /// (B, L, cross_attention_dim). The answer is (B, out_channels, h, w).
    pub fn forward(
        &self,
        sample: &Tensor,
        timestep: &Tensor,
        encoder_hidden_states: &Tensor,
    ) -> Result<Tensor, ModelError> {
        let _guard = tch::no_grad_guard();
        let (batch, _, height, width) = sample.size4()?;
        let factor = 1_i64 << (self.up_blocks.len() - 1);
        let forward_upsample_size = height % factor != 0 || width % factor != 0;

        // 0. center input if necessary
        let centred = self
            .center_input_sample
            .then(|| sample.f_mul_scalar(2.0)?.f_sub_scalar(1.0))
            .transpose()?;
        let sample = centred.as_ref().unwrap_or(sample);

        // 1. time
        let t_emb = self.time_proj.forward(&timestep.f_expand([batch], false)?)?;
        let emb = self.time_embedding.forward(&t_emb.f_to_kind(sample.kind())?)?;

        // 2. pre-process
        let mut hidden = self.conv_in.forward(sample)?;

        // 3. down
        let mut residuals = vec![hidden.shallow_clone()];
        for block in &self.down_blocks {
            hidden = block.forward(hidden, &emb, encoder_hidden_states, &mut residuals)?;
        }

        // 4. mid
        hidden = self.mid_block.forward(&hidden, &emb, encoder_hidden_states)?;

        // 5. up
        for (i, block) in self.up_blocks.iter().enumerate() {
            let skips = residuals.split_off(residuals.len().saturating_sub(block.takes()));
            let last = i + 1 == self.up_blocks.len();
            let wanted = if forward_upsample_size && !last { residuals.last() } else { None };
            let size = wanted.map(|r| r.size4().map(|(_, _, h, w)| (h, w))).transpose()?;
            hidden = block.forward(hidden, (&emb, encoder_hidden_states), skips, size)?;
        }

        // 6. post-process
        self.conv_out.forward(&self.conv_act.forward(&self.conv_norm_out.forward(&hidden)?)?)
    }
}

fn load_down_blocks(
    scope: &Scope<'_>,
    c: &UNet2DConditionConfig,
) -> Result<Vec<DownBlock>, ModelError> {
    let mut inputs = c.first_width();
    let mut blocks = Vec::with_capacity(c.levels.len());
    for (i, level) in c.levels.iter().enumerate() {
        let (resnet, transformer) = c.level_settings(level);
        let transformer = level.down_attention.then_some(transformer);
        let settings = LevelSettings { resnet, transformer, num_layers: level.layers };
        let padding = (i + 1 != c.levels.len()).then_some(c.downsample_padding);
        blocks.push(DownBlock::load(&scope.sub(i), (inputs, level.channels), &settings, padding)?);
        inputs = level.channels;
    }
    Ok(blocks)
}

fn load_mid_block(
    scope: &Scope<'_>,
    c: &UNet2DConditionConfig,
) -> Result<UNetMidBlock2DCrossAttn, ModelError> {
    let Some(level) = c.levels.last() else {
        return Err(ModelError::Corrupt {
            file: "unet/config.json".to_owned(),
            reason: "`block_out_channels` is empty".to_owned(),
        });
    };
    let (mut resnet, transformer) = c.level_settings(level);
    resnet.output_scale_factor = c.mid_block_scale_factor;
    UNetMidBlock2DCrossAttn::load(scope, level.channels, &resnet, &transformer)
}

fn load_up_blocks(
    scope: &Scope<'_>,
    c: &UNet2DConditionConfig,
) -> Result<Vec<UpBlock>, ModelError> {
    let reversed: Vec<&UNetLevel> = c.levels.iter().rev().collect();
    let mut previous = reversed.first().map_or(0, |level| level.channels);
    let mut blocks = Vec::with_capacity(reversed.len());
    for (i, level) in reversed.iter().enumerate() {
        let (resnet, transformer) = c.level_settings(level);
        let transformer = level.up_attention.then_some(transformer);
        let settings = LevelSettings { resnet, transformer, num_layers: level.layers + 1 };
        let inputs = reversed.get(i + 1).unwrap_or(level).channels;
        let scope = scope.sub(i);
        let mut block = UpBlock::load(
            &scope,
            UpChannels { inputs, outputs: level.channels, previous },
            &settings,
        )?;
        if i + 1 != reversed.len() {
            block = block.with_upsampler(&scope, level.channels)?;
        }
        blocks.push(block);
        previous = level.channels;
    }
    Ok(blocks)
}
