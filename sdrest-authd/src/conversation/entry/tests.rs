//! Who may wait for news, and what wakes them.

use super::*;
use std::{future::Future, sync::Arc};

const LONG: Duration = Duration::from_secs(600);
const PATIENCE: Duration = Duration::from_secs(20);

fn entry() -> Arc<Entry> {
    let begin = Begin {
        username: Username::try_from("alice".to_owned()).unwrap(),
        password: None,
        source: Source::new(None),
        request: RequestId::random(),
    };
    Arc::new(Entry::new(&begin, &Pacing::slow(LONG), mpsc::channel(1).0).unwrap())
}

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.unwrap()
}

#[tokio::test]
async fn a_few_wait_one_more_is_refused_and_a_cancel_wakes_all() {
    let entry = entry();
    let waiters: Vec<_> = (0..MOST_WAITERS)
        .map(|_| {
            let entry = Arc::clone(&entry);
            tokio::spawn(async move { entry.news_for_one_more(0, LONG).await })
        })
        .collect();
    while entry.changed.receiver_count() < MOST_WAITERS {
        tokio::task::yield_now().await;
    }
    let fault = soon(entry.news_for_one_more(0, LONG)).await.unwrap_err();
    assert_eq!((fault.code, fault.retry_after), (ErrorCode::TooManyAttempts, Some(1)));
    assert!(waiters.iter().all(|waiter| !waiter.is_finished()));
    assert!(matches!(entry.view(0).state, State::Running));
    entry.cancelled.cancel();
    for waiter in waiters {
        soon(waiter).await.unwrap().unwrap();
    }
    assert!(matches!(entry.view(0).state, State::Gone));
    entry.end(Err(Fault::new(ErrorCode::AuthTimeout, "over")));
    soon(entry.news_for_one_more(0, LONG)).await.unwrap();
    assert!(matches!(entry.view(0).state, State::Finished(Err(_))));
}
