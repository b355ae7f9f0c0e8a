//! A worker for tests of this room: the real service over a real socket, with a made-up picture. It
//! can die: then every connection breaks at once.

use futures::StreamExt;
use sdrest_proto::{
    BUILD,
    bounds::{ModelName, Seed},
    error::{ErrorCode, Fault},
    event::{JobEvent, WorkerEvent},
    health::{Health, SandboxReport, Serving},
    id::{Attempt, JobId},
    image::Rgb8Image,
    model::ModelInfo,
    transport::{self, TrustedUids, WORKER},
    worker::{EventPage, SubmitJob, Worker, WorkerDescription, WorkerProfile},
};
use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tarpc::{
    context::Context,
    server::{BaseChannel, Channel},
};
use tokio::{net::UnixListener, sync::watch, task::JoinSet, time::timeout};

/// What the jobs of this worker do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mood {
    /// They are drawn.
    Draws,
    /// They start and never end.
    Hangs,
    /// Their pictures are sent, and then they never end.
    Lingers,
    /// They are drawn, but something about the pictures is not what was asked for.
    Lies(Lie),
    /// It answers every poll at once, with nothing.
    Babbles,
    /// They begin, and no step is ever done.
    Loads,
    /// They are taken, and nothing more is heard of them.
    Silent,
    /// They are given back as soon as they come.
    GivesBack(Return),
    /// It hangs up as soon as it has introduced itself.
    HangsUp,
}

/// With which word a job is given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Return {
    Interrupted,
    Unavailable,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lie {
    OneMore,
    Twice,
    Size,
    Seed,
}

#[derive(Default)]
struct State {
    events: Vec<WorkerEvent>,
    sequence: u64,
    attempts: HashMap<JobId, Attempt>,
    most_at_once: usize,
    /// When its events were asked for.
    polls: Vec<Instant>,
    /// The newest event that was acknowledged.
    heard: u64,
    health_calls: usize,
    connections: usize,
    submits: usize,
}

#[derive(Clone)]
pub(super) struct FakeWorker {
    incarnation: u64,
    mood: Mood,
    /// The only model that it has.
    model: &'static str,
    state: Arc<Mutex<State>>,
    news: watch::Sender<u64>,
}

/// A running fake.
pub(super) struct Running {
    pub(super) worker: FakeWorker,
    tasks: JoinSet<()>,
}

impl Running {
    /// The worker's death: nobody listens any more and every connection breaks.
    pub(super) async fn die(mut self) {
        self.tasks.shutdown().await;
    }
}

/// The picture of a seed.
fn sized_picture(side: u32, seed: u64) -> Rgb8Image {
    let data = (0..side * side * 3).map(|i| (u64::from(i) * 7 + seed) as u8).collect();
    Rgb8Image::new(side, side, data).unwrap()
}

pub(super) fn start(socket: &Path, incarnation: u64, mood: Mood) -> Running {
    start_with(socket, incarnation, mood, "demo")
}

pub(super) fn start_with(
    socket: &Path,
    incarnation: u64,
    mood: Mood,
    model: &'static str,
) -> Running {
    let listener = UnixListener::from_std(transport::listen(socket).unwrap()).unwrap();
    let news = watch::Sender::new(0);
    let worker = FakeWorker { incarnation, mood, model, state: Arc::default(), news };
    let mut tasks = JoinSet::new();
    let served = worker.clone();
    tasks.spawn(async move {
        let mut connections = JoinSet::new();
        let trusted = TrustedUids::new([std::os::unix::fs::MetadataExt::uid(
            &std::fs::metadata("/proc/self").unwrap(),
        )]);
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (worker, trusted) = (served.clone(), trusted.clone());
            worker.state.lock().unwrap().connections += 1;
            // `describe` and `list_models` are its introduction.
            let calls_served = if worker.mood == Mood::HangsUp { 2 } else { usize::MAX };
            connections.spawn(async move {
                let (_, transport) = transport::accept(stream, &trusted, WORKER).await.unwrap();
                let mut calls = JoinSet::new();
                let mut requests =
                    Box::pin(BaseChannel::with_defaults(transport).execute(worker.serve()));
                while let Some(call) = requests.next().await {
                    if calls.len() >= calls_served {
                        return;
                    }
                    calls.spawn(call);
                }
            });
        }
    });
    Running { worker, tasks }
}

