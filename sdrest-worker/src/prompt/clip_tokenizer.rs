//! transformers' `CLIPTokenizer` (`models/clip/tokenization_clip.py`) over the same engine, the `tokenizers`
//! crate: byte-level byte-pair encoding with a suffix at the end of words, after Unicode's NFC, whitespace
//! and lower case. One difference, on purpose: a control token that is written in a prompt is text, so that
//! nobody can end a sequence in its middle.

use super::vocabulary::{VOCAB, Vocabulary, corrupt};
use crate::models::{ModelError, error::said};
use sdrest_proto::bounds::quote;
use tokenizers::{
    NormalizerWrapper, PreTokenizerWrapper, SplitDelimiterBehavior, Tokenizer,
    models::bpe::{BPE, Vocab},
    normalizers::{Lowercase, NFC, Replace, Sequence as Normalizers, replace::ReplacePattern},
    pre_tokenizers::{
        byte_level::ByteLevel,
        sequence::Sequence as PreTokenizers,
        split::{Split, SplitPattern},
    },
};

/// CLIP's way to cut a text into words, without the two control tokens.
const WORDS: &str = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";

/// The control tokens, as texts of the vocabulary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpecialTokens {
    pub bos: String,
    pub eos: String,
    pub unk: String,
    pub pad: String,
}

/// Turns texts into rows of ids, all of one length.
pub struct ClipTokenizer {
    tokenizer: Tokenizer,
    bos: u32,
    eos: u32,
    pad: u32,
    length: usize,
    largest_id: u32,
}

impl ClipTokenizer {
    /// Rows have `length` ids, at least 2.
    pub fn new(
        vocabulary: Vocabulary,
        tokens: &SpecialTokens,
        length: usize,
    ) -> Result<Self, ModelError> {
        vocabulary.check_merges()?;
        let Vocabulary { tokens: vocab, merges, merges_file } = vocabulary;
        let id = |token: &str| {
            vocab
                .get(token)
                .copied()
                .ok_or_else(|| corrupt(VOCAB, format!("it has no token {}", quote(token))))
        };
        let (bos, eos, pad) = (id(&tokens.bos)?, id(&tokens.eos)?, id(&tokens.pad)?);
        id(&tokens.unk)?;
        let largest_id = vocab.values().copied().max().unwrap_or_default();
        let bpe = BPE::builder()
            .vocab_and_merges(vocab.into_iter().collect::<Vocab>(), merges)
            .continuing_subword_prefix(String::new())
            .end_of_word_suffix("</w>".to_owned())
            .unk_token(tokens.unk.clone())
            .build()
            .map_err(|error| {
                corrupt(merges_file, format!("it does not fit the vocabulary: {}", said(error)))
            })?;
        let mut tokenizer = Tokenizer::new(bpe);
        prepare(&mut tokenizer).map_err(|error| {
            corrupt(VOCAB, format!("no tokenizer can be made of it: {}", said(error)))
        })?;
        Ok(Self { tokenizer, bos, eos, pad, length, largest_id })
    }

    /// One row: start, at most `length − 2` tokens of the text, end, padding. What is longer is cut off, as
    /// diffusers' `encode_prompt` does.
    pub fn encode(&self, text: &str) -> Result<Vec<i64>, tokenizers::Error> {
        let encoding = self.tokenizer.encode_fast(text, false)?;
        let words = encoding.get_ids().iter().take(self.length.saturating_sub(2));
        let mut row: Vec<i64> = Vec::with_capacity(self.length);
        row.push(i64::from(self.bos));
        row.extend(words.map(|&id| i64::from(id)));
        row.push(i64::from(self.eos));
        row.resize(self.length, i64::from(self.pad));
        Ok(row)
    }

    /// Ids in a row.
    pub fn row_length(&self) -> usize {
        self.length
    }

    pub fn largest_id(&self) -> u32 {
        self.largest_id
    }
}

