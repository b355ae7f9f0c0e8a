//! CLIP's vocabulary as transformers writes it: `vocab.json` with `merges.txt`, or, from version 5 on,
//! `tokenizer.json` alone, of which only the model is taken.

use crate::models::{
    ModelError,
    error::{said, shorten},
};
use sdrest_proto::bounds::quote;
use serde::Deserialize;
use std::collections::HashMap;

pub(super) const VOCAB: &str = "tokenizer/vocab.json";
pub(super) const MERGES: &str = "tokenizer/merges.txt";
pub const TOKENIZER: &str = "tokenizer/tokenizer.json";

/// Tokens with their ids, and the pairs of pieces that are joined, the first ones first.
#[derive(Debug)]
pub struct Vocabulary {
    pub(super) tokens: HashMap<String, u32>,
    pub(super) merges: Vec<(String, String)>,
    /// The file that the merges stand in.
    pub(super) merges_file: &'static str,
}

/// What of `tokenizer.json` is read.
#[derive(Deserialize)]
struct TokenizerFile {
    model: BpeModel,
}

#[derive(Deserialize)]
struct BpeModel {
    #[serde(rename = "type")]
    kind: String,
    vocab: HashMap<String, u32>,
    merges: Vec<Merge>,
}

/// A pair, or (in older files) a line of `merges.txt`.
#[derive(Deserialize)]
#[serde(untagged)]
enum Merge {
    Pair(String, String),
    Line(String),
}

impl Vocabulary {
    /// From the texts of `vocab.json` and `merges.txt`.
    pub fn from_files(vocab: &str, merges: &str) -> Result<Self, ModelError> {
        let tokens = serde_json::from_str(vocab).map_err(|error| {
            corrupt(VOCAB, format!("it maps no tokens to ids: {}", said(error)))
        })?;
        let lines = merges.lines().enumerate();
        let merges = lines
            .filter(|(_, line)| !line.starts_with("#version") && !line.is_empty())
            .map(|(i, line)| {
                split(line).ok_or_else(|| corrupt(MERGES, format!("line {} is no pair", i + 1)))
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { tokens, merges, merges_file: MERGES })
    }

    /// From the text of `tokenizer.json`.
    pub fn from_tokenizer_json(text: &str) -> Result<Self, ModelError> {
        let file: TokenizerFile = serde_json::from_str(text).map_err(|error| {
            corrupt(TOKENIZER, format!("it holds no byte-pair encoding: {}", said(error)))
        })?;
        if file.model.kind != "BPE" {
            let (file_name, key, value) =
                (TOKENIZER.to_owned(), "model.type".to_owned(), shorten(&file.model.kind));
            return Err(ModelError::Unsupported {
                file: file_name,
                key,
                value,
                supported: "BPE".to_owned(),
            });
        }
        let pairs = file.model.merges.into_iter().enumerate().map(|(i, merge)| match merge {
            Merge::Pair(left, right) => Ok((left, right)),
            Merge::Line(line) => split(&line)
                .ok_or_else(|| corrupt(TOKENIZER, format!("merge {} is no pair", i + 1))),
        });
        Ok(Self {
            merges: pairs.collect::<Result<_, _>>()?,
            tokens: file.model.vocab,
            merges_file: TOKENIZER,
        })
    }

    /// Whether every pair, and what it is joined to, is a token. The crate `tokenizers` relies on it: it joins in
    /// a buffer as long as the longest token, and panics where a pair is longer.
    pub(super) fn check_merges(&self) -> Result<(), ModelError> {
        let mut joined = String::new();
        for (left, right) in &self.merges {
            joined.clear();
            joined.extend([left.as_str(), right.as_str()]);
            for piece in [left, right, &joined] {
                if !self.tokens.contains_key(piece) {
                    let (piece, left, right) = (quote(piece), quote(left), quote(right));
                    let reason = format!(
                        "{left} and {right} are joined, but {piece} is no token of the vocabulary"
                    );
                    return Err(corrupt(self.merges_file, reason));
                }
            }
        }
        Ok(())
    }
}

fn split(line: &str) -> Option<(String, String)> {
    let (left, right) = line.split_once(' ')?;
    let pair = !left.is_empty() && !right.is_empty() && !right.contains(' ');
    pair.then(|| (left.to_owned(), right.to_owned()))
}

pub(super) fn corrupt(file: &str, reason: String) -> ModelError {
    ModelError::Corrupt { file: file.to_owned(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_give_the_same() {
        let files =
            Vocabulary::from_files(r#"{"a":0,"b</w>":1}"#, "#version: 0.2\na b</w>\n").unwrap();
        for merges in [r#"[["a","b</w>"]]"#, r#"["a b</w>"]"#] {
            let json = format!(
                r#"{{"model":{{"type":"BPE","vocab":{{"a":0,"b</w>":1}},"merges":{merges}}}}}"#
            );
            let one = Vocabulary::from_tokenizer_json(&json).unwrap();
            assert_eq!((&one.tokens, &one.merges), (&files.tokens, &files.merges));
        }
    }

    #[test]
    fn a_file_of_one_endless_word_is_told_in_short() {
        let word = "\u{200b}".repeat(1_000_000);
        for error in [
            Vocabulary::from_files(&format!(r#"{{"a":"{word}"}}"#), ""),
            Vocabulary::from_tokenizer_json(&format!(r#"{{"model":"{word}"}}"#)),
            Vocabulary::from_tokenizer_json(&format!(
                r#"{{"model":{{"type":"{word}","vocab":{{}},"merges":[]}}}}"#
            )),
        ] {
            let said = error.unwrap_err().to_string();
            assert!(said.len() < 600 && !said.contains('\u{200b}'), "{} bytes", said.len());
        }
    }

    #[test]
    fn what_is_no_vocabulary_names_the_file() {
        let said = |result: Result<Vocabulary, ModelError>| result.unwrap_err().to_string();
        assert!(said(Vocabulary::from_files("[]", "")).starts_with("tokenizer/vocab.json: "));
        assert!(
            said(Vocabulary::from_files("{}", "a b\nabc\n"))
                .contains("tokenizer/merges.txt: line 2")
        );
        assert!(
            said(Vocabulary::from_tokenizer_json("{")).starts_with("tokenizer/tokenizer.json: ")
        );
        let other = r#"{"model":{"type":"WordPiece","vocab":{},"merges":[]}}"#;
        assert!(said(Vocabulary::from_tokenizer_json(other)).contains("`model.type` = WordPiece"));
    }
}
