//! `vae/config.json` as diffusers' `AutoencoderKL.__init__` reads it.

use super::config_json::ConfigFile;
use crate::models::{
    ModelError, autoencoder_kl::AutoencoderKlConfig, error::shorten, vae_blocks::VaeSettings,
};
use serde::Deserialize;

/// Parameters of the class that the Stable Diffusion pipeline does not look at, or that have one value in it.
const FIXED: &[(&str, &[&str])] = &[
    ("_class_name", &["\"AutoencoderKL\""]),
    ("latents_mean", &["null"]),
    ("latents_std", &["null"]),
    ("shift_factor", &["null"]),
];

/// diffusers `AutoencoderKL`: its parameters, with its defaults.
#[derive(Debug, Deserialize)]
#[serde(default)]
struct AutoencoderKl {
    in_channels: i64,
    out_channels: i64,
    down_block_types: Vec<String>,
    up_block_types: Vec<String>,
    block_out_channels: Vec<i64>,
    layers_per_block: i64,
    act_fn: String,
    latent_channels: i64,
    norm_num_groups: i64,
    scaling_factor: f64,
    use_quant_conv: bool,
    use_post_quant_conv: bool,
    mid_block_add_attention: bool,
}

impl Default for AutoencoderKl {
    fn default() -> Self {
        Self {
            in_channels: 3,
            out_channels: 3,
            down_block_types: vec!["DownEncoderBlock2D".to_owned()],
            up_block_types: vec!["UpDecoderBlock2D".to_owned()],
            block_out_channels: vec![64],
            layers_per_block: 1,
            act_fn: "silu".to_owned(),
            latent_channels: 4,
            norm_num_groups: 32,
            scaling_factor: 0.18215,
            use_quant_conv: true,
            use_post_quant_conv: true,
            mid_block_add_attention: true,
        }
    }
}

/// Reads and checks the file.
pub(super) fn read(file: &str, text: &str) -> Result<AutoencoderKlConfig, ModelError> {
    let config = ConfigFile::parse(file, text)?;
    config.must_be(FIXED)?;
    let vae: AutoencoderKl = config.read()?;
    let count = vae.block_out_channels.len();
    if !(1..=6).contains(&count) {
        return Err(config.refuse(
            "block_out_channels",
            format!("a list of {count}"),
            "1 to 6 blocks",
        ));
    }
    block_types(&config, ("down_block_types", "DownEncoderBlock2D"), &vae.down_block_types, count)?;
    block_types(&config, ("up_block_types", "UpDecoderBlock2D"), &vae.up_block_types, count)?;
    for &width in &vae.block_out_channels {
        config.positive("block_out_channels", width)?;
    }
    if (vae.in_channels, vae.out_channels) != (3, 3) {
        let value = format!("{} and {}", vae.in_channels, vae.out_channels);
        return Err(config.refuse(
            "in_channels, out_channels",
            value,
            "3 and 3 (red, green, blue)",
        ));
    }
    Ok(AutoencoderKlConfig {
        in_channels: vae.in_channels,
        out_channels: vae.out_channels,
        latent_channels: config.positive("latent_channels", vae.latent_channels)?,
        blocks: VaeSettings {
            layers_per_block: config.count("layers_per_block", vae.layers_per_block)?,
            act_fn: config.activation("act_fn", &vae.act_fn)?,
            norm_num_groups: config.divides(
                "norm_num_groups",
                vae.norm_num_groups,
                &vae.block_out_channels,
            )?,
            mid_block_add_attention: vae.mid_block_add_attention,
            widths: vae.block_out_channels,
        },
        scaling_factor: config.above_zero("scaling_factor", vae.scaling_factor)?,
        use_quant_conv: vae.use_quant_conv,
        use_post_quant_conv: vae.use_post_quant_conv,
    })
}

fn block_types(
    config: &ConfigFile<'_>,
    (key, supported): (&str, &str),
    types: &[String],
    count: usize,
) -> Result<(), ModelError> {
    if types.len() != count {
        let supported = format!("{count}, one for each of `block_out_channels`");
        return Err(config.refuse(key, format!("a list of {}", types.len()), supported));
    }
    match types.iter().find(|name| *name != supported) {
        None => Ok(()),
        Some(other) => Err(config.refuse(key, format!("\"{}\"", shorten(other)), supported)),
    }
}
