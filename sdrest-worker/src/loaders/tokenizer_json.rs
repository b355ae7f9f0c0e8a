//! `tokenizer/tokenizer_config.json` and `special_tokens_map.json`, as transformers' `CLIPTokenizer` reads
//! them: which texts are the control tokens, and how long a sequence is.

use super::config_json::ConfigFile;
use crate::{models::ModelError, prompt::SpecialTokens};
use serde::Deserialize;

/// A token, or transformers' `AddedToken` around it.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum TokenText {
    Plain(String),
    Added { content: String },
}

impl TokenText {
    fn into_text(self) -> String {
        match self {
            Self::Plain(text) | Self::Added { content: text } => text,
        }
    }
}

/// transformers `CLIPTokenizer`: what of its parameters matters here.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ClipTokenizer {
    bos_token: Option<TokenText>,
    eos_token: Option<TokenText>,
    unk_token: Option<TokenText>,
    pad_token: Option<TokenText>,
    /// Python writes 1e30 where there is no limit.
    model_max_length: Option<f64>,
}

/// `tokenizer_config.json` decides, then `special_tokens_map.json` (where there is one), then CLIP's
/// defaults. The answer's second part is `model_max_length` where it is a length.
pub(super) fn read(
    file: &str,
    text: &str,
    map: Option<&str>,
) -> Result<(SpecialTokens, Option<usize>), ModelError> {
    let config = ConfigFile::parse(file, text)?;
    config
        .must_be(&[("tokenizer_class", &["null", "\"CLIPTokenizer\"", "\"CLIPTokenizerFast\""])])?;
    let own: ClipTokenizer = config.read()?;
    let map: ClipTokenizer = match map {
        Some(text) => ConfigFile::parse("tokenizer/special_tokens_map.json", text)?.read()?,
        None => ClipTokenizer::default(),
    };
    let pick = |own: Option<TokenText>, map: Option<TokenText>, default: &str| {
        own.or(map).map_or_else(|| default.to_owned(), TokenText::into_text)
    };
    let end = "<|endoftext|>";
    let tokens = SpecialTokens {
        bos: pick(own.bos_token, map.bos_token, "<|startoftext|>"),
        eos: pick(own.eos_token, map.eos_token, end),
        unk: pick(own.unk_token, map.unk_token, end),
        pad: pick(own.pad_token, map.pad_token, end),
    };
    let length = own
        .model_max_length
        .filter(|length| (2.0..=65536.0).contains(length))
        .map(|length| length as usize);
    Ok((tokens, length))
}
