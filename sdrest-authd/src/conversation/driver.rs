//! The task that follows one login from its start to its end: it owns the link, passes texts and prompts on,
//! holds the slot while a module works, watches the deadlines, and tells a failure only when its time has come.
//! Dropping it closes the link, and with that ends the program.

use super::{
    entry::{Answered, Entry, Finished},
    frames,
    link::{ConversationSocket, Link},
    outcome::{Candidate, Ending, Vouched},
    questions::{ARGON2, Questions},
    slots::Slot,
    surroundings::Surroundings,
};
use crate::audit;
use sdrest_proto::{
    conversation::{
        AccountKey, Denial, FromConversation, MAX_TEXT_TOTAL, Prompt, Purpose, Start,
        ToConversation,
    },
    error::{ErrorCode, Fault},
    login::{Echo, LoginPrompt, MessageStyle},
    secret::Answer,
};
use std::{
    io,
    sync::{Arc, atomic::Ordering},
    time::Instant,
};
use tokio::{
    net::unix::{OwnedReadHalf, OwnedWriteHalf},
    sync::{OwnedSemaphorePermit, mpsc},
    task::JoinSet,
    time::{sleep_until, timeout_at},
};

/// Frames that one login may send. A program of ours stays far below.
const MOST_FRAMES: u32 = 512;

/// Said before an expired password is changed.
const EXPIRED: &str = "Your password has expired and has to be changed.";
/// What a password is asked with where no module asks.
const PASSWORD: &str = "Password: ";

/// What a login is checked by.
pub(super) enum Course {
    Pam(Start),
    Internal(Candidate),
}

pub(super) struct Driver {
    entry: Arc<Entry>,
    around: Arc<Surroundings>,
    answers: mpsc::Receiver<Answered>,
    /// A one-shot password, until a first prompt has come.
    password: Option<Answer>,
    /// The same, for the first prompt of a change of an expired password.
    kept: Option<Answer>,
    /// A person's last answer; until there is one, the begin. A one-shot password was there at the begin.
    last_answer: Instant,
    asked: bool,
    answered: bool,
    held: Vec<(MessageStyle, String)>,
    release_at: Instant,
    step_ends: Instant,
    frames_left: u32,
    /// Bytes of text that the programs of this login may still say: all of it has to fit one answer.
    text_left: usize,
}

/// The way to the program, and what it holds while its modules work.
struct Work {
    writer: OwnedWriteHalf,
    starting: Option<OwnedSemaphorePermit>,
    slot: Option<Slot>,
}

type Frames = mpsc::Receiver<io::Result<Option<FromConversation>>>;

impl Driver {
    pub(super) fn new(
        entry: Arc<Entry>,
        around: Arc<Surroundings>,
        answers: mpsc::Receiver<Answered>,
        password: Option<Answer>,
    ) -> Self {
        let begun = entry.begun;
        let changes = around.pam.as_ref().is_some_and(|pam| pam.change.is_some());
        let kept = password.as_ref().filter(|_| changes).map(|password| {
            Answer::new(password.expose("an expired password is changed with it").to_owned())
        });
        let step_ends = begun + around.pacing.step;
        Self {
            entry,
            around,
            answers,
            password,
            kept,
            last_answer: begun,
            asked: false,
            answered: false,
            held: Vec::new(),
            release_at: begun,
            step_ends,
            frames_left: MOST_FRAMES,
            text_left: MAX_TEXT_TOTAL,
        }
    }

    pub(super) async fn run(mut self, course: Course) {
        let (entry, around) = (Arc::clone(&self.entry), Arc::clone(&self.around));
        let whole = async {
            let ending = match course {
                Course::Pam(start) => self.sign_in(start).await,
                Course::Internal(candidate) => self.compare(candidate).await,
            };
            self.entry.judged();
            self.finish(ending).await
        };
        tokio::select! {
            () = entry.cancelled.cancelled() => {
                // An answer that a module has is a guess, whoever hangs up.
                if entry.is_judging() {
                    around.throttle.failed(&entry.username, &entry.source);
                }
                audit::conversation_ended(&entry.request, &entry.username, "cancelled", 0);
            }
            finished = whole => entry.end(finished),
        }
    }

