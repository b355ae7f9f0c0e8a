//! The small files of `tokenizer/`, as transformers' `from_pretrained` reads them for a `CLIPTokenizer`: which
//! texts are the control tokens, how long a sequence is, and that no other token was added. Added tokens (a
//! textual inversion's) are refused: passed over, they would be cut into letters without a word.

use super::config_json::ConfigFile;
use crate::{
    models::{
        ModelError,
        error::{said, shorten},
    },
    prompt::{SpecialTokens, TOKENIZER},
};
use serde::Deserialize;
use std::collections::BTreeMap;

pub(super) const CONFIG: &str = "tokenizer/tokenizer_config.json";
pub(super) const MAP: &str = "tokenizer/special_tokens_map.json";
pub(super) const ADDED: &str = "tokenizer/added_tokens.json";

/// The files' texts. All but the first may be absent.
pub(super) struct TokenizerTexts {
    pub(super) config: String,
    pub(super) map: Option<String>,
    pub(super) added: Option<String>,
    /// `tokenizer.json`, of which only its `added_tokens` are looked at here.
    pub(super) tokenizer: Option<String>,
}

/// A token, or transformers' `AddedToken` around it.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum TokenText {
    Plain(String),
    Added { content: String },
}

impl TokenText {
    fn text(&self) -> &str {
        match self {
            Self::Plain(text) | Self::Added { content: text } => text,
        }
    }
}

/// Tokens in a row, or each by a name of its own.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Tokens {
    List(Vec<TokenText>),
    Named(BTreeMap<String, TokenText>),
}

