//! `unet/config.json` as diffusers' `UNet2DConditionModel.__init__` reads it.

use super::config_json::{ConfigFile, OneOrMany};
use crate::models::{
    ModelError,
    error::shorten,
    unet_2d_condition::{UNet2DConditionConfig, UNetLevel},
};
use serde::Deserialize;

/// Parameters of the class that this worker has one answer to.
const FIXED: &[(&str, &[&str])] = &[
    ("_class_name", &["\"UNet2DConditionModel\""]),
    ("num_attention_heads", &["null"]),
    ("mid_block_type", &["\"UNetMidBlock2DCrossAttn\""]),
    ("mid_block_only_cross_attention", &["null", "false"]),
    ("only_cross_attention", &["false"]),
    ("dual_cross_attention", &["false"]),
    ("cross_attention_norm", &["null"]),
    ("attention_type", &["\"default\""]),
    ("reverse_transformer_layers_per_block", &["null"]),
    ("class_embed_type", &["null"]),
    ("num_class_embeds", &["null"]),
    ("class_embeddings_concat", &["false"]),
    ("projection_class_embeddings_input_dim", &["null"]),
    ("addition_embed_type", &["null"]),
    ("encoder_hid_dim", &["null"]),
    ("encoder_hid_dim_type", &["null"]),
    ("resnet_time_scale_shift", &["\"default\""]),
    ("resnet_skip_time_act", &["false"]),
    ("time_embedding_type", &["\"positional\""]),
    ("time_embedding_dim", &["null"]),
    ("time_embedding_act_fn", &["null"]),
    ("timestep_post_act", &["null"]),
    ("time_cond_proj_dim", &["null"]),
];

/// diffusers `UNet2DConditionModel`: its parameters, with its defaults.
#[derive(Debug, Deserialize)]
#[serde(default)]
struct UNet2DConditionModel {
    sample_size: Option<OneOrMany<i64>>,
    in_channels: i64,
    out_channels: i64,
    center_input_sample: bool,
    flip_sin_to_cos: bool,
    freq_shift: f64,
    down_block_types: Vec<String>,
    up_block_types: Vec<String>,
    block_out_channels: Vec<i64>,
    layers_per_block: OneOrMany<i64>,
    downsample_padding: i64,
    mid_block_scale_factor: f64,
    act_fn: String,
    norm_num_groups: Option<i64>,
    norm_eps: f64,
    cross_attention_dim: OneOrMany<i64>,
    transformer_layers_per_block: OneOrMany<i64>,
    attention_head_dim: OneOrMany<i64>,
    use_linear_projection: bool,
    conv_in_kernel: i64,
    conv_out_kernel: i64,
}

impl Default for UNet2DConditionModel {
    fn default() -> Self {
        let [attention, plain] = [true, false].map(|a| move |side: &str| block_name(side, a));
        Self {
            sample_size: None,
            in_channels: 4,
            out_channels: 4,
            center_input_sample: false,
            flip_sin_to_cos: true,
            freq_shift: 0.0,
            down_block_types: vec![
                attention("Down"),
                attention("Down"),
                attention("Down"),
                plain("Down"),
            ],
            up_block_types: vec![plain("Up"), attention("Up"), attention("Up"), attention("Up")],
            block_out_channels: vec![320, 640, 1280, 1280],
            layers_per_block: OneOrMany::One(2),
            downsample_padding: 1,
            mid_block_scale_factor: 1.0,
            act_fn: "silu".to_owned(),
            norm_num_groups: Some(32),
            norm_eps: 1e-5,
            cross_attention_dim: OneOrMany::One(1280),
            transformer_layers_per_block: OneOrMany::One(1),
            attention_head_dim: OneOrMany::One(8),
            use_linear_projection: false,
            conv_in_kernel: 3,
            conv_out_kernel: 3,
        }
    }
}

fn block_name(side: &str, attention: bool) -> String {
    format!("{}{side}Block2D", if attention { "CrossAttn" } else { "" })
}

