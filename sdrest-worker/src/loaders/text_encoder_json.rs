//! `text_encoder/config.json` as transformers' `CLIPTextConfig` reads it.

use super::config_json::ConfigFile;
use crate::models::{ModelError, clip_text_model::ClipTextConfig};
use serde::Deserialize;

/// What must hold for the encoder to be a plain `CLIPTextModel`, run as diffusers runs it.
const FIXED: &[(&str, &[&str])] = &[
    ("architectures", &["null", "[\"CLIPTextModel\"]"]),
    ("model_type", &["\"clip_text_model\""]),
    ("use_attention_mask", &["null", "false"]),
];

/// transformers `CLIPTextConfig`: its parameters, with its defaults.
#[derive(Debug, Deserialize)]
#[serde(default)]
struct ClipText {
    vocab_size: i64,
    hidden_size: i64,
    intermediate_size: i64,
    num_hidden_layers: i64,
    num_attention_heads: i64,
    max_position_embeddings: i64,
    hidden_act: String,
    layer_norm_eps: f64,
}

impl Default for ClipText {
    fn default() -> Self {
        Self {
            vocab_size: 49408,
            hidden_size: 512,
            intermediate_size: 2048,
            num_hidden_layers: 12,
            num_attention_heads: 8,
            max_position_embeddings: 77,
            hidden_act: "quick_gelu".to_owned(),
            layer_norm_eps: 1e-5,
        }
    }
}

/// A vocabulary may be larger than any width.
const MAX_VOCABULARY: i64 = 1 << 20;

/// Reads and checks the file.
pub(super) fn read(file: &str, text: &str) -> Result<ClipTextConfig, ModelError> {
    let config = ConfigFile::parse(file, text)?;
    config.must_be(FIXED)?;
    let clip: ClipText = config.read()?;
    let hidden_size = config.positive("hidden_size", clip.hidden_size)?;
    if !(1..=MAX_VOCABULARY).contains(&clip.vocab_size) {
        return Err(config.refuse("vocab_size", clip.vocab_size, format!("1 to {MAX_VOCABULARY}")));
    }
    Ok(ClipTextConfig {
        vocab_size: clip.vocab_size,
        hidden_size,
        intermediate_size: config.positive("intermediate_size", clip.intermediate_size)?,
        num_hidden_layers: config.count("num_hidden_layers", clip.num_hidden_layers)?,
        num_attention_heads: config.divides(
            "num_attention_heads",
            clip.num_attention_heads,
            &[hidden_size],
        )?,
        max_position_embeddings: config
            .positive("max_position_embeddings", clip.max_position_embeddings)?,
        hidden_act: config.activation("hidden_act", &clip.hidden_act)?,
        layer_norm_eps: config.above_zero("layer_norm_eps", clip.layer_norm_eps)?,
    })
}
