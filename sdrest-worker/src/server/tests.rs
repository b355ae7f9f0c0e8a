//! The worker's verbs from outside: a real client on a real socket, with the engine that draws plainly.

use super::*;
use crate::engine::{
    backend::{Engine, EngineError, Progress},
    board::Limits,
    fake::{self, FakeEngine},
    thread::{self, EngineFailure},
};
use sdrest_proto::{
    event::{JobEvent, WorkerEvent},
    generation::GenerationRequest,
    id::{Attempt, RequestId},
    sampling::{SchedulerKind, SigmaSchedule},
    worker::{WorkerClient, WorkerProfile},
};
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixListener,
};

struct Stack {
    _folder: TempDir,
    socket: PathBuf,
    client: WorkerClient,
    board: Arc<Board>,
    engine_end: oneshot::Receiver<Result<(), EngineFailure>>,
}

fn own_uid() -> u32 {
    nix::unistd::geteuid().as_raw()
}

async fn connect(socket: &Path) -> io::Result<WorkerClient> {
    let transport = transport::connect(socket, &TrustedUids::new([own_uid()]), WORKER).await?;
    Ok(WorkerClient::new(tarpc::client::Config::default(), transport).spawn())
}

fn listen(socket: &Path, board: &Arc<Board>, trusted: TrustedUids) {
    let profile = WorkerProfile {
        device: "fake".to_owned(),
        dtype: "float32".to_owned(),
        cpu_capability: "NONE".to_owned(),
        threads: 1,
        kernel_path: "aten".to_owned(),
        torch_version: "0".to_owned(),
    };
    let description = WorkerDescription {
        incarnation: board.incarnation(),
        profile,
        capacity: board.capacity() as u32,
        cpu_capability_inside: "NONE".to_owned(),
    };
    let listener = UnixListener::from_std(transport::listen(socket).unwrap()).unwrap();
    let served = Served { board: Arc::clone(board), description, trusted };
    tokio::spawn(async move {
        let sandboxed =
            Sandboxed::turned_off("a test of the server in the test's own process").unwrap();
        serve(&sandboxed, listener, served).await
    });
}

async fn start<E: Engine>(limits: Limits, engine: impl FnOnce() -> E + Send + 'static) -> Stack {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("0.sock");
    let board = Arc::new(Board::new(limits));
    let engine_end = thread::spawn(Arc::clone(&board), None, move || Ok(engine())).unwrap();
    listen(&socket, &board, TrustedUids::new([own_uid()]));
    let client = connect(&socket).await.unwrap();
    Stack { _folder: folder, socket, client, board, engine_end }
}

async fn start_fake(step_ms: u64) -> Stack {
    start(Limits::default(), move || FakeEngine::new(Duration::from_millis(step_ms))).await
}

fn context() -> Context {
    transport::deadline(Duration::from_secs(60))
}

fn job(steps: u64, images: u64) -> SubmitJob {
    SubmitJob {
        job: JobId::random(),
        attempt: Attempt(1),
        share: 1,
        request_id: RequestId::random(),
        request: GenerationRequest {
            model: fake::MODEL.to_owned().try_into().unwrap(),
            prompt: "a red circle".to_owned().try_into().unwrap(),
            negative_prompt: String::new().try_into().unwrap(),
            width: 64.try_into().unwrap(),
            height: 72.try_into().unwrap(),
            num_inference_steps: steps.try_into().unwrap(),
            guidance_scale: 7.5.try_into().unwrap(),
            scheduler: SchedulerKind::EulerDiscrete,
            sigma_schedule: SigmaSchedule::Default,
            seed: 42.try_into().unwrap(),
            num_images: images.try_into().unwrap(),
            clip_skip: None,
        },
    }
}

/// Reads and acknowledges until an event fulfils `enough`.
async fn read_until(
    client: &WorkerClient,
    enough: impl Fn(&WorkerEvent) -> bool,
) -> Vec<WorkerEvent> {
    let (mut seen, mut after) = (Vec::<WorkerEvent>::new(), 0);
    loop {
        let page = client.next_events(context(), after, 20_000).await.unwrap();
        assert!(!page.events.is_empty(), "nothing came any more after {seen:?}");
        let pictures = page
            .events
            .iter()
            .filter(|event| matches!(event.event, JobEvent::Image { .. }))
            .count();
        assert!(pictures <= 1, "{pictures} pictures in one answer");
        for event in page.events {
            assert!(event.sequence > after, "out of order");
            after = event.sequence;
            seen.push(event);
        }
        if seen.iter().any(&enough) {
            return seen;
        }
    }
}