/// Everything around the byte-pair encoding, as `CLIPTokenizer.__init__` sets it.
fn prepare(tokenizer: &mut Tokenizer) -> Result<(), tokenizers::Error> {
    let spaces = Replace::new(ReplacePattern::Regex(r"\s+".to_owned()), " ")?;
    let normalizers: Vec<NormalizerWrapper> = vec![NFC.into(), spaces.into(), Lowercase.into()];
    tokenizer.with_normalizer(Some(Normalizers::new(normalizers)))?;
    let words =
        Split::new(SplitPattern::Regex(WORDS.to_owned()), SplitDelimiterBehavior::Removed, true)?;
    let bytes = ByteLevel::default().add_prefix_space(false);
    let pre_tokenizers: Vec<PreTokenizerWrapper> = vec![words.into(), bytes.into()];
    tokenizer.with_pre_tokenizer(Some(PreTokenizers::new(pre_tokenizers)));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LETTERS: &str =
        "!\"#$%&'()*+,-./0123456789:;<=>?@abcdefghijklmnopqrstuvwxyz|\u{c3}\u{a9}";

    fn tokenizer(length: usize) -> ClipTokenizer {
        with_merges(length, &[("c", "a"), ("ca", "t</w>")]).unwrap()
    }

    /// Every letter alone and at a word's end, the two control tokens, and one word.
    fn with_merges(length: usize, merges: &[(&str, &str)]) -> Result<ClipTokenizer, ModelError> {
        let letters = LETTERS.chars().flat_map(|c| [c.to_string(), format!("{c}</w>")]);
        let words = ["ca", "cat</w>", "<|startoftext|>", "<|endoftext|>"].map(str::to_owned);
        let tokens = letters.chain(words).zip(0..).collect();
        let merges = merges.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        let end = "<|endoftext|>".to_owned();
        let special = SpecialTokens {
            bos: "<|startoftext|>".to_owned(),
            eos: end.clone(),
            unk: end.clone(),
            pad: end,
        };
        let vocabulary = Vocabulary { tokens, merges, merges_file: "tokenizer/merges.txt" };
        ClipTokenizer::new(vocabulary, &special, length)
    }

    fn words(text: &str) -> Vec<String> {
        let tokenizer = tokenizer(77);
        let row = tokenizer.encode(text).unwrap();
        let end = row.iter().position(|&id| id == i64::from(tokenizer.eos)).unwrap();
        let id_to_token =
            |&id: &i64| tokenizer.tokenizer.id_to_token(u32::try_from(id).unwrap()).unwrap();
        row[1..end].iter().map(id_to_token).collect()
    }

    #[test]
    fn words_are_lowered_composed_and_joined() {
        assert_eq!(words("  CAT\n\tcat's "), ["cat</w>", "cat</w>", "'", "s</w>"]);
        assert_eq!(words("12"), ["1</w>", "2</w>"]);
        assert_eq!(words("e\u{301}"), ["\u{c3}", "\u{a9}</w>"]);
        assert!(words("").is_empty());
    }

    #[test]
    fn a_control_token_in_a_prompt_is_text() {
        let said = words("a <|endoftext|> cat").concat();
        assert_eq!(said, "a</w><|</w>endoftext</w>|></w>cat</w>");
    }

    #[test]
    fn a_pair_that_is_no_token_is_refused() {
        let start = "<|startoftext|>";
        for (pair, missing) in [
            // Longer than any token: the crate would panic.
            ((start, start), "<|startoftext|><|startoftext|>"),
            (("c", "t"), "ct"),
            (("dog", "t"), "dog"),
            (("c", "dog"), "dog"),
        ] {
            let said = with_merges(77, &[pair]).err().unwrap().to_string();
            assert!(said.starts_with("tokenizer/merges.txt: ") && said.contains(missing), "{said}");
        }
        assert!(with_merges(77, &[]).is_ok());
    }

    #[test]
    fn rows_are_cut_and_padded() {
        let tokenizer = tokenizer(5);
        let [bos, eos] = [i64::from(tokenizer.bos), i64::from(tokenizer.eos)];
        let long = tokenizer.encode(&"cat ".repeat(2000)).unwrap();
        assert_eq!((long.len(), long[0], long[4]), (5, bos, eos));
        assert!(long[1..4].iter().all(|&id| id != eos));
        assert_eq!(tokenizer.encode("").unwrap(), [bos, eos, eos, eos, eos]);
    }
}
