//! The frames between authd and a conversation program, in which a hostile PAM module may have written: single ones
//! and streams of them, read with the same functions as in the programs.

use super::{authd_frames, rpc::holds};
use sdrest_proto::conversation::{
    FromConversation, MAX_FRAME, MAX_MESSAGES, MAX_TEXT, ToConversation, decode, read_frame,
};
use serde::{Serialize, de::DeserializeOwned};
use std::io::Cursor;

/// What the program reads of authd.
pub(crate) fn authd_says(input: &[u8]) -> bool {
    frame::<ToConversation>(input)
}

/// What authd reads of the program.
pub(crate) fn conversation_says(input: &[u8]) -> bool {
    frame::<FromConversation>(input)
}

fn frame<T: Serialize + DeserializeOwned>(input: &[u8]) -> bool {
    let Ok(frame) = decode::<T>(input) else { return false };
    holds(&frame, input.len());
    true
}

/// The program's blocking reader.
pub(crate) fn authd_stream(input: &[u8]) -> bool {
    let mut from = Cursor::new(input);
    let mut read = 0;
    while let Ok(frame) = read_frame::<ToConversation>(&mut from) {
        holds(&frame, MAX_FRAME);
        read += 1;
    }
    read > 0
}

/// authd's own reader, with the bounds that it adds.
pub(crate) fn conversation_stream(input: &[u8]) -> bool {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut from = input;
    let mut read = 0;
    while let Ok(Some(frame)) = runtime.block_on(authd_frames::read(&mut from)) {
        holds(&frame, MAX_FRAME);
        match frame {
            FromConversation::Message { text, .. } => assert!(text.len() <= MAX_TEXT),
            FromConversation::Prompts(prompts) => {
                assert!((1..=MAX_MESSAGES).contains(&prompts.len()));
                assert!(prompts.iter().all(|prompt| prompt.text.len() <= MAX_TEXT));
            }
            _ => {}
        }
        read += 1;
    }
    read > 0
}