fn is_end_of(job: JobId) -> impl Fn(&WorkerEvent) -> bool {
    move |event| event.job == job && event.event.is_last()
}

#[tokio::test]
async fn a_job_becomes_pictures() {
    let stack = start_fake(1).await;
    let submitted = job(3, 2);
    stack.client.submit(context(), submitted.clone()).await.unwrap().unwrap();
    let events = read_until(&stack.client, is_end_of(submitted.job)).await;
    assert_eq!(events.first().map(|event| &event.event), Some(&JobEvent::Started));
    let seeds: Vec<u64> = events
        .iter()
        .filter_map(|event| match &event.event {
            JobEvent::Image { seed, image, .. } => {
                assert_eq!((image.width(), image.height()), (64, 72));
                Some(u64::from(*seed))
            }
            _ => None,
        })
        .collect();
    assert_eq!(seeds, [42, 43]);
    assert!(events.iter().any(|event| event.event == JobEvent::Step { step: 3, steps: 3 }));
    assert!(matches!(events.last().map(|event| &event.event), Some(JobEvent::Done { .. })));
    let health = stack.client.health(context()).await.unwrap();
    let figure = |name: &str| {
        health.figures.iter().find(|(figure, _)| figure == name).map(|(_, value)| *value)
    };
    assert_eq!(
        (figure("steps_done"), figure("images_done"), figure("waiting_jobs")),
        (Some(3), Some(2), Some(0))
    );
    assert_eq!(health.serving, Serving::Serving);
}

#[tokio::test]
async fn attempts_fence() {
    let stack = start_fake(20).await;
    let mut submitted = job(150, 8);
    submitted.attempt = Attempt(2);
    let id = submitted.job;
    for _ in 0..2 {
        stack.client.submit(context(), submitted.clone()).await.unwrap().unwrap();
    }
    read_until(&stack.client, |event| matches!(event.event, JobEvent::Step { .. })).await;
    submitted.attempt = Attempt(1);
    let refused = stack.client.submit(context(), submitted.clone()).await.unwrap().unwrap_err();
    assert_eq!(refused.code, ErrorCode::Conflict);
    submitted.attempt = Attempt(3);
    submitted.request.num_inference_steps = 2.try_into().unwrap();
    stack.client.submit(context(), submitted.clone()).await.unwrap().unwrap();
    let events =
        read_until(&stack.client, |event| is_end_of(id)(event) && event.attempt == Attempt(3))
            .await;
    let of_the_older: Vec<_> = events.iter().filter(|event| event.attempt == Attempt(2)).collect();
    assert_eq!(
        of_the_older.iter().map(|event| &event.event).collect::<Vec<_>>(),
        [&JobEvent::Interrupted]
    );
    assert!(events.iter().any(|event| matches!(event.event, JobEvent::Done { .. })));
    // The attempt that is over starts nothing new.
    let last = events.last().unwrap().sequence;
    stack.client.submit(context(), submitted).await.unwrap().unwrap();
    assert!(stack.client.next_events(context(), last, 100).await.unwrap().events.is_empty());
}

#[tokio::test]
async fn an_interrupt_ends_a_job_and_frees_its_slot() {
    let stack = start_fake(20).await;
    let (long, short) = (job(150, 8), job(1, 1));
    stack.client.submit(context(), long.clone()).await.unwrap().unwrap();
    read_until(&stack.client, |event| matches!(event.event, JobEvent::Step { .. })).await;
    assert!(stack.client.interrupt(context(), long.job).await.unwrap());
    assert!(!stack.client.interrupt(context(), long.job).await.unwrap());
    assert!(!stack.client.interrupt(context(), JobId::random()).await.unwrap());
    let events = read_until(&stack.client, is_end_of(long.job)).await;
    assert_eq!(events.last().map(|event| &event.event), Some(&JobEvent::Interrupted));
    stack.client.submit(context(), short.clone()).await.unwrap().unwrap();
    let events = read_until(&stack.client, is_end_of(short.job)).await;
    assert!(
        events.iter().all(|event| event.job == short.job || event.event == JobEvent::Interrupted)
    );
}

