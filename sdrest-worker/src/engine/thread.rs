//! The one OS thread that owns every tensor. It is started after the sandbox is closed, and everything that it
//! starts (libgomp's threads) is inside too. When it ends, for whatever reason, whoever serves is told: a
//! worker without its engine must not go on answering.

use super::{
    backend::{Engine, EngineError},
    board::{Board, Work},
    guard::words,
    slots::Slots,
};
use sdrest_proto::bounds::ModelName;
use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
};
use thiserror::Error;
use tokio::sync::oneshot;

/// Why the engine thread ended before it was told to.
#[derive(Debug, Error)]
pub enum EngineFailure {
    #[error("the engine cannot start: {0}")]
    Start(String),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("the engine thread panicked: {0}")]
    Panic(String),
}

/// The stack of the engine thread: deep networks recurse little, but tokenizers' regular expressions do.
const STACK: usize = 16 << 20;

/// Starts the thread. `build` makes the engine on it. The receiver hears of its end.
pub fn spawn<E, Build>(
    board: Arc<Board>,
    preload: Option<ModelName>,
    build: Build,
) -> io::Result<oneshot::Receiver<Result<(), EngineFailure>>>
where
    E: Engine,
    Build: FnOnce() -> Result<E, String> + Send + 'static,
{
    let (ended, when_ended) = oneshot::channel();
    thread::Builder::new().name("engine".to_owned()).stack_size(STACK).spawn(move || {
        let outcome = catch_unwind(AssertUnwindSafe(|| run(&board, preload, build)))
            .unwrap_or_else(|panic| Err(EngineFailure::Panic(words(panic.as_ref()))));
        if let (Err(failure), Some(job)) = (&outcome, board.ticking()) {
            tracing::error!(%job, %failure, "the engine ended while this job had its turn");
        }
        board.stop();
        // Nobody listens any more when the process is on its way out.
        let _unheard = ended.send(outcome);
    })?;
    Ok(when_ended)
}

fn run<E: Engine>(
    board: &Board,
    preload: Option<ModelName>,
    build: impl FnOnce() -> Result<E, String>,
) -> Result<(), EngineFailure> {
    let mut slots = Slots::new(build().map_err(EngineFailure::Start)?);
    board.set_models(slots.models());
    if let Some(name) = preload {
        slots.preload(board, &name)?;
    }
    while let Work::Go(questions) = board.next_work(!slots.is_idle()) {
        for question in questions {
            slots.answer(board, question)?;
        }
        slots.tick(board)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{backend::Progress, board::Limits, board::Question};
    use sdrest_proto::{generation::GenerationRequest, model::ModelInfo};

    /// Panics when it is asked to look at its models again.
    struct Broken;

    impl Engine for Broken {
        type Slot = ();
        fn models(&mut self) -> Vec<ModelInfo> {
            Vec::new()
        }
        fn has_room(&self, _: &ModelName) -> bool {
            true
        }
        fn refresh(&mut self) -> Result<(), EngineError> {
            panic!("broken")
        }
        fn load(&mut self, _: &ModelName) -> Result<(), EngineError> {
            Ok(())
        }
        fn unload(&mut self, _: &ModelName) -> Result<(), EngineError> {
            Ok(())
        }
        fn admit(&mut self, _: &GenerationRequest) -> Result<(), EngineError> {
            Ok(())
        }
        fn tick(&mut self, _: &mut ()) -> Result<Progress, EngineError> {
            Ok(Progress::Finished)
        }
    }

    #[tokio::test]
    async fn a_panic_of_the_engine_is_told_to_whoever_ends_the_process() {
        let board = Arc::new(Board::new(Limits::default()));
        let ended = spawn(Arc::clone(&board), None, || Ok(Broken)).unwrap();
        let (reply, _answer) = oneshot::channel();
        board.ask(Question::Refresh(reply));
        let outcome = ended.await.unwrap();
        assert!(
            matches!(&outcome, Err(EngineFailure::Panic(words)) if words == "broken"),
            "{outcome:?}"
        );
        assert!(board.is_stopping());
    }
}
