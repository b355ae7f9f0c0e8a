//! How many modules may work at once, in all and for one user. A slot is held only while a module works on an
//! answer, never while a person is awaited; so silent conversations cost nobody a login. One user's modules run
//! one after another, because pam_faillock counts wrongly when they do not.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

/// How long a login waits for a slot before it is told to come back.
const PATIENCE: Duration = Duration::from_secs(8);

/// The right to let one module work. Dropping it gives the slot back.
pub(super) struct Slot {
    _user: OwnedSemaphorePermit,
    _running: OwnedSemaphorePermit,
}

pub(crate) struct Slots {
    running: Arc<Semaphore>,
    starting: Arc<Semaphore>,
    questions: Arc<Semaphore>,
    users: Mutex<HashMap<String, Weak<Semaphore>>>,
}

impl Slots {
    pub(crate) fn new(running: usize) -> Self {
        Self {
            running: Arc::new(Semaphore::new(running)),
            starting: Arc::new(Semaphore::new(running)),
            questions: Arc::new(Semaphore::new((running / 2).max(1))),
            users: Mutex::new(HashMap::new()),
        }
    }

    /// A slot for work on an answer of `user`; nothing where none comes free in time.
    pub(super) async fn answer(&self, user: &str) -> Option<Slot> {
        let own = self.of_user(user);
        let both = async {
            let user = own.acquire_owned().await.ok()?;
            let running = Arc::clone(&self.running).acquire_owned().await.ok()?;
            Some(Slot { _user: user, _running: running })
        };
        timeout(PATIENCE, both).await.ok().flatten()
    }

    /// A slot for the way to the first prompt. Not the user's: nobody has answered anything yet.
    pub(super) async fn start(&self) -> Option<OwnedSemaphorePermit> {
        timeout(PATIENCE, Arc::clone(&self.starting).acquire_owned()).await.ok()?.ok()
    }

    /// A slot for a question that is no login, so that many refreshes at once keep nobody from the first prompt.
    pub(super) async fn question(&self) -> Option<OwnedSemaphorePermit> {
        timeout(PATIENCE, Arc::clone(&self.questions).acquire_owned()).await.ok()?.ok()
    }

    pub(super) fn working(&self, of: usize) -> usize {
        of.saturating_sub(self.running.available_permits())
    }

    fn of_user(&self, user: &str) -> Arc<Semaphore> {
        // A directory may know one account under many spellings.
        let user = user.to_lowercase();
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = users.get(&user).and_then(Weak::upgrade) {
            return own;
        }
        users.retain(|_, own| own.strong_count() > 0);
        let own = Arc::new(Semaphore::new(1));
        users.insert(user, Arc::downgrade(&own));
        own
    }
}
