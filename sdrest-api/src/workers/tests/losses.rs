//! Workers that die or turn away before a job gets far: who is blamed, and how often it is tried.

use super::{
    fake::{Return, Running},
    *,
};

/// The next life of a dead worker.
async fn reborn(worker: Running, socket: &Path, incarnation: u64, mood: Mood) -> Running {
    worker.die().await;
    fake::start(socket, incarnation, mood)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_kills_workers_while_it_begins_is_given_up() {
    let (_folder, state, socket) = place();
    let mut worker = fake::start(&socket, 1, Mood::Loads);
    let api = api(&state, &socket).await;
    let poison = api.submit(new_job(1, 20)).await;
    for incarnation in 2..=4 {
        let current = &worker;
        let begun = async || current.worker.jobs() == 1 && current.worker.is_heard();
        api.until("its word that the job has begun has arrived", begun).await;
        worker = reborn(worker, &socket, incarnation, Mood::Loads).await;
    }
    let failed = api.ended(&poison).await;
    assert_eq!((failed.state, failed.worker_deaths), (JobState::Failed, 3));
}

/// The word that a job has begun may die with the worker. Then the one that came first is suspected, and it runs
/// alone; but such deaths may be nobody's doing, so a few of them end nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_dies_without_a_word_is_held_against_its_first_job_only() {
    let (_folder, state, socket) = place();
    let api = api(&state, &socket).await;
    let first = api.submit(new_job(1, 20)).await;
    let second = api.submit(new_job(2, 20)).await;
    let mut worker = fake::start(&socket, 1, Mood::Silent);
    api.until("it has both", async || worker.worker.jobs() == 2).await;
    for incarnation in 2..=5 {
        worker = reborn(worker, &socket, incarnation, Mood::Silent).await;
        let deaths = async || {
            let seen = api.queue.job(Scope::Any, first.id).await.unwrap();
            assert_eq!(seen.fault, None);
            (u64::from(seen.attempt.0), u64::from(seen.worker_deaths))
        };
        api.until("it is tried again", async || deaths().await == (incarnation, incarnation - 1))
            .await;
        let current = &worker;
        api.until("it is there alone", async || current.worker.jobs() == 1).await;
    }
    let _worker = reborn(worker, &socket, 6, Mood::Draws).await;
    let (first, second) = (api.ended(&first).await, api.ended(&second).await);
    assert_eq!((first.state, first.worker_deaths), (JobState::Done, 5));
    assert_eq!((second.state, second.worker_deaths), (JobState::Done, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_hangs_up_at_once_is_not_called_all_the_time() {
    let (_folder, state, socket) = place();
    let worker = fake::start(&socket, 1, Mood::HangsUp);
    let _api = api(&state, &socket).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    // At 0, 50, 150, 350 and 750 ms.
    let (connections, _) = worker.worker.meetings();
    assert!((2..=6).contains(&connections), "{connections} connections in a second");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_gives_every_job_back_gets_few_of_them() {
    for word in [Return::Interrupted, Return::Unavailable] {
        let (_folder, state, socket) = place();
        let worker = fake::start(&socket, 1, Mood::GivesBack(word));
        let api = api(&state, &socket).await;
        let mut jobs = Vec::new();
        for owner in 1..=20 {
            jobs.push(api.submit(new_job(owner, 5)).await);
        }
        let (begun, before) = (std::time::Instant::now(), worker.worker.meetings().1);
        tokio::time::sleep(Duration::from_secs(1)).await;
        let rounds = 2 + begun.elapsed().as_millis() as usize / 500;
        let given = worker.worker.meetings().1 - before;
        // Four at a time.
        assert!(given <= 4 * rounds, "{word:?}: {given} jobs in {rounds} rounds");
        let _worker = reborn(worker, &socket, 2, Mood::Draws).await;
        for job in &jobs {
            assert_eq!(api.ended(job).await.state, JobState::Done, "{word:?}");
        }
    }
}
