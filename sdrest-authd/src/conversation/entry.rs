//! One login as its caller sees it: sequence, texts, open prompts, and the end, which is handed out exactly once.
//! The driver writes here; the verbs read here. No password is ever kept here.

use super::{outcome::VerifiedAccount, pacing::Pacing, slots::Slot};
use crate::{peer::Source, random};
use sdrest_proto::{
    bounds::Username,
    error::{ErrorCode, Fault},
    id::{ConversationId, RequestId},
    login::{LoginMessage, LoginPrompt, MessageStyle},
    secret::{Answer, ConversationSecret},
};
use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::{
    sync::{mpsc, watch},
    time::timeout_at,
};
use tokio_util::sync::CancellationToken;

/// Callers that may wait for news of one conversation at once; one more is refused, never answered without news.
const MOST_WAITERS: usize = 4;

/// How a login ended.
pub(crate) type Finished = Result<VerifiedAccount, Fault>;

pub(super) enum Phase {
    Running,
    Waiting(Vec<LoginPrompt>),
    /// Nothing once it has been handed out.
    Ended(Option<Finished>),
}

/// What a caller may be told now.
pub(crate) enum State {
    Running,
    Waiting(Vec<LoginPrompt>),
    Finished(Finished),
    /// Handed out already, or taken away before there was an end.
    Gone,
}

pub(crate) struct View {
    pub(crate) sequence: u32,
    pub(crate) state: State,
    pub(crate) messages: Vec<LoginMessage>,
    pub(crate) expires_in: Duration,
    pub(crate) step_expires_in: Duration,
}

/// Answers on their way to the module, with the right to let it work.
pub(super) struct Answered {
    pub(super) answers: Vec<Answer>,
    pub(super) slot: Slot,
}

/// What the driver and the verbs share.
pub(super) struct Shared {
    pub(super) sequence: u32,
    pub(super) messages: Vec<LoginMessage>,
    pub(super) phase: Phase,
    pub(super) strikes: u8,
    /// Whether anybody answered anything, or gave a password at the start.
    pub(super) answered: bool,
    /// Whether a module is at work on an answer.
    pub(super) judging: bool,
    pub(super) step_ends: Instant,
    /// When the whole conversation is given up.
    pub(super) ends: Instant,
    pub(super) ended: Option<Instant>,
}

pub(crate) struct Entry {
    pub(crate) id: ConversationId,
    pub(super) secret: ConversationSecret,
    pub(super) username: String,
    pub(super) source: Source,
    pub(super) request: RequestId,
    pub(super) one_shot: bool,
    pub(super) begun: Instant,
    pub(super) shared: Mutex<Shared>,
    pub(super) changed: watch::Sender<u64>,
    pub(super) answers: mpsc::Sender<Answered>,
    pub(super) cancelled: CancellationToken,
}

/// What a login begins with.
pub(crate) struct Begin {
    pub(crate) username: Username,
    /// For a login in one step.
    pub(crate) password: Option<Answer>,
    pub(crate) source: Source,
    pub(crate) request: RequestId,
}

impl Entry {
    pub(super) fn new(
        begin: &Begin,
        pacing: &Pacing,
        answers: mpsc::Sender<Answered>,
    ) -> Result<Self, getrandom::Error> {
        let now = Instant::now();
        Ok(Self {
            id: ConversationId::random(),
            secret: ConversationSecret::new(random::text()?),
            username: begin.username.as_str().to_owned(),
            source: begin.source.clone(),
            request: begin.request,
            one_shot: begin.password.is_some(),
            begun: now,
            shared: Mutex::new(Shared {
                sequence: 0,
                messages: Vec::new(),
                phase: Phase::Running,
                strikes: 0,
                answered: begin.password.is_some(),
                judging: false,
                step_ends: now + pacing.step,
                ends: now + pacing.total,
                ended: None,
            }),
            changed: watch::Sender::new(0),
            answers,
            cancelled: CancellationToken::new(),
        })
    }

    /// The secret, for the answer of `begin`.
    pub(crate) fn secret(&self) -> ConversationSecret {
        ConversationSecret::new(
            self.secret.expose("told once to who began the conversation").to_owned(),
        )
    }

