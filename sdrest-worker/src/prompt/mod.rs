//! From a prompt's text to the embeddings that the UNet attends to: tokenizer, then text model. Prompts are
//! secrets of the person who wrote them: nothing here logs one or puts one into an error.

mod clip_tokenizer;
mod embeds;
mod vocabulary;

pub use clip_tokenizer::{ClipTokenizer, SpecialTokens};
pub use embeds::{PromptEmbeds, PromptError, PromptText, encode_prompt};
pub use vocabulary::{TOKENIZER, Vocabulary};
