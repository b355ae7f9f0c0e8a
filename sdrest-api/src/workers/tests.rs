//! The whole of these rooms against a worker that lives, dies and comes back: what a user sees of it.

use super::{
    fake::{self, Lie, Mood, Running},
    *,
};
use crate::{
    images::{BlobStore, read_parameters},
    jobs::{
        Job, JobError, JobState, NewJob, NoticeKind, Page, Queue, QueueLimits, Scope, SubmitPermit,
        store::conformance::new_job,
    },
};
use futures::StreamExt;
use sdrest_proto::{
    bounds::{ImageCount, ModelName},
    error::ErrorCode,
    identity::Subject,
    transport::TrustedUids,
};
use std::{
    path::{Path, PathBuf},
    time::Duration,
};
use tokio_util::sync::CancellationToken;

mod losses;
mod several;
mod sweep;

struct Allowed;
impl SubmitPermit for Allowed {}

/// Longer than any of these takes unless it hangs.
const LONG: Duration = Duration::from_secs(60);

/// The front end's rooms on one state folder; dropping it is the death of the front end.
struct Api {
    queue: Queue,
    blobs: BlobStore,
    workers: Workers,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Drop for Api {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn api(state: &Path, socket: &Path) -> Api {
    api_of(state, settings(&[socket])).await
}

fn settings(sockets: &[&Path]) -> WorkerSettings {
    let uid = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").unwrap());
    let sockets = sockets.iter().map(|socket| socket.to_path_buf()).collect();
    WorkerSettings::new(sockets, TrustedUids::new([uid]))
}

/// Starts the rooms on a runtime of their own, so that they can be killed without a goodbye.
async fn api_of(state: &Path, settings: WorkerSettings) -> Api {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let state = state.to_owned();
    let started = runtime.spawn(async move {
        let queue = Queue::open(&state.join("jobs.db"), QueueLimits::default()).await.unwrap();
        let blobs = BlobStore::open(&state).unwrap();
        let workers =
            Workers::start(settings, queue.work(), blobs.clone(), CancellationToken::new());
        (queue, blobs, workers)
    });
    let (queue, blobs, workers) = started.await.unwrap();
    Api { queue, blobs, workers, runtime: Some(runtime) }
}

impl Api {
    async fn submit(&self, new: NewJob) -> Job {
        self.queue.submit(Allowed, new).await.unwrap()
    }

    async fn ended(&self, job: &Job) -> Job {
        self.queue.wait(Scope::Owner(&job.owner), job.id, tokio::time::sleep(LONG)).await.unwrap()
    }

    async fn until(&self, what: &str, met: impl AsyncFn() -> bool) {
        let waiting = async {
            while !met().await {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(LONG, waiting).await.unwrap_or_else(|_| panic!("never: {what}"));
    }

    async fn has_started(&self, job: &Job) {
        self.has_started_as(job, 1).await;
    }

    async fn has_started_as(&self, job: &Job, attempt: u32) {
        let seen = async || {
            let now = self.queue.job(Scope::Any, job.id).await.unwrap();
            now.attempt.0 == attempt && now.progress.step > 0
        };
        self.until("the job starts", seen).await;
    }

    async fn file(&self, job: &Job, index: usize) -> Vec<u8> {
        self.blobs.get(&job.images[index].key).await.unwrap().unwrap().to_vec()
    }
}

fn place() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let (state, socket) = (folder.path().join("state"), folder.path().join("0.sock"));
    std::fs::create_dir(&state).unwrap();
    (folder, state, socket)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_becomes_its_pictures() {
    let (_folder, state, socket) = place();
    let _worker = fake::start(&socket, 1, Mood::Draws);
    let api = api(&state, &socket).await;
    let mut new = new_job(1, 5);
    new.request.num_images = ImageCount::try_from(3).unwrap();
    new.request.seed = 40.try_into().unwrap();
    let job = api.submit(new).await;
    let done = api.ended(&job).await;
    assert_eq!((done.state, done.images.len()), (JobState::Done, 3));
    assert!(done.profile.unwrap().starts_with("cpu float32"));
    for (index, image) in done.images.iter().enumerate() {
        assert_eq!((image.index as usize, image.seed), (index, 40 + index as u64));
    }
    let file = api.file(&api.ended(&job).await, 2).await;
    let text = read_parameters(&file).unwrap().unwrap();
    assert!(text.contains("Seed: 42,") && text.contains("Model hash: 0123456789"), "{text}");
    assert_eq!(api.workers.models().len(), 1);
    assert!(api.workers.reports().await[0].health.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn many_jobs_fill_the_slots_and_all_end() {
    let (_folder, state, socket) = place();
    let api = api(&state, &socket).await;
    let mut jobs = Vec::new();
    for owner in [1, 1, 1, 2, 2, 2, 3, 3, 3, 3] {
        jobs.push(api.submit(new_job(owner, 10)).await);
    }
    let worker = fake::start(&socket, 1, Mood::Draws);
    for job in &jobs {
        assert_eq!(api.ended(job).await.state, JobState::Done);
    }
    assert!((2..=4).contains(&worker.worker.most_at_once()), "{}", worker.worker.most_at_once());
}

/// What an undisturbed run gives for `new_job(1, 20)`.
async fn undisturbed() -> Vec<u8> {
    let (_folder, state, socket) = place();
    let _worker = fake::start(&socket, 9, Mood::Draws);
    let api = api(&state, &socket).await;
    let job = api.submit(new_job(1, 20)).await;
    api.file(&api.ended(&job).await, 0).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_survives_the_death_of_its_worker() {
    let (_folder, state, socket) = place();
    let worker = fake::start(&socket, 1, Mood::Hangs);
    let api = api(&state, &socket).await;
    let job = api.submit(new_job(1, 20)).await;
    api.has_started(&job).await;
    worker.die().await;
    let _worker = fake::start(&socket, 2, Mood::Draws);
    let done = api.ended(&job).await;
    assert_eq!((done.state, done.attempt.0, done.worker_deaths), (JobState::Done, 2, 1));
    assert_eq!(api.file(&done, 0).await, undisturbed().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_survives_the_death_of_the_front_end() {
    let (_folder, state, socket) = place();
    let worker = fake::start(&socket, 1, Mood::Hangs);
    let first = api(&state, &socket).await;
    let job = first.submit(new_job(1, 20)).await;
    let waiting = first.submit(new_job(2, 20)).await;
    first.has_started(&job).await;
    drop(first);
    worker.die().await;
    let _worker = fake::start(&socket, 1, Mood::Draws);
    let second = api(&state, &socket).await;
    let done = second.ended(&job).await;
    assert_eq!((done.state, done.attempt.0, done.worker_deaths), (JobState::Done, 2, 0));
    assert_eq!(second.ended(&waiting).await.state, JobState::Done);
    assert_eq!(second.file(&done, 0).await, undisturbed().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_keeps_its_life_goes_on_with_a_new_front_end() {
    let (_folder, state, socket) = place();
    let worker = fake::start(&socket, 1, Mood::Hangs);
    let first = api(&state, &socket).await;
    let jobs = [first.submit(new_job(1, 20)).await, first.submit(new_job(1, 20)).await];
    for job in &jobs {
        first.has_started(job).await;
    }
    first.queue.cancel(Scope::Any, jobs[1].id).await.unwrap();
    drop(first);
    let second = api(&state, &socket).await;
    second.has_started_as(&jobs[0], 2).await;
    let only_one = async || worker.worker.jobs() == 1;
    second.until("the cancelled job is stopped", only_one).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_kills_workers_is_given_up_and_its_neighbours_are_not() {
    let (_folder, state, socket) = place();
    let mut worker: Running = fake::start(&socket, 1, Mood::Hangs);
    let api = api(&state, &socket).await;
    let poison = api.submit(new_job(1, 20)).await;
    let neighbour = api.submit(new_job(2, 20)).await;
    api.has_started(&poison).await;
    api.has_started(&neighbour).await;
    for incarnation in 2..=3 {
        worker.die().await;
        worker = fake::start(&socket, incarnation, Mood::Hangs);
        api.has_started_as(&poison, incarnation as u32).await;
        assert_eq!(worker.worker.most_at_once(), 1);
    }
    worker.die().await;
    let _worker = fake::start(&socket, 4, Mood::Draws);
    let failed = api.ended(&poison).await;
    assert_eq!((failed.state, failed.worker_deaths), (JobState::Failed, 3));
    assert_eq!(failed.fault.unwrap().code, ErrorCode::GenerationFailed);
    let done = api.ended(&neighbour).await;
    assert_eq!((done.state, done.worker_deaths), (JobState::Done, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_frees_the_worker_and_ends_the_job_once() {
    let (_folder, state, socket) = place();
    let worker = fake::start(&socket, 1, Mood::Hangs);
    let api = api(&state, &socket).await;
    let job = api.submit(new_job(1, 20)).await;
    api.has_started(&job).await;
    let (owner, other) = (Scope::Owner(&job.owner), Subject::unix(7, 1));
    let stranger = api.queue.cancel(Scope::Owner(&other), job.id).await;
    assert!(matches!(stranger, Err(JobError::NotFound { .. })));
    assert_eq!(api.queue.cancel(owner, job.id).await.unwrap().state, JobState::Cancelled);
    let again = api.queue.cancel(owner, job.id).await;
    assert!(matches!(again, Err(JobError::AlreadyEnded { state: JobState::Cancelled, .. })));
    let idle = async || worker.worker.jobs() == 0;
    api.until("the worker is free", idle).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_mine_is_not_there() {
    let (_folder, state, socket) = place();
    let _worker = fake::start(&socket, 1, Mood::Draws);
    let api = api(&state, &socket).await;
    let job = api.submit(new_job(1, 5)).await;
    let done = api.ended(&job).await;
    let other = Subject::unix(2, 1);
    let stranger = Scope::Owner(&other);
    assert!(matches!(api.queue.job(stranger, job.id).await, Err(JobError::NotFound { .. })));
    assert!(matches!(
        api.queue.wait(stranger, job.id, async {}).await,
        Err(JobError::NotFound { .. })
    ));
    assert!(api.queue.events(stranger, job.id, None).await.is_err());
    assert!(matches!(
        api.queue.image(stranger, done.images[0].id).await,
        Err(JobError::NotFound { .. })
    ));
    assert!(api.queue.delete_image(stranger, done.images[0].id).await.is_err());
    assert!(api.queue.list(stranger, Page::first(10)).await.unwrap().jobs.is_empty());
    assert_eq!(api.queue.list(Scope::Any, Page::first(10)).await.unwrap().jobs.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_sees_progress_and_always_the_end() {
    let (_folder, state, socket) = place();
    let _worker = fake::start(&socket, 1, Mood::Draws);
    let api = api(&state, &socket).await;
    let job = api.submit(new_job(1, 30)).await;
    let mut events = api.queue.events(Scope::Any, job.id, None).await.unwrap();
    let (mut ids, mut kinds) = (Vec::new(), Vec::new());
    while let Some(notice) = events.next().await {
        ids.push(notice.id);
        kinds.push(notice.kind);
    }
    assert!(ids.is_sorted_by(|a, b| a < b), "{ids:?}");
    assert_eq!(kinds[kinds.len() - 2..], [NoticeKind::Image { index: 0 }, NoticeKind::Done]);
    assert!(kinds.len() > 3);

    let seen = ids[ids.len() - 2];
    let rest: Vec<_> =
        api.queue.events(Scope::Any, job.id, Some(seen)).await.unwrap().collect().await;
    assert_eq!(
        rest.iter().map(|notice| (notice.id, notice.kind)).collect::<Vec<_>>(),
        [(seen + 1, NoticeKind::Done)]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_for_a_model_that_nobody_has_fails_clearly() {
    let (_folder, state, socket) = place();
    let _worker = fake::start(&socket, 1, Mood::Draws);
    let api = api(&state, &socket).await;
    let mut new = new_job(1, 5);
    new.request.model = ModelName::try_from("absent".to_owned()).unwrap();
    let job = api.submit(new.clone()).await;
    let failed = api.ended(&job).await;
    assert_eq!(failed.fault.unwrap().code, ErrorCode::ModelNotFound);
    let refused = api.workers.model(&new.request.model).unwrap_err();
    assert_eq!(refused.message, "there is no model \"absent\"; there are: demo");
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_wait_for_a_worker_and_know_their_place() {
    let (_folder, state, socket) = place();
    let api = api(&state, &socket).await;
    let first = api.submit(new_job(1, 5)).await;
    let second = api.submit(new_job(1, 5)).await;
    assert_eq!((first.position, second.position), (Some(1), Some(2)));
    let status = api.queue.status(Scope::Owner(&first.owner)).await.unwrap();
    assert_eq!((status.all.queued, status.own.queued, status.own_position), (2, 2, Some(1)));
    let unready = api.workers.model(&first.request.model).unwrap_err();
    assert_eq!(unready.code, ErrorCode::WorkerUnavailable);
    let _worker = fake::start(&socket, 1, Mood::Draws);
    assert_eq!(api.ended(&second).await.state, JobState::Done);
    assert!(api.queue.status(Scope::Any).await.unwrap().eta_seconds.is_some());
}

/// The files of pictures in a state folder.
fn files(state: &Path) -> usize {
    let shelves = std::fs::read_dir(state.join("images")).unwrap();
    shelves.map(|shelf| std::fs::read_dir(shelf.unwrap().path()).unwrap().count()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn however_many_ask_a_worker_is_looked_at_once() {
    let (_folder, state, socket) = place();
    let worker = fake::start(&socket, 1, Mood::Draws);
    let api = api(&state, &socket).await;
    let connected = async || api.workers.reports().await[0].connected;
    api.until("the worker is connected", connected).await;
    let before = (worker.worker.calls().1, std::time::Instant::now());
    let asked = futures::future::join_all((0..500).map(|_| api.workers.reports())).await;
    assert!(asked.iter().all(|reports| reports[0].health.is_ok()));
    let seconds = before.1.elapsed().as_secs() as usize;
    let looks = worker.worker.calls().1 - before.0;
    assert!(looks <= 2 + seconds, "{looks} looks in {seconds} s");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_job_leaves_no_file_behind() {
    let (_folder, state, socket) = place();
    let _worker = fake::start(&socket, 1, Mood::Lingers);
    let api = api(&state, &socket).await;
    let job = api.submit(new_job(1, 5)).await;
    api.until("the picture is stored", async || files(&state) == 1).await;
    api.queue.cancel(Scope::Any, job.id).await.unwrap();
    api.until("the picture is gone", async || files(&state) == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_worker_leaves_no_file_behind() {
    let (_folder, state, socket) = place();
    let worker = fake::start(&socket, 1, Mood::Lingers);
    let api = api(&state, &socket).await;
    let job = api.submit(new_job(1, 5)).await;
    api.until("the picture is stored", async || files(&state) == 1).await;
    worker.die().await;
    let _worker = fake::start(&socket, 2, Mood::Draws);
    assert_eq!(api.ended(&job).await.attempt.0, 2);
    api.until("only the result is left", async || files(&state) == 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_sends_other_pictures_gets_nothing_recorded() {
    for lie in [Lie::OneMore, Lie::Twice, Lie::Size, Lie::Seed] {
        let (_folder, state, socket) = place();
        let _worker = fake::start(&socket, 1, Mood::Lies(lie));
        let api = api(&state, &socket).await;
        let mut new = new_job(1, 5);
        new.request.num_images = ImageCount::try_from(2).unwrap();
        new.request.seed = 40.try_into().unwrap();
        let job = api.submit(new).await;
        let ended = api.ended(&job).await;
        assert_eq!((ended.state, ended.attempt.0), (JobState::Failed, 3), "{lie:?}");
        assert_eq!(ended.fault.unwrap().code, ErrorCode::GenerationFailed);
        api.until("its pictures are gone", async || files(&state) == 0).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_answers_at_once_with_nothing_does_not_keep_us_busy() {
    let (_folder, state, socket) = place();
    let worker = fake::start(&socket, 1, Mood::Babbles);
    let _api = api(&state, &socket).await;
    while worker.worker.polls().len() < 10 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // Ten polls with nine pauses of 20 ms between them.
    let polls = worker.worker.polls();
    assert!(polls[9] - polls[0] >= Duration::from_millis(170), "{polls:?}");
}