#[tokio::test]
async fn a_short_job_of_another_share_overtakes_a_long_one() {
    let stack = start_fake(20).await;
    let (long, mut short) = (job(150, 8), job(4, 1));
    short.share = 2;
    stack.client.submit(context(), long.clone()).await.unwrap().unwrap();
    read_until(&stack.client, |event| event.event == JobEvent::Started).await;
    stack.client.submit(context(), short.clone()).await.unwrap().unwrap();
    let events = read_until(&stack.client, is_end_of(short.job)).await;
    assert!(!events.iter().any(is_end_of(long.job)));
}

#[tokio::test]
async fn a_full_worker_says_when_to_come_again() {
    let limits = Limits { active: 1, waiting: 2, ..Limits::default() };
    let stack = start(limits, || FakeEngine::new(Duration::from_millis(20))).await;
    let running = job(150, 8);
    stack.client.submit(context(), running.clone()).await.unwrap().unwrap();
    read_until(&stack.client, |event| event.event == JobEvent::Started).await;
    for _ in 0..2 {
        stack.client.submit(context(), job(1, 1)).await.unwrap().unwrap();
    }
    let refused = stack.client.submit(context(), job(1, 1)).await.unwrap().unwrap_err();
    assert_eq!(refused.code, ErrorCode::WorkerUnavailable);
    assert!(refused.retry_after.is_some());
    // A newer attempt of one that is there needs no place.
    let again = SubmitJob { attempt: Attempt(2), ..running };
    assert_eq!(
        stack.client.submit(context(), again).await.unwrap().unwrap_err().code,
        ErrorCode::WorkerUnavailable
    );
}

#[tokio::test]
async fn one_job_fails_and_the_next_is_drawn() {
    let stack = start_fake(1).await;
    let mut wrong = job(1, 1);
    wrong.request.model = "nowhere".to_owned().try_into().unwrap();
    stack.client.submit(context(), wrong.clone()).await.unwrap().unwrap();
    let events = read_until(&stack.client, is_end_of(wrong.job)).await;
    let Some(JobEvent::Failed(fault)) = events.last().map(|event| &event.event) else {
        panic!("{events:?}")
    };
    assert_eq!(fault.code, ErrorCode::ModelNotFound);
    let right = job(1, 1);
    stack.client.submit(context(), right.clone()).await.unwrap().unwrap();
    read_until(&stack.client, is_end_of(right.job)).await;
    let not_there = stack.client.load(context(), wrong.request.model).await.unwrap().unwrap_err();
    assert_eq!(not_there.code, ErrorCode::ModelNotFound);
    assert!(stack.client.load(context(), right.request.model).await.unwrap().unwrap().loaded);
}

#[tokio::test]
async fn unread_pictures_hold_the_engine_and_reading_lets_it_go_on() {
    let limits = Limits { unread_picture_bytes: 64 * 72 * 3, ..Limits::default() };
    let stack = start(limits, || FakeEngine::new(Duration::ZERO)).await;
    let submitted = job(1, 8);
    stack.client.submit(context(), submitted.clone()).await.unwrap().unwrap();
    let events = read_until(&stack.client, is_end_of(submitted.job)).await;
    let pictures =
        events.iter().filter(|event| matches!(event.event, JobEvent::Image { .. })).count();
    assert_eq!(pictures, 8);
}

#[tokio::test]
async fn a_hostile_frame_ends_its_own_connection_only() {
    let stack = start_fake(1).await;
    for hostile in
        [&[0xff; 64][..], &[0, 0, 0, 9, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]]
    {
        let mut stream = UnixStream::connect(&stack.socket).await.unwrap();
        let mut hello = [0; 64];
        hello[..8].copy_from_slice(b"sdrest\0\0");
        hello[8..12].copy_from_slice(&sdrest_proto::PROTOCOL.to_le_bytes());
        stream.write_all(&hello).await.unwrap();
        stream.read_exact(&mut [0; 64]).await.unwrap();
        stream.write_all(hostile).await.unwrap();
        // Closed, perhaps with our bytes unread.
        assert!(!matches!(stream.read(&mut [0; 1]).await, Ok(1..)));
    }
    assert_eq!(stack.client.health(context()).await.unwrap().serving, Serving::Serving);
}

