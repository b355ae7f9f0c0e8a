//! What authd confirmed of credentials, for as long as that may be believed: by the SHA-256 of the credential,
//! so that no secret is kept, and bounded. At most one question about a credential is under way at a time;
//! who comes meanwhile waits for its answer. Only good news is kept.
//!
//! `forget` empties it. What was asked before that is never kept, whenever its answer comes.

use futures::{FutureExt, future::BoxFuture, future::Shared};
use sdrest_proto::error::{ErrorCode, Fault};
use sha2::{Digest, Sha256};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::sync::Semaphore;
use tracing::Instrument;

/// Confirmed credentials at a time.
const ROOM: usize = 10_000;
/// Questions under way at a time; a flood of well-formed inventions must not reach authd.
const QUESTIONS: usize = 1024;
/// Those of them that authd has at once; the others wait their turn.
const AT_AUTHD: usize = 64;

type Key = [u8; 32];
type Question<T> = Shared<BoxFuture<'static, Result<T, Fault>>>;

/// What is known, and what is being asked. Clones share it.
pub(super) struct Confirmed<T>(Arc<Mutex<Shelf<T>>>);

struct Shelf<T> {
    generation: u64,
    good: HashMap<Key, (T, Instant)>,
    asked: HashMap<Key, Question<T>>,
    turns: Arc<Semaphore>,
}

impl<T> Clone for Confirmed<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T: Clone + Send + Sync + 'static> Confirmed<T> {
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(Shelf {
            generation: 0,
            good: HashMap::new(),
            asked: HashMap::new(),
            turns: Arc::new(Semaphore::new(AT_AUTHD)),
        })))
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing that was confirmed or asked before this counts after it.
    pub(super) fn forget(&self) {
        let mut shelf = self.shelf();
        shelf.generation += 1;
        shelf.good.clear();
        shelf.asked.clear();
    }

    /// What is known of a credential, or what `ask` finds out and for how long that holds.
    pub(super) async fn get<F>(&self, secret: &str, ask: impl FnOnce() -> F) -> Result<T, Fault>
    where
        F: Future<Output = Result<(T, Duration), Fault>> + Send + 'static,
    {
        let question = match self.look(Sha256::digest(secret.as_bytes()).into(), ask)? {
            Look::Known(known) => return Ok(known),
            Look::Asked(question) => question,
        };
        question.await
    }

    fn look<F>(&self, key: Key, ask: impl FnOnce() -> F) -> Result<Look<T>, Fault>
    where
        F: Future<Output = Result<(T, Duration), Fault>> + Send + 'static,
    {
        let mut shelf = self.shelf();
        match shelf.good.get(&key) {
            Some((known, until)) if *until > Instant::now() => {
                return Ok(Look::Known(known.clone()));
            }
            Some(_) => drop(shelf.good.remove(&key)),
            None => {}
        }
        if let Some(question) = shelf.asked.get(&key) {
            return Ok(Look::Asked(question.clone()));
        }
        if shelf.asked.len() >= QUESTIONS {
            return Err(busy());
        }
        let (generation, asking, this) = (shelf.generation, ask(), self.clone());
        let turns = Arc::clone(&shelf.turns);
        // A task of its own: the question goes on for the others when the first one to ask goes away.
        let task = tokio::spawn(
            async move {
                // In turn: inventing keys makes the honest wait a little and does not shut them out.
                let _turn = turns.acquire_owned().await;
                let answer = asking.await;
                this.note(key, generation, answer)
            }
            .in_current_span(),
        );
        let question = async move { task.await.unwrap_or_else(|_| Err(busy())) }.boxed().shared();
        shelf.asked.insert(key, question.clone());
        Ok(Look::Asked(question))
    }

    fn note(
        &self,
        key: Key,
        generation: u64,
        answer: Result<(T, Duration), Fault>,
    ) -> Result<T, Fault> {
        let mut shelf = self.shelf();
        if shelf.generation != generation {
            return answer.map(|(value, _)| value);
        }
        shelf.asked.remove(&key);
        let (value, life) = answer?;
        shelf.make_room();
        if let Some(until) = Instant::now().checked_add(life) {
            shelf.good.insert(key, (value.clone(), until));
        }
        Ok(value)
    }
}

