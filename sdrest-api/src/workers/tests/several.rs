//! Two workers: which of them gets a job, and what becomes of it while one is away.

use super::*;

/// Two sockets beside each other.
fn two(socket: &Path) -> [PathBuf; 2] {
    [socket.to_owned(), socket.with_file_name("1.sock")]
}

async fn is_connected(api: &Api, worker: usize) {
    let connected = async || api.workers.reports().await[worker].connected;
    api.until("the worker is connected", connected).await;
}

/// Still waits after long enough for a worker to have been asked.
async fn waits(api: &Api, job: &Job) {
    tokio::time::sleep(Duration::from_millis(500)).await;
    let seen = api.queue.job(Scope::Any, job.id).await.unwrap();
    assert!(!seen.state.is_terminal(), "{:?} {:?}", seen.state, seen.fault);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_waits_for_the_worker_that_has_its_model() {
    let (_folder, state, socket) = place();
    let [here, away] = two(&socket);
    let worker = fake::start_with(&here, 1, Mood::Draws, "other");
    let comes_back = fake::start(&away, 1, Mood::Draws);
    let api = api_of(&state, settings(&[&here, &away])).await;
    is_connected(&api, 0).await;
    is_connected(&api, 1).await;
    comes_back.die().await;
    let job = api.submit(new_job(1, 5)).await;
    assert!(api.workers.model(&job.request.model).is_ok(), "it would be answered 202");
    waits(&api, &job).await;
    assert_eq!(worker.worker.meetings().1, 0, "a worker without the model was asked");
    let _comes_back = fake::start(&away, 2, Mood::Draws);
    assert_eq!(api.ended(&job).await.state, JobState::Done);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_waits_for_a_worker_whose_models_are_not_known_yet() {
    let (_folder, state, socket) = place();
    let [here, unknown] = two(&socket);
    let _worker = fake::start_with(&here, 1, Mood::Draws, "other");
    let api = api_of(&state, settings(&[&here, &unknown])).await;
    let job = api.submit(new_job(1, 5)).await;
    is_connected(&api, 0).await;
    waits(&api, &job).await;
    // It keeps nobody else from being drawn.
    let mut other = new_job(2, 5);
    other.request.model = ModelName::try_from("other".to_owned()).unwrap();
    let other = api.submit(other).await;
    assert_eq!(api.ended(&other).await.state, JobState::Done);
    let _late = fake::start(&unknown, 1, Mood::Draws);
    assert_eq!(api.ended(&job).await.state, JobState::Done);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_for_a_model_that_none_of_them_has_fails_once_all_are_known() {
    let (_folder, state, socket) = place();
    let [here, unknown] = two(&socket);
    let _worker = fake::start_with(&here, 1, Mood::Draws, "other");
    let api = api_of(&state, settings(&[&here, &unknown])).await;
    let job = api.submit(new_job(1, 5)).await;
    waits(&api, &job).await;
    let _late = fake::start_with(&unknown, 1, Mood::Draws, "another");
    let failed = api.ended(&job).await;
    assert_eq!(failed.fault.unwrap().code, ErrorCode::ModelNotFound);
}

/// What kills a worker that is slow to come back must not go from one to the other for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_worker_stays_away_is_suspected() {
    let (_folder, state, socket) = place();
    let [left, right] = two(&socket);
    let mut worker = fake::start(&left, 1, Mood::Hangs);
    let mut settings = settings(&[&left, &right]);
    settings.grace = Duration::from_millis(100);
    let api = api_of(&state, settings).await;
    let poison = api.submit(new_job(1, 20)).await;
    for (death, place) in [(1, &right), (2, &left)] {
        api.has_started_as(&poison, death).await;
        worker.die().await;
        worker = fake::start(place, 1 + u64::from(death), Mood::Hangs);
    }
    api.has_started_as(&poison, 3).await;
    worker.die().await;
    let failed = api.ended(&poison).await;
    assert_eq!((failed.state, failed.worker_deaths), (JobState::Failed, 3));
}