#[tokio::test]
async fn a_peer_that_is_not_trusted_is_not_heard() {
    let stack = start_fake(1).await;
    let socket = stack.socket.with_file_name("1.sock");
    listen(&socket, &stack.board, TrustedUids::new([own_uid() + 1]));
    assert!(connect(&socket).await.is_err());
}

/// Something happens to it, as to one on a broken device or of a model that does not fit into memory.
struct Breaking {
    engine: FakeEngine,
    ticks: u32,
    accident: Accident,
}

enum Accident {
    /// Its second tick panics, as tch's operators do.
    SecondTick,
    /// It comes to no end while it makes a slot, and panics when it is told to.
    Admission(std::sync::mpsc::Receiver<()>),
}

fn breaking(accident: Accident) -> Breaking {
    Breaking { engine: FakeEngine::new(Duration::ZERO), ticks: 0, accident }
}

impl Engine for Breaking {
    type Slot = <FakeEngine as Engine>::Slot;

    fn models(&mut self) -> Vec<ModelInfo> {
        self.engine.models()
    }

    fn has_room(&self, name: &ModelName) -> bool {
        self.engine.has_room(name)
    }

    fn refresh(&mut self) -> Result<(), EngineError> {
        self.engine.refresh()
    }

    fn load(&mut self, name: &ModelName) -> Result<(), EngineError> {
        self.engine.load(name)
    }

    fn unload(&mut self, name: &ModelName) -> Result<(), EngineError> {
        self.engine.unload(name)
    }

    fn admit(&mut self, request: &GenerationRequest) -> Result<Self::Slot, EngineError> {
        if let Accident::Admission(go) = &self.accident {
            let told = go.recv();
            panic!("made to break: {told:?}");
        }
        self.engine.admit(request)
    }

    fn tick(&mut self, slot: &mut Self::Slot) -> Result<Progress, EngineError> {
        self.ticks += 1;
        assert!(self.ticks < 2, "made to break");
        self.engine.tick(slot)
    }
}

#[tokio::test]
async fn a_broken_engine_ends_and_nobody_hangs() {
    let stack = start(Limits::default(), || breaking(Accident::SecondTick)).await;
    let submitted = job(9, 1);
    stack.client.submit(context(), submitted.clone()).await.unwrap().unwrap();
    let failure = stack.engine_end.await.unwrap().unwrap_err();
    assert!(failure.to_string().contains("made to break"), "{failure}");
    assert_eq!(stack.board.ticking(), Some(submitted.job));
    let refused = stack.client.submit(context(), job(1, 1)).await.unwrap().unwrap_err();
    assert_eq!(refused.code, ErrorCode::WorkerUnavailable);
    let model = submitted.request.model;
    let refused = stack.client.load(context(), model).await.unwrap().unwrap_err();
    assert_eq!(refused.code, ErrorCode::WorkerUnavailable);
}

/// Whoever reads must know of it before the process dies over it.
#[tokio::test]
async fn a_job_has_begun_before_anything_is_done_for_it() {
    let (go, goes) = std::sync::mpsc::channel();
    let stack = start(Limits::default(), || breaking(Accident::Admission(goes))).await;
    let submitted = job(9, 1);
    stack.client.submit(context(), submitted.clone()).await.unwrap().unwrap();
    let events = stack.client.next_events(context(), 0, 20_000).await.unwrap().events;
    let told: Vec<_> = events.iter().map(|event| (event.job, &event.event)).collect();
    assert_eq!(told, [(submitted.job, &JobEvent::Started)]);
    go.send(()).unwrap();
    let failure = stack.engine_end.await.unwrap().unwrap_err();
    assert!(failure.to_string().contains("made to break"), "{failure}");
    assert_eq!(stack.board.ticking(), Some(submitted.job));
}