impl FakeWorker {
    fn emit(&self, job: JobId, attempt: Attempt, event: JobEvent) {
        let mut state = self.state.lock().unwrap();
        state.sequence += 1;
        let sequence = state.sequence;
        if event.is_last() && state.attempts.get(&job) == Some(&attempt) {
            state.attempts.remove(&job);
        }
        state.events.push(WorkerEvent { sequence, job, attempt, event });
        drop(state);
        self.news.send_replace(sequence);
    }

    fn works_on(&self, job: JobId, attempt: Attempt) -> bool {
        self.state.lock().unwrap().attempts.get(&job) == Some(&attempt)
    }

    /// The jobs that it has now.
    pub(super) fn jobs(&self) -> usize {
        self.state.lock().unwrap().attempts.len()
    }

    /// How often its events and its health were asked for.
    pub(super) fn calls(&self) -> (usize, usize) {
        let state = self.state.lock().unwrap();
        (state.polls.len(), state.health_calls)
    }

    /// When its events were asked for.
    pub(super) fn polls(&self) -> Vec<Instant> {
        self.state.lock().unwrap().polls.clone()
    }

    /// Whether it has told something, and all of that was taken in.
    pub(super) fn is_heard(&self) -> bool {
        let state = self.state.lock().unwrap();
        state.sequence > 0 && state.heard == state.sequence
    }

    /// How often it was connected to, and how often it was given a job.
    pub(super) fn meetings(&self) -> (usize, usize) {
        let state = self.state.lock().unwrap();
        (state.connections, state.submits)
    }

    /// The most jobs that it had at a time.
    pub(super) fn most_at_once(&self) -> usize {
        self.state.lock().unwrap().most_at_once
    }

    async fn draw(self, submit: SubmitJob) {
        let (job, attempt, request) = (submit.job, submit.attempt, submit.request);
        match self.mood {
            Mood::Silent => return,
            Mood::GivesBack(Return::Interrupted) => {
                return self.emit(job, attempt, JobEvent::Interrupted);
            }
            Mood::GivesBack(Return::Unavailable) => {
                let fault = Fault::new(ErrorCode::WorkerUnavailable, "not now");
                return self.emit(job, attempt, JobEvent::Failed(fault));
            }
            _ => self.emit(job, attempt, JobEvent::Started),
        }
        if self.mood == Mood::Loads {
            return;
        }
        let steps = request.num_inference_steps.get();
        for step in 1..=steps {
            tokio::time::sleep(Duration::from_millis(2)).await;
            if !self.works_on(job, attempt) {
                return;
            }
            self.emit(job, attempt, JobEvent::Step { step, steps });
            // It goes on telling of itself, as a job does that takes very long.
            while self.mood == Mood::Hangs && self.works_on(job, attempt) {
                tokio::time::sleep(Duration::from_millis(20)).await;
                self.emit(job, attempt, JobEvent::Step { step, steps });
            }
        }
        let count = request.num_images.get();
        let more = u32::from(self.mood == Mood::Lies(Lie::OneMore));
        for mut index in 0..count + more {
            if self.mood == Mood::Lies(Lie::Twice) {
                index = 0;
            }
            let skew = u64::from(self.mood == Mood::Lies(Lie::Seed));
            let seed = Seed::try_from(request.seed.get() + u64::from(index) + skew).unwrap();
            let side = if self.mood == Mood::Lies(Lie::Size) { 72 } else { 64 };
            let image = sized_picture(side, seed.get());
            self.emit(job, attempt, JobEvent::Image { index, seed, image });
        }
        while self.mood == Mood::Lingers && self.works_on(job, attempt) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.emit(job, attempt, JobEvent::Done { engine_micros: 1000 });
    }
}

