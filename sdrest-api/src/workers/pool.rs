//! All workers as routes see them: what they can draw, how they are, and the verbs that operators have.

use crate::{
    images::{BlobStore, attempt_of, sweep::sweep_orphans},
    jobs::WorkQueue,
    workers::{
        board::Board,
        dispatcher::{Dispatcher, Room},
        reports::{HEALTH, Reports, WorkerReport, no_worker, unreachable_worker},
        settings::WorkerSettings,
    },
};
use sdrest_proto::{
    bounds::ModelName,
    error::{ErrorCode, Fault},
    model::ModelInfo,
    transport::deadline,
    worker::WorkerClient,
};
use std::{path::Path, sync::Arc, time::Duration};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// How long the models folder may take to read.
const LIST: Duration = Duration::from_secs(60);
/// How long a model may take to load.
const LOAD: Duration = Duration::from_secs(10 * 60);

/// The workers. Clones share them.
#[derive(Clone)]
pub struct Workers {
    board: Arc<Board>,
    reports: Reports,
    tasks: TaskTracker,
}

impl Workers {
    /// Connects to all workers and begins to hand out jobs; removes what earlier runs left half done. Must be
    /// called inside the runtime. Stops when `stop` is cancelled: running jobs stay in the store as running
    /// and wait again after the next start.
    pub fn start(
        settings: WorkerSettings,
        queue: WorkQueue,
        blobs: BlobStore,
        stop: CancellationToken,
    ) -> Self {
        let names = settings.sockets.iter().map(|socket| worker_name(socket)).collect();
        let board = Arc::new(Board::new(names));
        let tasks = TaskTracker::new();
        let (swept, stopped) = (sweep(queue.clone(), blobs.clone()), stop.clone());
        tasks.spawn(async move {
            tokio::select! {
                () = swept => {}
                () = stopped.cancelled() => {}
            }
        });
        for (worker, socket) in settings.sockets.iter().cloned().enumerate() {
            let (board, tasks) = (Arc::clone(&board), tasks.clone());
            let (settings, stop) = (settings.clone(), stop.clone());
            let room = Room { worker, socket, settings, board, tasks: tasks.clone(), stop };
            tasks.spawn(Dispatcher::new(room, queue.clone(), blobs.clone()).run());
        }
        tasks.close();
        Self { board, reports: Reports::default(), tasks }
    }

    /// Returns once everything has stopped, after `stop` was cancelled.
    pub async fn stopped(&self) {
        self.tasks.wait().await;
    }

    /// The models of all workers, by name.
    pub fn models(&self) -> Vec<ModelInfo> {
        self.board.models()
    }

    /// A model that can be used, or why not: MODEL_NOT_FOUND names those that exist, MODEL_CORRUPT says what
    /// is wrong with it, WORKER_UNAVAILABLE that the models are not known yet.
    pub fn model(&self, name: &ModelName) -> Result<ModelInfo, Fault> {
        let models = self.models();
        match models.iter().find(|model| model.name == *name) {
            Some(ModelInfo { fault: Some(fault), .. }) => {
                Err(Fault::new(ErrorCode::ModelCorrupt, fault.clone()))
            }
            Some(model) => Ok(model.clone()),
            None if self.board.has_unknown() => Err(no_worker()),
            None => {
                let names: Vec<&str> = models.iter().map(|model| model.name.as_str()).collect();
                let message = format!(
                    "there is no model {:?}; there are: {}",
                    name.as_str(),
                    names.join(", ")
                );
                Err(Fault::new(ErrorCode::ModelNotFound, message))
            }
        }
    }

    /// The model that is used where none is named: a loaded one if there is one, else the first that works.
    pub fn default_model(&self) -> Result<ModelInfo, Fault> {
        let models = self.models();
        let usable = || models.iter().filter(|model| model.fault.is_none());
        match usable().find(|model| model.loaded).or_else(|| usable().next()) {
            Some(model) => Ok(model.clone()),
            None if self.board.has_unknown() => Err(no_worker()),
            None => {
                Err(Fault::new(ErrorCode::ModelNotFound, "no worker has a model that it can use"))
            }
        }
    }

    /// How every worker is, or was within the last second: anybody may ask.
    pub async fn reports(&self) -> Vec<WorkerReport> {
        self.reports.get(&self.board).await
    }

    /// Lets every worker look at its models again.
    pub async fn refresh_models(&self) -> Result<Vec<ModelInfo>, Fault> {
        for (worker, client) in self.live()? {
            let models = client
                .refresh_models(deadline(LIST))
                .await
                .map_err(|error| unreachable_worker(&error))?;
            self.board.set_models(worker, models);
        }
        Ok(self.models())
    }

    /// Brings a model into memory on every worker that has it.
    pub async fn load(&self, name: &ModelName) -> Result<ModelInfo, Fault> {
        self.model(name)?;
        for (worker, client) in self.live_with(name)? {
            client
                .load(deadline(LOAD), name.clone())
                .await
                .map_err(|error| unreachable_worker(&error))??;
            self.relist(worker, &client).await?;
        }
        self.model(name)
    }

    /// Drops a model from memory on every worker that has it.
    pub async fn unload(&self, name: &ModelName) -> Result<ModelInfo, Fault> {
        self.model(name)?;
        for (worker, client) in self.live_with(name)? {
            client
                .unload(deadline(LIST), name.clone())
                .await
                .map_err(|error| unreachable_worker(&error))??;
            self.relist(worker, &client).await?;
        }
        self.model(name)
    }

    async fn relist(&self, worker: usize, client: &WorkerClient) -> Result<(), Fault> {
        let models = client
            .list_models(deadline(HEALTH))
            .await
            .map_err(|error| unreachable_worker(&error))?;
        self.board.set_models(worker, models);
        Ok(())
    }

    fn live(&self) -> Result<Vec<(usize, WorkerClient)>, Fault> {
        let live = self.board.clients();
        if live.is_empty() { Err(no_worker()) } else { Ok(live) }
    }

    fn live_with(&self, name: &ModelName) -> Result<Vec<(usize, WorkerClient)>, Fault> {
        let mut live = self.live()?;
        live.retain(|(worker, _)| self.board.model_of(*worker, name).is_some());
        if live.is_empty() { Err(no_worker()) } else { Ok(live) }
    }
}

fn worker_name(socket: &Path) -> String {
    socket
        .file_stem()
        .map_or_else(|| "worker".to_owned(), |stem| stem.to_string_lossy().into_owned())
}

pub(super) async fn sweep(queue: WorkQueue, blobs: BlobStore) {
    let orphan = |key: String| {
        let queue = queue.clone();
        async move {
            let attempt = attempt_of(&key)?;
            queue.is_orphan(key, attempt).await.ok()
        }
    };
    match sweep_orphans(&blobs, orphan).await {
        Ok(0) => {}
        Ok(removed) => tracing::info!(removed, "pictures of unfinished attempts were removed"),
        Err(error) => tracing::warn!(%error, "the sweep of unfinished pictures stopped early"),
    }
}
