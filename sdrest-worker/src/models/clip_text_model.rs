//! transformers `CLIPTextModel` (`models/clip/modeling_clip.py`) with scaled-dot-product attention, without
//! the pooled output, which Stable Diffusion 1.x does not use.

use super::{
    error::ModelError,
    layers::{Activation, Embedding, LayerNorm, Linear},
    weights::Scope,
};
use tch::{Device, Kind, Tensor};

/// A checked `text_encoder/config.json`.
#[derive(Clone, Debug, PartialEq)]
pub struct ClipTextConfig {
    pub vocab_size: i64,
    pub hidden_size: i64,
    pub intermediate_size: i64,
    pub num_hidden_layers: usize,
    pub num_attention_heads: i64,
    pub max_position_embeddings: i64,
    pub hidden_act: Activation,
    pub layer_norm_eps: f64,
}

/// transformers `CLIPAttention`, causal.
#[derive(Debug)]
struct ClipAttention {
    k_proj: Linear,
    v_proj: Linear,
    q_proj: Linear,
    out_proj: Linear,
    heads: i64,
    head_dim: i64,
}

impl ClipAttention {
    fn load(scope: &Scope<'_>, c: &ClipTextConfig) -> Result<Self, ModelError> {
        let projection = |name: &str| Linear::load(&scope.sub(name), c.hidden_size, c.hidden_size);
        Ok(Self {
            k_proj: projection("k_proj")?,
            v_proj: projection("v_proj")?,
            q_proj: projection("q_proj")?,
            out_proj: projection("out_proj")?,
            heads: c.num_attention_heads,
            head_dim: c.hidden_size / c.num_attention_heads,
        })
    }

    fn forward(&self, hidden: &Tensor) -> Result<Tensor, ModelError> {
        let (batch, length, channels) = hidden.size3()?;
        let split =
            |x: Tensor| x.f_view([batch, length, self.heads, self.head_dim])?.f_transpose(1, 2);
        let query = split(self.q_proj.forward(hidden)?)?;
        let key = split(self.k_proj.forward(hidden)?)?;
        let value = split(self.v_proj.forward(hidden)?)?;
        let (mask, causal, scale) =
            (None::<&Tensor>, length > 1, (self.head_dim as f64).powf(-0.5));
        let mixed = Tensor::f_scaled_dot_product_attention(
            &query, &key, &value, mask, 0.0, causal, scale, false,
        )?;
        let mixed =
            mixed.f_transpose(1, 2)?.f_contiguous()?.f_reshape([batch, length, channels])?;
        self.out_proj.forward(&mixed)
    }
}

/// transformers `CLIPEncoderLayer` with its `CLIPMLP`.
#[derive(Debug)]
struct ClipEncoderLayer {
    self_attn: ClipAttention,
    layer_norm1: LayerNorm,
    mlp_fc1: Linear,
    mlp_fc2: Linear,
    activation: Activation,
    layer_norm2: LayerNorm,
}

impl ClipEncoderLayer {
    fn load(scope: &Scope<'_>, c: &ClipTextConfig) -> Result<Self, ModelError> {
        Ok(Self {
            self_attn: ClipAttention::load(&scope.sub("self_attn"), c)?,
            layer_norm1: LayerNorm::load(
                &scope.sub("layer_norm1"),
                c.hidden_size,
                c.layer_norm_eps,
            )?,
            mlp_fc1: Linear::load(&scope.sub("mlp.fc1"), c.hidden_size, c.intermediate_size)?,
            mlp_fc2: Linear::load(&scope.sub("mlp.fc2"), c.intermediate_size, c.hidden_size)?,
            activation: c.hidden_act,
            layer_norm2: LayerNorm::load(
                &scope.sub("layer_norm2"),
                c.hidden_size,
                c.layer_norm_eps,
            )?,
        })
    }

    fn forward(&self, hidden: &Tensor) -> Result<Tensor, ModelError> {
        let attended = self.self_attn.forward(&self.layer_norm1.forward(hidden)?)?;
        let hidden = hidden.f_add(&attended)?;
        let inner = self.mlp_fc1.forward(&self.layer_norm2.forward(&hidden)?)?;
        let outer = self.mlp_fc2.forward(&self.activation.forward(&inner)?)?;
        Ok(hidden.f_add(&outer)?)
    }
}

/// transformers `CLIPTextModel`.
#[derive(Debug)]
pub struct ClipTextModel {
    token_embedding: Embedding,
    position_embedding: Embedding,
    layers: Vec<ClipEncoderLayer>,
    final_layer_norm: LayerNorm,
    max_position_embeddings: i64,
}

impl ClipTextModel {
    /// Takes names with or without the prefix `text_model.`: transformers 5 writes them without.
    pub fn load(scope: &Scope<'_>, c: &ClipTextConfig) -> Result<Self, ModelError> {
        let prefixed = !scope.has("embeddings.token_embedding.weight");
        let scope = if prefixed { scope.sub("text_model") } else { scope.clone() };
        let (embeddings, layers) = (scope.sub("embeddings"), scope.sub("encoder.layers"));
        let (token, position) =
            (embeddings.sub("token_embedding"), embeddings.sub("position_embedding"));
        Ok(Self {
            token_embedding: Embedding::load(&token, c.vocab_size, c.hidden_size)?,
            position_embedding: Embedding::load(
                &position,
                c.max_position_embeddings,
                c.hidden_size,
            )?,
            layers: (0..c.num_hidden_layers)
                .map(|i| ClipEncoderLayer::load(&layers.sub(i), c))
                .collect::<Result<_, _>>()?,
            final_layer_norm: LayerNorm::load(
                &scope.sub("final_layer_norm"),
                c.hidden_size,
                c.layer_norm_eps,
            )?,
            max_position_embeddings: c.max_position_embeddings,
        })
    }

    /// How many layers it has: `clip_skip` may be that many at most.
    pub fn num_hidden_layers(&self) -> usize {
        self.layers.len()
    }

    /// Where its weights lie, and `input_ids` must.
    pub fn device(&self) -> Device {
        self.token_embedding.device()
    }

    /// `input_ids` is (B, L), int64, on [`Self::device`]. Leaves out the last `clip_skip` layers, as diffusers'
    /// `hidden_states[-(clip_skip + 1)]` does; the final norm always follows. (B, L, hidden_size).
    pub fn forward(&self, input_ids: &Tensor, clip_skip: usize) -> Result<Tensor, ModelError> {
        let _guard = tch::no_grad_guard();
        let (_, length) = input_ids.size2()?;
        if length > self.max_position_embeddings {
            let cause = format!("{length} tokens for {} positions", self.max_position_embeddings);
            return Err(ModelError::Torch { cause });
        }
        let positions =
            Tensor::f_arange(length, (Kind::Int64, input_ids.device()))?.f_unsqueeze(0)?;
        let tokens = self.token_embedding.forward(input_ids)?;
        let mut hidden = tokens.f_add(&self.position_embedding.forward(&positions)?)?;
        for layer in self.layers.iter().take(self.layers.len().saturating_sub(clip_skip)) {
            hidden = layer.forward(&hidden)?;
        }
        self.final_layer_norm.forward(&hidden)
    }
}
