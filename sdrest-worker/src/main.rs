//! `sdrest-worker`: one process that draws pictures. It reads as its security argument, from top to bottom:
//! what it is told; what it computes on; the first kernels, which need /proc and a driver; the folders and
//! sockets that it keeps; the sandbox; and only then the first byte from a peer. It parses no HTTP, knows no
//! user, and has no network.

use anyhow::Context;
use clap::Parser;
use nix::sys::{
    prctl,
    resource::{Resource, setrlimit},
};
use sdrest_proto::{
    transport::TrustedUids,
    worker::{WorkerDescription, WorkerProfile},
};
use sdrest_worker::{
    cli::{Cli, DeviceChoice},
    config::Settings,
    device::{self, ReadyDevice},
    engine::{
        board::{Board, Limits, Question},
        fake::FakeEngine,
        thread::{self, EngineFailure},
        torch::{TorchEngine, TorchParts},
    },
    loaders::{ComputeOptions, Registry},
    ready::{self, Manager},
    sandbox::{self, Devices, Openings, Sandboxed},
    server::{self, Served},
};
use std::{os::unix::net::UnixListener, path::PathBuf, sync::Arc, time::Duration};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};
use tracing::level_filters::LevelFilter;

type EngineEnd = oneshot::Receiver<Result<(), EngineFailure>>;

fn main() -> anyhow::Result<()> {
    device::wait_asleep().context("cannot start over with OMP_WAIT_POLICY")?;
    torch_shim::keep_freed_memory();

    // What was asked for. Nothing of this process may be dumped or traced: prompts and pictures are in it.
    let cli = Cli::parse();
    prctl::set_dumpable(false).context("cannot forbid dumps")?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0).context("cannot forbid core files")?;
    let settings = Settings::decide(cli)?;
    start_log(settings.log_level);

    // The device: threads, CUDA's half of libtorch, first kernels, ATen's choice of kernels.
    let device = device::prepare(settings.device, settings.threads)?;

    // What stays open: models to read, the socket to listen on, the line to the service manager.
    let models_dirs = canonical(&settings.models_dirs)?;
    let registries = open_models(&models_dirs, &settings)?;
    let listener = ready::listener(&settings.socket)?;
    let manager = Manager::connect().context("cannot reach NOTIFY_SOCKET")?;

    // No way back from here.
    let sandboxed = match &settings.no_sandbox {
        Some(reason) => Sandboxed::turned_off(reason)?,
        None => sandbox::close(&openings(models_dirs, settings.device))?,
    };

    // The engine thread is born inside; it will own every tensor.
    let board = Arc::new(Board::new(Limits::default()));
    let description = describe(&board, &settings, &device);
    tracing::info!(profile = description.profile.line(), sandbox = ?sandboxed.report(), "ready to serve");
    let engine_end = start_engine(&board, &settings, &device, registries)?;

    // The first byte from a peer is read below.
    let trusted = TrustedUids::new([0, settings.api_uid]);
    let served = Served { board: Arc::clone(&board), description, trusted };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(run(&sandboxed, listener, served, &manager, engine_end));
    runtime.shutdown_timeout(Duration::from_secs(1));
    outcome
}

fn start_log(level: LevelFilter) {
    // tarpc says at INFO what every call was.
    let filter = tracing_subscriber::EnvFilter::new(format!("{level},tarpc=warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
}

fn canonical(folders: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let named = |folder: &PathBuf| {
        folder.canonicalize().with_context(|| format!("models folder {}", folder.display()))
    };
    folders.iter().map(named).collect()
}

fn open_models(folders: &[PathBuf], settings: &Settings) -> anyhow::Result<Vec<Registry>> {
    if settings.fake_engine.is_some() {
        return Ok(Vec::new());
    }
    let open =
        |folder: &PathBuf| Registry::hold(folder).with_context(|| folder.display().to_string());
    folders.iter().map(open).collect()
}

fn openings(models: Vec<PathBuf>, device: DeviceChoice) -> Openings {
    let devices = match device {
        DeviceChoice::Cpu => Devices::None,
        DeviceChoice::Cuda(_) => Devices::Cuda,
    };
    Openings { models, devices }
}

fn describe(board: &Board, settings: &Settings, device: &ReadyDevice) -> WorkerDescription {
    let fake = settings.fake_engine.map(|_| "fake".to_owned());
    WorkerDescription {
        incarnation: board.incarnation(),
        profile: WorkerProfile {
            device: fake.unwrap_or_else(|| settings.device.to_string()),
            dtype: device.dtype().to_owned(),
            cpu_capability: device.cpu_capability.clone(),
            threads: device.threads.into(),
            kernel_path: "aten".to_owned(),
            torch_version: torch_shim::torch_version(),
        },
        capacity: u32::try_from(board.capacity()).unwrap_or(u32::MAX),
        cpu_capability_inside: torch_shim::cpu_capability(),
    }
}

fn start_engine(
    board: &Arc<Board>,
    settings: &Settings,
    device: &ReadyDevice,
    registries: Vec<Registry>,
) -> std::io::Result<EngineEnd> {
    let preload = settings.preload.clone();
    if let Some(milliseconds) = settings.fake_engine {
        tracing::warn!(
            "FAKE ENGINE: the pictures are plain drawings that show no prompt; for tests only"
        );
        let step = Duration::from_millis(milliseconds);
        return thread::spawn(Arc::clone(board), preload, move || Ok(FakeEngine::new(step)));
    }
    let asked = Arc::clone(board);
    let parts = TorchParts {
        registries,
        options: ComputeOptions { kind: device.kind, device: device.device },
        max_models: settings.max_models.into(),
        news: Box::new(move || asked.ask(Question::Look)),
    };
    let threads = settings.threads;
    thread::spawn(Arc::clone(board), preload, move || {
        device::set_threads(threads);
        Ok(TorchEngine::new(parts))
    })
}

/// Serves until the engine ends or a signal comes; then the step that runs is waited for, and no more.
async fn run(
    sandboxed: &Sandboxed,
    listener: UnixListener,
    served: Served,
    manager: &Manager,
    mut engine_end: EngineEnd,
) -> anyhow::Result<()> {
    let listener = tokio::net::UnixListener::from_std(listener)?;
    let board = Arc::clone(&served.board);
    let (mut terminate, mut interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    manager.tell("READY=1");
    tokio::select! {
        broken = server::serve(sandboxed, listener, served) => broken.context("the listening socket broke")?,
        ended = &mut engine_end => {
            let failure = ended.map_err(|_| anyhow::anyhow!("the engine thread vanished"))?;
            return failure.context("the worker ends, to be started again; its jobs will be tried again");
        }
        _ = terminate.recv() => tracing::info!("asked to stop"),
        _ = interrupt.recv() => tracing::info!("interrupted"),
    }
    manager.tell("STOPPING=1");
    board.stop();
    let outcome = engine_end.await.map_err(|_| anyhow::anyhow!("the engine thread vanished"))?;
    outcome.context("the engine failed while it stopped")
}
