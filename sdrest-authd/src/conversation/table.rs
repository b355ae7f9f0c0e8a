//! All logins in progress, bounded: how many wait for a person, in all and from one source; how long a finished
//! one is kept for its caller. A wrong secret looks like a conversation that is gone. When it gets full, the
//! oldest that nobody has answered goes first, from the source that has most.

use super::{
    driver::{Course, Driver, busy},
    entry::{Answered, Begin, Entry, Phase, Shared},
    outcome::{Candidate, denied},
    pacing::milliseconds,
    questions::Questions,
    surroundings::Surroundings,
};
use crate::{audit, fault::internal_in, peer::Source};
use sdrest_proto::{
    conversation::{Denial, Purpose, Start},
    error::{ErrorCode, Fault},
    id::ConversationId,
    login::{ConversationRef, Respond},
    secret::Answer,
};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering},
    time::{Duration, Instant},
};
use tokio::sync::mpsc;

/// How long an end that nobody fetched is kept.
const KEEP_ENDED: Duration = Duration::from_secs(60);
/// Wrong answers in form (their number, NUL, length) before the conversation is ended.
const STRIKES: u8 = 3;
/// How much longer the program's own deadlines are: authd's decide.
const SLACK: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Modules at work at once.
    pub(crate) running: usize,
    /// Conversations that wait for a person, in all and from one source.
    pub(crate) waiting: usize,
    pub(crate) waiting_per_source: usize,
    /// Conversations of any kind and in any state, from one source and in all.
    pub(crate) per_source: usize,
    pub(crate) all: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { running: 10, waiting: 64, waiting_per_source: 4, per_source: 32, all: 256 }
    }
}

/// Who is to vouch for a login.
pub(crate) enum Backend {
    Pam,
    Internal(Candidate),
}

pub(crate) struct Table {
    entries: Mutex<HashMap<ConversationId, Arc<Entry>>>,
    around: Arc<Surroundings>,
    limits: Limits,
}

impl Table {
    pub(crate) fn new(around: Surroundings, limits: Limits) -> Self {
        Self { entries: Mutex::default(), around: Arc::new(around), limits }
    }

