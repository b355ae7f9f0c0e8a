//! Turns what a module says into frames for authd, and authd's answers into what the module gets. It follows
//! pam_conv(3): text is passed on at once, the prompts of one call go out together, and the module waits for
//! exactly as many answers. It must never invent an answer, and never pass a control character on.

use super::{
    ffi::{Converse, RawMessage, style},
    text::presentable,
};
use crate::channel::Channel;
use sdrest_proto::{
    conversation::{FromConversation, MAX_TEXT_TOTAL, Prompt, ToConversation},
    login::{Echo, MessageStyle},
    secret::Answer,
};
use std::sync::Arc;

/// How often one login may ask.
const MAX_ROUNDS: u32 = 64;

pub(crate) struct Handler {
    channel: Arc<Channel>,
    rounds: u32,
    text_left: usize,
    /// Once an exchange has failed, no module asks again: a change of password would try three times.
    failed: bool,
}

impl Handler {
    pub(crate) fn new(channel: Arc<Channel>) -> Self {
        Self { channel, rounds: 0, text_left: MAX_TEXT_TOTAL, failed: false }
    }

    fn text(&mut self, raw: &[u8]) -> String {
        let text = presentable(raw, self.text_left);
        self.text_left -= text.len();
        text
    }

    /// Sends the prompts and waits for their answers.
    fn ask(&mut self, prompts: Vec<Prompt>) -> Option<Vec<Answer>> {
        self.rounds += 1;
        if self.rounds > MAX_ROUNDS {
            return None;
        }
        let expected = prompts.len();
        self.channel.send(&FromConversation::Prompts(prompts)).ok()?;
        let frame = self.channel.receive_answer().ok()?;
        let ToConversation::Answers(answers) = frame else { return None };
        let usable = |answer: &Answer| {
            answer.len() <= Answer::MAX_BYTES
                && !answer.expose("looked through for NUL").contains('\0')
        };
        (answers.len() == expected && answers.iter().all(usable)).then_some(answers)
    }

    fn exchange(&mut self, messages: &[RawMessage<'_>]) -> Option<Vec<Option<Answer>>> {
        let mut asks = Vec::with_capacity(messages.len());
        let mut prompts = Vec::new();
        for message in messages {
            let echo = match message.style {
                style::PROMPT_ECHO_OFF => Echo::Off,
                style::PROMPT_ECHO_ON | style::RADIO_TYPE => Echo::On,
                style::TEXT_INFO | style::ERROR_MSG => {
                    let kind = if message.style == style::ERROR_MSG {
                        MessageStyle::Error
                    } else {
                        MessageStyle::Info
                    };
                    let text = self.text(message.text);
                    self.channel.send(&FromConversation::Message { style: kind, text }).ok()?;
                    asks.push(false);
                    continue;
                }
                // Binary prompts and unknown styles: nobody could answer them.
                _ => return None,
            };
            let text = self.text(message.text);
            prompts.push(Prompt { echo, text });
            asks.push(true);
        }
        if prompts.is_empty() {
            return Some(asks.iter().map(|_| None).collect());
        }
        let mut answers = self.ask(prompts)?.into_iter();
        Some(asks.into_iter().map(|asked| if asked { answers.next() } else { None }).collect())
    }
}

impl Converse for Handler {
    fn converse(&mut self, messages: &[RawMessage<'_>]) -> Option<Vec<Option<Answer>>> {
        if self.failed {
            return None;
        }
        let answers = self.exchange(messages);
        self.failed = answers.is_none();
        answers
    }
}

/// Answers for a transaction that no person takes part in: text is dropped, a question fails the call.
pub(crate) struct NoPerson;

impl Converse for NoPerson {
    fn converse(&mut self, messages: &[RawMessage<'_>]) -> Option<Vec<Option<Answer>>> {
        messages
            .iter()
            .map(|message| {
                matches!(message.style, style::TEXT_INFO | style::ERROR_MSG).then_some(None)
            })
            .collect()
    }
}