enum Look<T> {
    Known(T),
    Asked(Question<T>),
}

impl<T> Shelf<T> {
    fn make_room(&mut self) {
        if self.good.len() < ROOM {
            return;
        }
        let now = Instant::now();
        self.good.retain(|_, (_, until)| *until > now);
        // Still full: any one goes; it costs its owner one question.
        if self.good.len() >= ROOM
            && let Some(key) = self.good.keys().next().copied()
        {
            self.good.remove(&key);
        }
    }
}

fn busy() -> Fault {
    Fault::new(
        ErrorCode::PamAuthUnavailable,
        "too many credentials are being checked now; try again",
    )
    .retry_after(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};
    use tokio::sync::oneshot;

    const LONG: Duration = Duration::from_secs(3600);

    #[derive(Clone, Default)]
    struct Counter(Arc<AtomicU32>);

    impl Counter {
        async fn good(self) -> Result<(u32, Duration), Fault> {
            Ok((self.0.fetch_add(1, Ordering::SeqCst), LONG))
        }
    }

    #[tokio::test]
    async fn good_news_is_kept_until_it_is_forgotten_and_bad_news_never() {
        let (confirmed, counter) = (Confirmed::new(), Counter::default());
        let ask = || confirmed.get("a", || counter.clone().good());
        assert_eq!((ask().await, ask().await), (Ok(0), Ok(0)));
        confirmed.forget();
        assert_eq!(ask().await, Ok(1));
        let refuse = || async { Err(Fault::new(ErrorCode::TokenInvalid, "no")) };
        assert!(confirmed.get("b", refuse).await.is_err());
        assert_eq!(confirmed.get("b", || counter.clone().good()).await, Ok(2));
        let over = || async { Ok((7, Duration::ZERO)) };
        assert_eq!(confirmed.get("c", over).await, Ok(7));
        assert_eq!(confirmed.get("c", || counter.clone().good()).await, Ok(3));
    }

    #[tokio::test]
    async fn one_question_at_a_time_and_its_late_answer_is_not_kept() {
        let confirmed = Confirmed::new();
        let (answer, waits) = oneshot::channel::<u32>();
        let slow = || async move { Ok((waits.await.unwrap_or(0), LONG)) };
        let first = confirmed.get("a", slow);
        let second = confirmed.get("a", || async { Ok((99, LONG)) });
        let both = async { tokio::join!(first, second) };
        let meanwhile = async {
            tokio::task::yield_now().await;
            answer.send(7).unwrap();
        };
        let ((first, second), ()) = tokio::join!(both, meanwhile);
        assert_eq!((first, second), (Ok(7), Ok(7)), "the second waited for the first");

        let (answer, waits) = oneshot::channel::<u32>();
        let confirmed = Confirmed::new();
        let slow = || async move { Ok((waits.await.unwrap_or(0), LONG)) };
        let asking = confirmed.get("b", slow);
        let meanwhile = async {
            tokio::task::yield_now().await;
            confirmed.forget();
            answer.send(8).unwrap();
        };
        let (old, ()) = tokio::join!(asking, meanwhile);
        assert_eq!(old, Ok(8));
        assert_eq!(confirmed.get("b", || async { Ok((9, LONG)) }).await, Ok(9), "asked anew");
    }

    #[tokio::test]
    async fn it_stays_bounded() {
        let confirmed = Confirmed::new();
        for at in 0..ROOM + 10 {
            confirmed.get(&at.to_string(), || async { Ok(((), LONG)) }).await.unwrap();
        }
        assert!(confirmed.shelf().good.len() <= ROOM);
        assert!(confirmed.shelf().asked.is_empty());
    }
}