    /// One PAM transaction, and where it ends with an expired password and there is a way, a second that changes it.
    async fn sign_in(&mut self, start: Start) -> Ending {
        let around = Arc::clone(&self.around);
        let change = Start {
            service: start.service.clone(),
            username: start.username.clone(),
            rhost: start.rhost.clone(),
            purpose: Purpose::ChangeExpired,
            ..start
        };
        let ended = self.talk(&around.socket, start).await;
        let expired = matches!(ended, Ending::Denied(Denial::NewAuthtokReqd, _));
        let Some(socket) = around.pam.as_ref().and_then(|pam| pam.change.as_ref()) else {
            return ended;
        };
        if !expired {
            return ended;
        }
        let entry = Arc::clone(&self.entry);
        // Nobody's password is changed who would be turned away afterwards.
        let who = AccountKey::Name(entry.username.clone());
        match Questions(Arc::clone(&around)).facts(who).await {
            Ok(known) if around.admission.admits(known.username.as_str(), &known.groups) => {}
            Ok(_) => return Ending::Denied(Denial::AcctDenied, 0),
            // Nobody knows whose password this would change.
            Err(_) => return ended,
        }
        audit::conversation_ended(&entry.request, &entry.username, "credential_expired", 0);
        self.release();
        entry.restart(around.pacing.step, around.pacing.total);
        self.step_ends = Instant::now() + around.pacing.step;
        self.frames_left = MOST_FRAMES;
        self.password = self.kept.take();
        self.asked = false;
        entry.say(MessageStyle::Info, EXPIRED.to_owned());
        let changed = self.talk(socket, change).await;
        // It was asked for a password once, whatever this transaction did: nothing is made up any more.
        self.asked = true;
        match changed {
            Ending::NotStarted(cause) => {
                tracing::warn!(request_id = %entry.request, "an expired password cannot be changed: {cause}");
                ended
            }
            // The service file has no `password` lines: the person is told what an administrator has to do.
            Ending::Denied(Denial::Unavailable, _) => ended,
            changed => {
                audit::password_changed(&entry.request, &entry.username, changed.name());
                changed
            }
        }
    }

    /// Asks for a password and has it compared with a record of the internal user database.
    async fn compare(&mut self, candidate: Candidate) -> Ending {
        let answered = match self.password.take() {
            Some(password) => match self.one_shot(password).await {
                Ok(answered) => answered,
                Err(fault) => return Ending::Refused(fault),
            },
            None => {
                let Some(answered) = self.ask_for_a_password().await else { return timed_out() };
                answered
            }
        };
        let Answered { mut answers, slot: _slot } = answered;
        let Some(password) = answers.pop() else { return Ending::wrong() };
        self.step_ends = Instant::now() + self.around.pacing.step;
        self.entry.work(self.step_ends);
        let phc = candidate.phc.to_string();
        let question = ToConversation::Verify { phc, password };
        let matches = match self.around.socket.ask(question, ARGON2).await {
            Ok(FromConversation::Compared { matches }) => matches,
            Ok(_) => return crashed("the program compared nothing"),
            Err(error) => return Ending::NotStarted(error.to_string()),
        };
        self.around.reachable.store(true, Ordering::Relaxed);
        let ending = Ending::compared(candidate, matches);
        // Counted while the slot is held: who waits for it is to meet the count.
        if ending.is_a_wrong_answer() {
            self.around.throttle.failed(&self.entry.username, &self.entry.source);
        }
        ending
    }

    async fn talk(&mut self, socket: &ConversationSocket, start: Start) -> Ending {
        let Some(permit) = self.around.slots.start().await else {
            return Ending::Refused(busy());
        };
        let Link { reader, writer } = match socket.start(start).await {
            Ok(link) => link,
            Err(error) => return Ending::NotStarted(error.to_string()),
        };
        // The reader has a task of its own, because half a frame must not be lost when a deadline is looked at.
        let (sender, mut frames) = mpsc::channel(4);
        let mut tasks = JoinSet::new();
        tasks.spawn(read_all(reader, sender));
        let mut work = Work { writer, starting: Some(permit), slot: None };
        let mut spoken = false;
        loop {
            let ended = match self.next(&mut frames).await {
                Event::Frame(Ok(Some(frame))) => self.on_frame(frame, &mut work).await,
                Event::Frame(Ok(None)) if spoken => {
                    Some(crashed("the program ended without a verdict"))
                }
                Event::Frame(Ok(None)) => {
                    Some(Ending::NotStarted("the program ended before it said anything".to_owned()))
                }
                Event::Frame(Err(error)) => Some(crashed(error)),
                Event::Answered(answered) => {
                    self.last_answer = Instant::now();
                    self.pass_on(answered, &mut work).await
                }
                Event::Deadline => Some(timed_out()),
            };
            if let Some(ended) = ended {
                return ended;
            }
            spoken = true;
        }
    }

