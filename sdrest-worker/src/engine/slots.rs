//! The step-level scheduler. A job becomes a slot; every tick lets the slot whose share has had least do one
//! thing: a UNet step, or decoding one picture. Between ticks jobs join and leave, so nobody waits for more
//! than a step of each other slot, and an interrupt takes effect within one step. One slot is ticked at a
//! time: that is the batch limit of the CPU, where batching gains nothing.

use super::{
    backend::{Engine, EngineError, Progress},
    board::{Board, Question},
    fairness::{Accounts, decode_cost, step_cost},
};
use sdrest_proto::{
    bounds::ModelName,
    error::{ErrorCode, Fault},
    event::JobEvent,
    id::{Attempt, JobId, RequestId},
    model::ModelInfo,
    worker::SubmitJob,
};
use std::time::Instant;

/// A job that has a slot.
struct Active<Slot> {
    job: JobId,
    attempt: Attempt,
    share: u64,
    request_id: RequestId,
    step_cost: u64,
    decode_cost: u64,
    admitted: Instant,
    /// The tick in which it was served last; among equals who waited longest is next.
    served: u64,
    slot: Slot,
}

/// The slots and their engine; they live on the engine thread.
pub struct Slots<E: Engine> {
    engine: E,
    active: Vec<Active<E::Slot>>,
    accounts: Accounts,
    ticks: u64,
}

impl<E: Engine> Slots<E> {
    pub fn new(engine: E) -> Self {
        Self { engine, active: Vec::new(), accounts: Accounts::default(), ticks: 0 }
    }

    /// Whether there is no slot to tick.
    pub fn is_idle(&self) -> bool {
        self.active.is_empty()
    }

    /// What the engine knows of its models.
    pub fn models(&mut self) -> Vec<ModelInfo> {
        self.engine.models()
    }

    /// Answers one question of the server.
    pub fn answer(&mut self, board: &Board, question: Question) -> Result<(), EngineError> {
        match question {
            Question::Look => board.set_models(self.engine.models()),
            Question::Refresh(reply) => {
                if let Err(fault) = job_fault(self.engine.refresh())? {
                    tracing::warn!(%fault, "the models folders could not be read again");
                }
                board.set_models(self.engine.models());
                // Whoever asked may have gone; the list is on the board all the same.
                let _gone = reply.send(self.engine.models());
            }
            Question::Load(name, reply) => {
                let loaded = job_fault(self.engine.load(&name))?;
                board.set_models(self.engine.models());
                let _gone = reply.send(loaded.and_then(|()| self.info(&name)));
            }
            Question::Unload(name, reply) => {
                let unloaded = job_fault(self.engine.unload(&name))?;
                board.set_models(self.engine.models());
                let _gone = reply.send(unloaded);
            }
        }
        Ok(())
    }

    /// Loads a model before anybody asks for it.
    pub fn preload(&mut self, board: &Board, name: &ModelName) -> Result<(), EngineError> {
        if let Err(fault) = job_fault(self.engine.load(name))? {
            tracing::error!(model = %name, %fault, "the model to preload cannot be loaded");
        }
        board.set_models(self.engine.models());
        Ok(())
    }

    /// Does one thing: drops slots that nobody wants, admits one waiting job, and ticks one slot.
    pub fn tick(&mut self, board: &Board) -> Result<(), EngineError> {
        self.ticks += 1;
        self.active.retain(|active| board.is_current(active.job, active.attempt));
        self.admit_one(board)?;
        let next = (0..self.active.len()).min_by_key(|place| {
            let active = &self.active[*place];
            (self.accounts.of(active.share), active.served)
        });
        if let Some(place) = next {
            self.serve(board, place)?;
        }
        board.set_active(self.active.len());
        Ok(())
    }

    fn info(&mut self, name: &ModelName) -> Result<ModelInfo, Fault> {
        let found = self.engine.models().into_iter().find(|info| info.name == *name);
        found.ok_or_else(|| {
            Fault::new(ErrorCode::ModelNotFound, format!("there is no model {name}"))
        })
    }