impl Worker for FakeWorker {
    async fn describe(self, _: Context) -> WorkerDescription {
        WorkerDescription {
            incarnation: self.incarnation,
            profile: WorkerProfile {
                device: "cpu".to_owned(),
                dtype: "float32".to_owned(),
                cpu_capability: "AVX2".to_owned(),
                threads: 1,
                kernel_path: "aten".to_owned(),
                torch_version: "2.11.0".to_owned(),
            },
            capacity: 8,
            cpu_capability_inside: "AVX2".to_owned(),
        }
    }

    async fn list_models(self, _: Context) -> Vec<ModelInfo> {
        vec![ModelInfo {
            name: ModelName::try_from(self.model.to_owned()).unwrap(),
            family: "sd-1.x".to_owned(),
            prediction_type: "epsilon".to_owned(),
            default_side: 64,
            vae_scale_factor: 8,
            hash: Some("0123456789".to_owned()),
            loaded: true,
            fault: None,
        }]
    }

    async fn refresh_models(self, context: Context) -> Vec<ModelInfo> {
        self.list_models(context).await
    }

    async fn load(self, context: Context, _: ModelName) -> Result<ModelInfo, Fault> {
        Ok(self.list_models(context).await.remove(0))
    }

    async fn unload(self, _: Context, _: ModelName) -> Result<(), Fault> {
        Ok(())
    }

    async fn submit(self, _: Context, job: SubmitJob) -> Result<(), Fault> {
        let mut state = self.state.lock().unwrap();
        state.submits += 1;
        if job.request.model.as_str() != self.model {
            return Err(Fault::new(ErrorCode::ModelNotFound, "no such model"));
        }
        if state.attempts.insert(job.job, job.attempt) != Some(job.attempt) {
            tokio::spawn(self.clone().draw(job));
        }
        state.most_at_once = state.most_at_once.max(state.attempts.len());
        Ok(())
    }

    async fn next_events(self, _: Context, after: u64, wait_ms: u32) -> EventPage {
        {
            let mut state = self.state.lock().unwrap();
            state.polls.push(Instant::now());
            state.heard = state.heard.max(after);
        }
        if self.mood == Mood::Babbles {
            return EventPage { incarnation: self.incarnation, events: Vec::new() };
        }
        let mut news = self.news.subscribe();
        let wait = Duration::from_millis(wait_ms.into());
        let _ = timeout(wait, news.wait_for(|newest| *newest > after)).await;
        let mut state = self.state.lock().unwrap();
        state.events.retain(|event| event.sequence > after);
        let mut images = 0;
        let page = state.events.iter().take_while(|event| {
            images += u32::from(matches!(event.event, JobEvent::Image { .. }));
            images <= 1
        });
        EventPage { incarnation: self.incarnation, events: page.cloned().collect() }
    }

    async fn interrupt(self, _: Context, job: JobId) -> bool {
        // Each verb is a task of its own, here and in the real worker: one that came later may be done first. If the
        // job is sent again, this one comes after it.
        if matches!(self.mood, Mood::Lies(_)) {
            let submits = self.meetings().1;
            for _ in 0..50 {
                if self.meetings().1 > submits {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
        let attempt = self.state.lock().unwrap().attempts.get(&job).copied();
        if let Some(attempt) = attempt {
            self.emit(job, attempt, JobEvent::Interrupted);
        }
        attempt.is_some()
    }

    async fn health(self, _: Context) -> Health {
        self.state.lock().unwrap().health_calls += 1;
        Health {
            serving: Serving::Serving,
            detail: String::new(),
            build: BUILD.to_owned(),
            pid: std::process::id(),
            uid: 0,
            uptime_seconds: 1,
            sandbox: SandboxReport::default(),
            figures: Vec::new(),
        }
    }
}