    /// What a frame means; an end, or nothing and the talk goes on.
    async fn on_frame(&mut self, frame: FromConversation, work: &mut Work) -> Option<Ending> {
        self.around.reachable.store(true, Ordering::Relaxed);
        self.frames_left = self.frames_left.saturating_sub(1);
        let text_left = self.text_left.checked_sub(frame.text_bytes());
        self.text_left = text_left.unwrap_or_default();
        if self.frames_left == 0 || text_left.is_none() {
            return Some(crashed("the program says more than a login may"));
        }
        match frame {
            FromConversation::Message { style, text } => {
                self.hold(style, text);
                None
            }
            FromConversation::Prompts(prompts) => {
                drop((work.starting.take(), work.slot.take()));
                match self.on_prompts(prompts).await {
                    Ok(None) => None,
                    Ok(Some(answered)) => self.pass_on(answered, work).await,
                    Err(fault) => Some(Ending::Refused(fault)),
                }
            }
            FromConversation::Verdict(verdict) => {
                let ending = Ending::from(verdict);
                // Counted while the slot is held: who waits for it is to meet the count.
                if ending.is_a_wrong_answer() && !self.refused_unasked(&ending) {
                    self.around.throttle.failed(&self.entry.username, &self.entry.source);
                }
                Some(ending)
            }
            FromConversation::Probed { .. }
            | FromConversation::Compared { .. }
            | FromConversation::Hashed { .. } => Some(crashed("another question's answer")),
        }
    }

    /// Hands answers to the module; the slot is its right to work on them.
    async fn pass_on(&mut self, answered: Answered, work: &mut Work) -> Option<Ending> {
        work.slot = Some(answered.slot);
        self.answered = true;
        self.step_ends = Instant::now() + self.around.pacing.step;
        self.entry.work(self.step_ends);
        let frame = ToConversation::Answers(answered.answers);
        let deadline = self.step_ends.min(self.entry.ends());
        // A module that reads nothing must not keep the login and its slot for ever.
        match timeout_at(deadline.into(), frames::write(&mut work.writer, &frame)).await {
            Ok(written) => written.err().map(crashed),
            Err(_) => Some(timed_out()),
        }
    }

    /// The next thing that happens; held text is let go when its time has come.
    async fn next(&mut self, frames: &mut Frames) -> Event {
        loop {
            let deadline = self.step_ends.min(self.entry.ends());
            tokio::select! {
                biased;
                frame = frames.recv() => return Event::Frame(frame.unwrap_or(Ok(None))),
                Some(answered) = self.answers.recv() => return Event::Answered(answered),
                () = sleep_until(deadline.into()) => return Event::Deadline,
                () = sleep_until(self.release_at.into()), if !self.held.is_empty() => self.release(),
            }
        }
    }

    fn hold(&mut self, style: MessageStyle, text: String) {
        if self.held.is_empty() {
            self.release_at = Instant::now() + self.around.pacing.hold(self.answered);
        }
        self.held.push((style, text));
    }

    fn release(&mut self) {
        for (style, text) in self.held.drain(..) {
            self.entry.say(style, text);
        }
    }

    /// Answers with the one-shot password, where that is what is asked for, or asks the person.
    async fn on_prompts(&mut self, prompts: Vec<Prompt>) -> Result<Option<Answered>, Fault> {
        self.release();
        let first = !std::mem::replace(&mut self.asked, true);
        // Given to the first prompt or to nothing.
        if let Some(password) = self.password.take()
            && first
            && self.around.pacing.asks_for_the_password(&prompts)
        {
            return self.one_shot(password).await.map(Some);
        }
        self.step_ends = Instant::now() + self.around.pacing.step;
        let prompts =
            prompts.into_iter().map(|Prompt { echo, text }| LoginPrompt { echo, text }).collect();
        self.entry.ask(prompts, self.step_ends);
        Ok(None)
    }