    /// Gives a waiting job a slot, if there is one: the share with the fewest slots first, then the cheapest. One
    /// share gets at most half of the slots, so that a second one never waits for a whole picture of the first.
    fn admit_one(&mut self, board: &Board) -> Result<(), EngineError> {
        let limit = board.limits().active;
        if self.active.len() >= limit {
            return Ok(());
        }
        let slots_of = |share| self.active.iter().filter(|active| active.share == share).count();
        let room_is_awaited = std::cell::Cell::new(false);
        let taken = board.take_waiting(|job| {
            let slots = slots_of(job.share);
            if room_is_awaited.get() || slots >= limit.div_ceil(2) {
                return None;
            }
            // Who came later does not keep the models busy that must go for this one.
            if !self.engine.has_room(&job.request.model) {
                room_is_awaited.set(true);
                return None;
            }
            Some((slots, self.accounts.of(job.share)))
        });
        match taken {
            Some(job) => self.admit(board, job),
            None => Ok(()),
        }
    }

    fn admit(&mut self, board: &Board, submitted: SubmitJob) -> Result<(), EngineError> {
        let SubmitJob { job, attempt, share, request_id, request } = submitted;
        let admitted = Instant::now();
        // Told first: should the process die in here, whoever reads knows over which job.
        board.emit(job, attempt, JobEvent::Started);
        if !board.begin_tick(job, attempt) {
            // Interrupted since it was taken.
            return Ok(());
        }
        let slot = self.engine.admit(&request);
        board.set_models(self.engine.models());
        match slot {
            Ok(slot) => {
                tracing::debug!(%request_id, %job, %attempt, model = %request.model, "has a slot");
                self.active.push(Active {
                    job,
                    attempt,
                    share,
                    request_id,
                    step_cost: step_cost(&request),
                    decode_cost: decode_cost(&request),
                    admitted,
                    served: self.ticks,
                    slot,
                });
                Ok(())
            }
            Err(error) => fail(board, (job, attempt, request_id), error),
        }
    }

    fn serve(&mut self, board: &Board, place: usize) -> Result<(), EngineError> {
        let active = &mut self.active[place];
        if !board.begin_tick(active.job, active.attempt) {
            // Interrupted since the start of this tick; the next one drops it.
            return Ok(());
        }
        let cost = match self.engine.tick(&mut active.slot) {
            Ok(Progress::Step { step, steps }) => {
                board.emit(active.job, active.attempt, JobEvent::Step { step, steps });
                active.step_cost
            }
            Ok(Progress::Image { index, seed, image }) => {
                board.emit(active.job, active.attempt, JobEvent::Image { index, seed, image });
                active.decode_cost
            }
            Ok(Progress::Finished) => {
                let engine_micros =
                    u64::try_from(active.admitted.elapsed().as_micros()).unwrap_or(u64::MAX);
                tracing::info!(request_id = %active.request_id, job = %active.job, engine_micros, "drawn");
                board.emit(active.job, active.attempt, JobEvent::Done { engine_micros });
                self.active.remove(place);
                return Ok(());
            }
            Err(error) => {
                let failed = (active.job, active.attempt, active.request_id);
                self.active.remove(place);
                return fail(board, failed, error);
            }
        };
        active.served = self.ticks;
        self.accounts.charge(active.share, cost);
        Ok(())
    }
}

/// Ends one job with its public fault; only a failed device is passed on.
fn fail(
    board: &Board,
    failed: (JobId, Attempt, RequestId),
    error: EngineError,
) -> Result<(), EngineError> {
    let (job, attempt, request_id) = failed;
    match error {
        EngineError::Job { fault, cause } => {
            tracing::warn!(%request_id, %job, %attempt, code = fault.code.as_str(), %cause, "failed");
            board.emit(job, attempt, JobEvent::Failed(fault));
            Ok(())
        }
        EngineError::Device(_) => Err(error),
    }
}

/// Takes the error of one verb apart from that of the device, and logs its cause.
fn job_fault<T>(result: Result<T, EngineError>) -> Result<Result<T, Fault>, EngineError> {
    match result {
        Ok(value) => Ok(Ok(value)),
        Err(EngineError::Job { fault, cause }) => {
            tracing::warn!(code = fault.code.as_str(), %cause, "refused");
            Ok(Err(fault))
        }
        Err(error @ EngineError::Device(_)) => Err(error),
    }
}