    /// The request that began it.
    pub(crate) fn request(&self) -> RequestId {
        self.request
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn update(&self, change: impl FnOnce(&mut Shared)) {
        change(&mut self.lock());
        self.changed.send_modify(|revision| *revision = revision.wrapping_add(1));
    }

    pub(super) fn say(&self, style: MessageStyle, text: String) {
        self.update(|shared| {
            shared.sequence += 1;
            let sequence = shared.sequence;
            shared.messages.push(LoginMessage { sequence, style, text });
        });
    }

    pub(super) fn ask(&self, prompts: Vec<LoginPrompt>, step_ends: Instant) {
        self.update(|shared| {
            shared.sequence += 1;
            shared.phase = Phase::Waiting(prompts);
            shared.judging = false;
            shared.step_ends = step_ends;
        });
    }

    pub(super) fn work(&self, step_ends: Instant) {
        self.update(|shared| {
            shared.sequence += 1;
            shared.phase = Phase::Running;
            shared.answered = true;
            shared.judging = true;
            shared.step_ends = step_ends;
        });
    }

    /// Whether a module has an answer and has not said yet what it thinks of it.
    pub(super) fn is_judging(&self) -> bool {
        self.lock().judging
    }

    pub(super) fn judged(&self) {
        self.lock().judging = false;
    }

    pub(super) fn end(&self, finished: Finished) {
        self.update(|shared| {
            shared.sequence += 1;
            shared.phase = Phase::Ended(Some(finished));
            shared.ended = Some(Instant::now());
        });
    }

    /// When the whole conversation is given up.
    pub(super) fn ends(&self) -> Instant {
        self.lock().ends
    }

    /// Gives the conversation this much from now: it goes on with something new.
    pub(super) fn restart(&self, step: Duration, total: Duration) {
        let now = Instant::now();
        self.update(|shared| {
            shared.step_ends = now + step;
            shared.ends = now + total;
        });
    }

    /// Whether there is something to tell after `after`.
    fn has_news(&self, after: u32, until_asked: UntilAsked) -> bool {
        let shared = self.lock();
        match shared.phase {
            Phase::Ended(_) => true,
            Phase::Waiting(_) => shared.sequence > after,
            Phase::Running => {
                until_asked == UntilAsked::No
                    && shared.messages.last().is_some_and(|message| message.sequence > after)
            }
        }
    }

    /// Waits for news as `news` does, if not too many do so already.
    pub(crate) async fn news_for_one_more(
        &self,
        after: u32,
        patience: Duration,
    ) -> Result<(), Fault> {
        // This one is counted too, so that no two can pass here together.
        let changes = self.changed.subscribe();
        if self.changed.receiver_count() > MOST_WAITERS && !self.has_news(after, UntilAsked::No) {
            let message =
                format!("at most {MOST_WAITERS} callers may wait for one conversation at once");
            return Err(Fault::new(ErrorCode::TooManyAttempts, message).retry_after(1));
        }
        self.wait(changes, after, patience, UntilAsked::No).await;
        Ok(())
    }

    /// Waits until there is news after `after` or the conversation is taken away, at the latest for `patience`.
    /// `until_asked` waits through mere texts. For the one caller that began or answered.
    pub(crate) async fn news(&self, after: u32, patience: Duration, until_asked: UntilAsked) {
        self.wait(self.changed.subscribe(), after, patience, until_asked).await;
    }

    async fn wait(
        &self,
        mut changes: watch::Receiver<u64>,
        after: u32,
        patience: Duration,
        until_asked: UntilAsked,
    ) {
        let deadline = tokio::time::Instant::now() + patience;
        while !self.has_news(after, until_asked) {
            tokio::select! {
                () = self.cancelled.cancelled() => return,
                changed = timeout_at(deadline, changes.changed()) => {
                    if !matches!(changed, Ok(Ok(()))) {
                        return;
                    }
                }
            }
        }
    }

    /// What the caller is told, with the texts after `after`. The end is taken out: the next caller sees `Gone`.
    pub(crate) fn view(&self, after: u32) -> View {
        let now = Instant::now();
        let mut shared = self.lock();
        let state = match &mut shared.phase {
            Phase::Running | Phase::Waiting(_) if self.cancelled.is_cancelled() => State::Gone,
            Phase::Running => State::Running,
            Phase::Waiting(prompts) => State::Waiting(prompts.clone()),
            Phase::Ended(finished) => finished.take().map_or(State::Gone, State::Finished),
        };
        View {
            sequence: shared.sequence,
            state,
            messages: shared
                .messages
                .iter()
                .filter(|message| message.sequence > after)
                .cloned()
                .collect(),
            expires_in: shared.ends.saturating_duration_since(now),
            step_expires_in: shared.step_ends.saturating_duration_since(now),
        }
    }
}

/// Whether a wait goes on while a module only says things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UntilAsked {
    Yes,
    No,
}

#[cfg(test)]
mod tests;