    /// The password that came with the begin, once it is this login's turn.
    async fn one_shot(&self, password: Answer) -> Result<Answered, Fault> {
        let (user, source) = (&self.entry.username, &self.entry.source);
        let slot = self.around.slots.answer(user).await.ok_or_else(busy)?;
        // Others may have failed while the slot was awaited.
        self.around.throttle.check(user, source)?;
        Ok(Answered { answers: vec![password], slot })
    }

    /// Records the end, and waits until it may be told.
    async fn finish(&mut self, mut ending: Ending) -> Finished {
        if matches!(ending, Ending::Refused(_)) {
            return ending.into_result();
        }
        let entry = Arc::clone(&self.entry);
        if let Ending::Verified(account) = &ending {
            audit::learn(account.username().as_str());
            if let Vouched::System(known) = account.vouched()
                && !self.around.admission.admits(known.username.as_str(), &known.groups)
            {
                ending = Ending::Denied(Denial::AcctDenied, 0);
            }
        }
        if let Ending::Crashed(cause) | Ending::NotStarted(cause) = &ending {
            tracing::warn!(request_id = %entry.request, "conversation: {cause}");
        }
        if matches!(ending, Ending::NotStarted(_)) {
            self.around.reachable.store(false, Ordering::Relaxed);
        }
        audit::conversation_ended(
            &entry.request,
            &entry.username,
            ending.name(),
            ending.pam_code(),
        );
        if matches!(ending, Ending::Verified(_)) {
            self.around.throttle.succeeded(&entry.username, &entry.source);
            self.release();
            return ending.into_result();
        }
        if self.around.pacing.expose_pam_errors {
            self.release();
        }
        if self.refused_unasked(&ending) && !self.pretend_to_ask().await {
            ending = timed_out();
        }
        let told = self.around.pacing.tell_failure_at(self.last_answer, Instant::now());
        sleep_until(told.into()).await;
        ending.into_result()
    }

    /// Whether a person was refused before anything was asked.
    fn refused_unasked(&self, ending: &Ending) -> bool {
        ending.is_a_wrong_answer() && !self.asked && !self.entry.one_shot
    }

    /// A stack that refuses without a question would tell that the account is locked or unknown; so one is made up,
    /// and its answer counts as a wrong one. Whether an answer came; without one a real prompt would time out.
    async fn pretend_to_ask(&mut self) -> bool {
        let Some(answered) = self.ask_for_a_password().await else { return false };
        self.step_ends = self.last_answer + self.around.pacing.step;
        self.entry.work(self.step_ends);
        self.around.throttle.failed(&self.entry.username, &self.entry.source);
        drop(answered);
        true
    }

    /// Asks as pam_unix would, and waits for the answer.
    async fn ask_for_a_password(&mut self) -> Option<Answered> {
        self.asked = true;
        self.step_ends = Instant::now() + self.around.pacing.step;
        let prompt = LoginPrompt { echo: Echo::Off, text: PASSWORD.to_owned() };
        self.entry.ask(vec![prompt], self.step_ends);
        let deadline = self.step_ends.min(self.entry.ends());
        let answered = timeout_at(deadline.into(), self.answers.recv()).await.ok().flatten()?;
        self.last_answer = Instant::now();
        Some(answered)
    }
}

fn crashed(cause: impl ToString) -> Ending {
    Ending::Crashed(cause.to_string())
}

fn timed_out() -> Ending {
    Ending::Denied(Denial::Timeout, 0)
}

enum Event {
    Frame(io::Result<Option<FromConversation>>),
    Answered(Answered),
    Deadline,
}

async fn read_all(
    mut reader: OwnedReadHalf,
    sender: mpsc::Sender<io::Result<Option<FromConversation>>>,
) {
    loop {
        let frame = frames::read(&mut reader).await;
        let last = !matches!(frame, Ok(Some(_)));
        if sender.send(frame).await.is_err() || last {
            return;
        }
    }
}

/// No slot came free.
pub(super) fn busy() -> Fault {
    Fault::new(ErrorCode::TooManyAttempts, "too many logins are running; try again").retry_after(1)
}