    /// For questions that are no login.
    pub(crate) fn questions(&self) -> Questions {
        Questions(Arc::clone(&self.around))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ConversationId, Arc<Entry>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts a login, if the throttle and the limits allow one.
    pub(crate) fn begin(&self, begin: Begin, backend: Backend) -> Result<Arc<Entry>, Fault> {
        let course = self.course(&begin, backend)?;
        if let Some(password) = &begin.password {
            if password.is_empty() {
                return Err(Fault::new(
                    ErrorCode::MissingPassword,
                    "`password` is needed and is empty",
                ));
            }
            check_form(password)?;
        }
        self.around.throttle.check(begin.username.as_str(), &begin.source)?;
        let (sender, answers) = mpsc::channel(1);
        let entry = Entry::new(&begin, &self.around.pacing, sender);
        let entry = Arc::new(entry.map_err(|error| internal_in(&begin.request, &error))?);
        {
            let mut entries = self.lock();
            make_room(&mut entries, &self.limits, &entry)?;
            entries.insert(entry.id, Arc::clone(&entry));
        }
        audit::conversation_began(&begin.request, begin.username.as_str(), &begin.source);
        let driver =
            Driver::new(Arc::clone(&entry), Arc::clone(&self.around), answers, begin.password);
        tokio::spawn(driver.run(course));
        Ok(entry)
    }

    /// How a login of this name is checked.
    fn course(&self, begin: &Begin, backend: Backend) -> Result<Course, Fault> {
        let pacing = &self.around.pacing;
        match (backend, &self.around.pam) {
            (Backend::Internal(candidate), _) => Ok(Course::Internal(candidate)),
            (Backend::Pam, None) => Err(denied(Denial::Unavailable)),
            (Backend::Pam, Some(pam)) => Ok(Course::Pam(Start {
                service: pam.service.clone(),
                username: begin.username.as_str().to_owned(),
                rhost: begin.source.address().map(|address| address.to_string()),
                step_deadline_ms: milliseconds(pacing.step + SLACK),
                total_deadline_ms: milliseconds(pacing.total + SLACK),
                purpose: Purpose::SignIn,
            })),
        }
    }

    /// The conversation that a caller names, if its secret is right.
    pub(crate) fn find(&self, named: &ConversationRef) -> Result<Arc<Entry>, Fault> {
        let entry = self.lock().get(&named.id).cloned();
        entry.filter(|entry| entry.secret.matches(&named.secret)).ok_or_else(gone)
    }

    /// Passes answers on to the module, once a slot is free.
    pub(crate) async fn respond(&self, respond: Respond) -> Result<Arc<Entry>, Fault> {
        let entry = self.find(&respond.conversation)?;
        self.in_step(&entry, &respond, |_| ())?;
        self.around.throttle.check(&entry.username, &entry.source)?;
        let slot = self.around.slots.answer(&entry.username).await.ok_or_else(busy)?;
        // Others of this user may have failed while the slot was awaited.
        self.around.throttle.check(&entry.username, &entry.source)?;
        // Somebody else may have answered while the slot was awaited; who gets here first closes the step.
        self.in_step(&entry, &respond, |shared| shared.phase = Phase::Running)?;
        let answered = Answered { answers: respond.answers, slot };
        entry.answers.try_send(answered).map_err(|_| gone())?;
        Ok(entry)
    }

    /// Does `then` if these are answers to the prompts that are open.
    fn in_step(
        &self,
        entry: &Entry,
        respond: &Respond,
        then: impl FnOnce(&mut Shared),
    ) -> Result<(), Fault> {
        let answers = &respond.answers;
        let mut shared = entry.lock();
        let Phase::Waiting(prompts) = &shared.phase else {
            return Err(out_of_step(shared.sequence));
        };
        if shared.sequence != respond.sequence {
            return Err(out_of_step(shared.sequence));
        }
        let form = if prompts.len() == answers.len() {
            answers.iter().try_for_each(check_form)
        } else {
            Err(Fault::new(
                ErrorCode::ValidationFailed,
                format!(
                    "`answers` must be {} in number, one for each prompt, got {}",
                    prompts.len(),
                    answers.len()
                ),
            ))
        };
        if form.is_ok() {
            then(&mut shared);
            return form;
        }
        shared.strikes = shared.strikes.saturating_add(1);
        if shared.strikes >= STRIKES {
            drop(shared);
            self.remove(entry.id);
        }
        form
    }

    pub(crate) fn cancel(&self, named: &ConversationRef) -> Result<(), Fault> {
        let entry = self.find(named)?;
        self.remove(entry.id);
        Ok(())
    }

    /// Takes a conversation out; its program ends if it still runs.
    pub(crate) fn remove(&self, id: ConversationId) {
        if let Some(entry) = self.lock().remove(&id) {
            entry.cancelled.cancel();
        }
    }

    /// Forgets ends that nobody fetched.
    pub(crate) fn sweep(&self) {
        let now = Instant::now();
        self.lock().retain(|_, entry| {
            let ended = entry.lock().ended;
            ended.is_none_or(|at| now.saturating_duration_since(at) < KEEP_ENDED)
        });
    }

    /// Whether the last conversation program that was asked for came up.
    pub(crate) fn reachable(&self) -> bool {
        self.around.reachable.load(Ordering::Relaxed)
    }

    /// Name and number, for health.
    pub(crate) fn figures(&self) -> Vec<(String, u64)> {
        let entries = self.lock();
        let waiting = entries.values().filter(|entry| waits(entry)).count();
        let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        vec![
            ("conversations".to_owned(), count(entries.len())),
            ("conversations_waiting".to_owned(), count(waiting)),
            ("modules_working".to_owned(), count(self.around.slots.working(self.limits.running))),
        ]
    }
}

/// Whether a conversation counts as one that waits for a person: not while a one-shot password is being checked,
/// and not once it has ended.
fn waits(entry: &Entry) -> bool {
    match entry.lock().phase {
        Phase::Waiting(_) => true,
        Phase::Running => !entry.one_shot,
        Phase::Ended(_) => false,
    }
}

fn has_ended(entry: &Entry) -> bool {
    matches!(entry.lock().phase, Phase::Ended(_))
}

/// Keeps one source to its share of the table: its own oldest end that nobody fetched goes first.
fn make_room_of_source(
    entries: &mut HashMap<ConversationId, Arc<Entry>>,
    most: usize,
    source: &Source,
) -> Result<(), Fault> {
    let own = || entries.values().filter(|entry| entry.source == *source);
    if own().count() < most {
        return Ok(());
    }
    let oldest = own().filter(|entry| has_ended(entry)).min_by_key(|entry| entry.lock().ended);
    let oldest = oldest.map(|entry| entry.id).ok_or_else(busy)?;
    entries.remove(&oldest);
    Ok(())
}

/// Makes room for one more, or refuses.
fn make_room(
    entries: &mut HashMap<ConversationId, Arc<Entry>>,
    limits: &Limits,
    new: &Entry,
) -> Result<(), Fault> {
    make_room_of_source(entries, limits.per_source, &new.source)?;
    if entries.len() >= limits.all {
        return Err(busy());
    }
    let one_shots = entries
        .values()
        .filter(|entry| entry.one_shot && entry.source == new.source && !has_ended(entry))
        .count();
    if new.one_shot && one_shots < limits.waiting_per_source {
        return Ok(());
    }
    let mut by_source: HashMap<Source, usize> = HashMap::new();
    for entry in entries.values().filter(|entry| waits(entry)) {
        *by_source.entry(entry.source.clone()).or_default() += 1;
    }
    let waiting: usize = by_source.values().sum();
    let own = by_source.get(&new.source).copied().unwrap_or_default();
    let from = if own >= limits.waiting_per_source {
        Some(new.source.clone())
    } else if !new.one_shot && waiting >= limits.waiting * 3 / 4 {
        by_source.into_iter().max_by_key(|(_, count)| *count).map(|(source, _)| source)
    } else {
        None
    };
    let Some(from) = from else { return Ok(()) };
    let oldest = entries
        .values()
        .filter(|entry| entry.source == from && waits(entry) && !entry.lock().answered)
        .min_by_key(|entry| entry.begun)
        .map(|entry| entry.id);
    match oldest.and_then(|id| entries.remove(&id)) {
        Some(entry) => {
            entry.cancelled.cancel();
            Ok(())
        }
        None if own >= limits.waiting_per_source || waiting >= limits.waiting => Err(busy()),
        None => Ok(()),
    }
}

fn check_form(answer: &Answer) -> Result<(), Fault> {
    let text = answer.expose("looked through for NUL");
    if text.len() <= Answer::MAX_BYTES && !text.contains('\0') {
        return Ok(());
    }
    Err(Fault::new(
        ErrorCode::ValidationFailed,
        format!(
            "an answer must be at most {} bytes without NUL, got {} bytes",
            Answer::MAX_BYTES,
            text.len()
        ),
    ))
}

pub(crate) fn gone() -> Fault {
    Fault::new(ErrorCode::ConversationGone, "there is no such conversation any more")
}

fn out_of_step(now: u32) -> Fault {
    Fault::new(
        ErrorCode::ConversationOutOfStep,
        format!("`sequence` is not that of open prompts; it is {now} now"),
    )
}

#[cfg(test)]
mod tests;