impl Tokens {
    fn texts(&self) -> Vec<&str> {
        match self {
            Self::List(tokens) => tokens.iter().map(TokenText::text).collect(),
            Self::Named(tokens) => tokens.values().map(TokenText::text).collect(),
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
    added_tokens_decoder: Option<Tokens>,
    additional_special_tokens: Option<Tokens>,
    extra_special_tokens: Option<Tokens>,
}

/// What of `tokenizer.json` is read.
#[derive(Deserialize)]
struct TokenizerFile {
    #[serde(default)]
    added_tokens: Vec<TokenText>,
}

/// `special_tokens_map.json` decides, then `tokenizer_config.json`, then CLIP's defaults; a configuration with
/// `added_tokens_decoder` decides alone. The answer's second part is `model_max_length` where it is a length.
pub(super) fn read(texts: &TokenizerTexts) -> Result<(SpecialTokens, Option<usize>), ModelError> {
    let config = ConfigFile::parse(CONFIG, &texts.config)?;
    config
        .must_be(&[("tokenizer_class", &["null", "\"CLIPTokenizer\"", "\"CLIPTokenizerFast\""])])?;
    let own: ClipTokenizer = config.read()?;
    let map: ClipTokenizer = match &texts.map {
        Some(text) if !config.has("added_tokens_decoder") => {
            ConfigFile::parse(MAP, text)?.read()?
        }
        _ => ClipTokenizer::default(),
    };
    let pick = |map: &Option<TokenText>, own: &Option<TokenText>, default: &str| {
        map.as_ref().or(own.as_ref()).map_or(default, TokenText::text).to_owned()
    };
    let end = "<|endoftext|>";
    let tokens = SpecialTokens {
        bos: pick(&map.bos_token, &own.bos_token, "<|startoftext|>"),
        eos: pick(&map.eos_token, &own.eos_token, end),
        unk: pick(&map.unk_token, &own.unk_token, end),
        pad: pick(&map.pad_token, &own.pad_token, end),
    };
    for (file, said) in [(CONFIG, &own), (MAP, &map)] {
        for (key, added) in [
            ("added_tokens_decoder", &said.added_tokens_decoder),
            ("additional_special_tokens", &said.additional_special_tokens),
            ("extra_special_tokens", &said.extra_special_tokens),
        ] {
            nothing_new(file, key, added.iter().flat_map(Tokens::texts), &tokens)?;
        }
    }
    no_file_adds(texts, &tokens)?;
    let length = own
        .model_max_length
        .filter(|length| (2.0..=65536.0).contains(length))
        .map(|length| length as usize);
    Ok((tokens, length))
}

/// The two files that list added tokens beside the configuration.
fn no_file_adds(texts: &TokenizerTexts, tokens: &SpecialTokens) -> Result<(), ModelError> {
    if let Some(text) = &texts.added {
        let added = ConfigFile::parse(ADDED, text)?;
        nothing_new(ADDED, "added_tokens", added.names(), tokens)?;
    }
    if let Some(text) = &texts.tokenizer {
        let file: TokenizerFile = serde_json::from_str(text).map_err(|error| {
            let reason = format!("its added_tokens cannot be read: {}", said(error));
            ModelError::Corrupt { file: TOKENIZER.to_owned(), reason }
        })?;
        let added = file.added_tokens.iter().map(TokenText::text);
        nothing_new(TOKENIZER, "added_tokens", added, tokens)?;
    }
    Ok(())
}

/// Refuses the first of `added` that is none of the four control tokens.
fn nothing_new<'a>(
    file: &str,
    key: &str,
    mut added: impl Iterator<Item = &'a str>,
    tokens: &SpecialTokens,
) -> Result<(), ModelError> {
    let SpecialTokens { bos, eos, unk, pad } = tokens;
    match added.find(|token| ![bos, eos, unk, pad].iter().any(|known| known == token)) {
        None => Ok(()),
        Some(token) => Err(ModelError::Unsupported {
            file: file.to_owned(),
            key: key.to_owned(),
            value: format!("\"{}\"", shorten(token)),
            supported: "no tokens beside bos_token, eos_token, unk_token and pad_token".to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: &str = "<|endoftext|>";

    fn texts(config: &str) -> TokenizerTexts {
        TokenizerTexts { config: config.to_owned(), map: None, added: None, tokenizer: None }
    }

    fn pad(config: &str, map: &str) -> String {
        read(&TokenizerTexts { map: Some(map.to_owned()), ..texts(config) }).unwrap().0.pad
    }

    fn refusal(texts: &TokenizerTexts) -> String {
        let error = read(texts).unwrap_err();
        assert!(matches!(error, ModelError::Unsupported { .. }), "{error}");
        error.to_string()
    }

    #[test]
    fn the_map_wins_over_a_configuration_without_added_tokens_decoder() {
        let config = r#"{"pad_token":"<|endoftext|>"}"#;
        assert_eq!(pad(config, r#"{"pad_token":"!"}"#), "!");
        assert_eq!(pad(config, r#"{"pad_token":{"content":"!","lstrip":false}}"#), "!");
        assert_eq!(pad(r#"{"pad_token":"!"}"#, r#"{"bos_token":"a"}"#), "!");
        assert_eq!(pad("{}", "{}"), END);
        // The map is not read at all then.
        let decides = r#"{"added_tokens_decoder":{}}"#;
        assert_eq!(pad(decides, r#"{"pad_token":"!"}"#), END);
    }

    #[test]
    fn a_token_that_was_added_is_refused_by_name_of_file_and_token() {
        let toy = "<cat-toy>";
        let base = || texts("{}");
        let with = |field: fn(&mut TokenizerTexts) -> &mut Option<String>, text: &str| {
            let mut texts = base();
            *field(&mut texts) = Some(text.to_owned());
            texts
        };
        for (texts, file) in [
            (with(|t| &mut t.added, r#"{"<|endoftext|>":49407,"<cat-toy>":49408}"#), ADDED),
            (with(|t| &mut t.map, r#"{"additional_special_tokens":["<cat-toy>"]}"#), MAP),
            (
                with(
                    |t| &mut t.tokenizer,
                    r#"{"added_tokens":[{"id":49408,"content":"<cat-toy>"}]}"#,
                ),
                TOKENIZER,
            ),
            (texts(r#"{"added_tokens_decoder":{"49408":{"content":"<cat-toy>"}}}"#), CONFIG),
            (texts(r#"{"extra_special_tokens":{"toy_token":"<cat-toy>"}}"#), CONFIG),
        ] {
            let said = refusal(&texts);
            assert!(said.starts_with(&format!("{file}: ")) && said.contains(toy), "{said}");
        }
    }

    #[test]
    fn the_control_tokens_may_be_listed_as_added() {
        let mut texts = texts(
            r#"{"added_tokens_decoder":{"49406":{"content":"<|startoftext|>","special":true},
                "49407":{"content":"<|endoftext|>","special":true}},"additional_special_tokens":[]}"#,
        );
        texts.added = Some(r#"{"<|endoftext|>":49407}"#.to_owned());
        texts.tokenizer =
            Some(r#"{"model":{},"added_tokens":[{"content":"<|endoftext|>"}]}"#.to_owned());
        assert_eq!(read(&texts).unwrap().0.eos, END);
        texts.tokenizer = Some("{}".to_owned());
        read(&texts).unwrap();
    }
}
