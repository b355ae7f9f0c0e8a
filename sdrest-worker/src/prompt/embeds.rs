//! Step 3 of diffusers' `StableDiffusionPipeline.__call__`: `encode_prompt`.

use super::clip_tokenizer::ClipTokenizer;
use crate::models::{ModelError, clip_text_model::ClipTextModel};
use tch::{Kind, Tensor};
use thiserror::Error;

/// Why a prompt cannot be encoded.
#[derive(Debug, Error)]
pub enum PromptError {
    #[error("`clip_skip` must be between 1 and {most} for this model, got {value}")]
    ClipSkip { most: usize, value: usize },
    #[error("the prompt cannot be cut into tokens")]
    Tokens,
    #[error(transparent)]
    Model(#[from] ModelError),
}

/// What to encode.
#[derive(Clone, Copy)]
pub struct PromptText<'a> {
    pub prompt: &'a str,
    /// `None` without guidance.
    pub negative_prompt: Option<&'a str>,
    pub clip_skip: Option<usize>,
}

/// Text embeddings for a batch: with guidance the unconditional rows first, then the prompt's.
pub struct PromptEmbeds(pub Tensor);

/// The answer is (rows, L, hidden), where rows is `num_images`, or twice that with guidance. As in diffusers,
/// `clip_skip` is for the prompt and not for the negative prompt.
pub fn encode_prompt(
    tokenizer: &ClipTokenizer,
    text_model: &ClipTextModel,
    text: PromptText<'_>,
    num_images: i64,
) -> Result<PromptEmbeds, PromptError> {
    let _guard = tch::no_grad_guard();
    let clip_skip = text.clip_skip.unwrap_or(0);
    if clip_skip > text_model.num_hidden_layers() {
        return Err(PromptError::ClipSkip {
            most: text_model.num_hidden_layers(),
            value: clip_skip,
        });
    }
    let prompt = encode(tokenizer, text_model, text.prompt, clip_skip)?;
    let prompt = repeat(&prompt, num_images)?;
    let Some(negative) = text.negative_prompt else { return Ok(PromptEmbeds(prompt)) };
    let negative = repeat(&encode(tokenizer, text_model, negative, 0)?, num_images)?;
    Ok(PromptEmbeds(Tensor::f_cat(&[negative, prompt], 0).map_err(ModelError::from)?))
}

fn encode(
    tokenizer: &ClipTokenizer,
    text_model: &ClipTextModel,
    text: &str,
    clip_skip: usize,
) -> Result<Tensor, PromptError> {
    // The tokenizer's error could quote the prompt.
    let ids = tokenizer.encode(text).map_err(|_| PromptError::Tokens)?;
    let ids = Tensor::f_from_slice(&ids).map_err(ModelError::from)?;
    let ids = ids
        .f_unsqueeze(0)
        .and_then(|ids| ids.f_to_kind(Kind::Int64))
        .and_then(|ids| ids.f_to_device(text_model.device()))
        .map_err(ModelError::from)?;
    Ok(text_model.forward(&ids, clip_skip)?)
}

/// The same row for every picture.
fn repeat(embeds: &Tensor, num_images: i64) -> Result<Tensor, ModelError> {
    Ok(embeds.f_repeat([num_images, 1, 1])?)
}