/// Reads and checks the file.
pub(super) fn read(file: &str, text: &str) -> Result<UNet2DConditionConfig, ModelError> {
    let config = ConfigFile::parse(file, text)?;
    config.must_be(FIXED)?;
    let unet: UNet2DConditionModel = config.read()?;
    let groups =
        unet.norm_num_groups.ok_or_else(|| config.refuse("norm_num_groups", "null", "a number"))?;
    let levels = read_levels(&config, &unet)?;
    // At a skip connection two widths are joined; a divisor of both divides their sum.
    let widths: Vec<i64> = levels.iter().map(|level| level.channels).collect();
    Ok(UNet2DConditionConfig {
        sample_size: sample_size(&config, unet.sample_size)?,
        in_channels: config.positive("in_channels", unet.in_channels)?,
        out_channels: config.positive("out_channels", unet.out_channels)?,
        center_input_sample: unet.center_input_sample,
        flip_sin_to_cos: unet.flip_sin_to_cos,
        freq_shift: freq_shift(&config, unet.freq_shift, &levels)?,
        downsample_padding: match unet.downsample_padding {
            padding @ 0..=1 => padding,
            other => return Err(config.refuse("downsample_padding", other, "0 or 1")),
        },
        mid_block_scale_factor: config
            .above_zero("mid_block_scale_factor", unet.mid_block_scale_factor)?,
        act_fn: config.activation("act_fn", &unet.act_fn)?,
        norm_num_groups: config.divides("norm_num_groups", groups, &widths)?,
        norm_eps: config.above_zero("norm_eps", unet.norm_eps)?,
        use_linear_projection: unet.use_linear_projection,
        conv_in_kernel: kernel(&config, "conv_in_kernel", unet.conv_in_kernel)?,
        conv_out_kernel: kernel(&config, "conv_out_kernel", unet.conv_out_kernel)?,
        levels,
    })
}

fn read_levels(
    config: &ConfigFile<'_>,
    unet: &UNet2DConditionModel,
) -> Result<Vec<UNetLevel>, ModelError> {
    let count = unet.block_out_channels.len();
    if !(1..=8).contains(&count) {
        return Err(config.refuse(
            "block_out_channels",
            format!("a list of {count}"),
            "1 to 8 blocks",
        ));
    }
    let down = attentions(config, "down_block_types", &unet.down_block_types, "Down", count)?;
    let up = attentions(config, "up_block_types", &unet.up_block_types, "Up", count)?;
    let layers = config.each("layers_per_block", &unet.layers_per_block, count)?;
    let heads = config.each("attention_head_dim", &unet.attention_head_dim, count)?;
    let context = config.each("cross_attention_dim", &unet.cross_attention_dim, count)?;
    let depth =
        config.each("transformer_layers_per_block", &unet.transformer_layers_per_block, count)?;
    let mut levels = Vec::with_capacity(count);
    for (i, &channels) in unet.block_out_channels.iter().enumerate() {
        let channels = config.positive("block_out_channels", channels)?;
        levels.push(UNetLevel {
            channels,
            layers: config.count("layers_per_block", layers[i])?,
            heads: config.divides("attention_head_dim", heads[i], &[channels])?,
            transformer_layers: config.count("transformer_layers_per_block", depth[i])?,
            cross_attention_dim: config.positive("cross_attention_dim", context[i])?,
            down_attention: down[i],
            // The list of up blocks begins at the narrowest picture.
            up_attention: up[count - 1 - i],
        });
    }
    Ok(levels)
}

/// Whether each block of a list has cross-attention.
fn attentions(
    config: &ConfigFile<'_>,
    key: &str,
    types: &[String],
    side: &str,
    count: usize,
) -> Result<Vec<bool>, ModelError> {
    if types.len() != count {
        let supported = format!("{count}, one for each of `block_out_channels`");
        return Err(config.refuse(key, format!("a list of {}", types.len()), supported));
    }
    let (attention, plain) = (block_name(side, true), block_name(side, false));
    types
        .iter()
        .map(|name| match name {
            name if *name == attention => Ok(true),
            name if *name == plain => Ok(false),
            other => Err(config.refuse(
                key,
                format!("\"{}\"", shorten(other)),
                format!("{attention}, {plain}"),
            )),
        })
        .collect()
}

fn sample_size(config: &ConfigFile<'_>, value: Option<OneOrMany<i64>>) -> Result<i64, ModelError> {
    let supported = "one number, or two that are equal";
    match value {
        Some(OneOrMany::One(side)) => config.positive("sample_size", side),
        Some(OneOrMany::Many(sides)) => match sides.as_slice() {
            [height, width] if height == width => config.positive("sample_size", *height),
            other => Err(config.refuse("sample_size", shorten(&format!("{other:?}")), supported)),
        },
        None => Err(config.refuse("sample_size", "null", supported)),
    }
}

/// The sines' frequencies divide by half the first width minus this.
fn freq_shift(
    config: &ConfigFile<'_>,
    value: f64,
    levels: &[UNetLevel],
) -> Result<f64, ModelError> {
    let half = levels.first().map_or(0, |level| level.channels / 2);
    if value.is_finite() && (value - half as f64).abs() > f64::EPSILON {
        return Ok(value);
    }
    Err(config.refuse("freq_shift", value, format!("a number other than {half}")))
}

fn kernel(config: &ConfigFile<'_>, key: &str, value: i64) -> Result<i64, ModelError> {
    match value {
        1 | 3 | 5 | 7 => Ok(value),
        other => Err(config.refuse(key, other, "1, 3, 5 or 7")),
    }
}
