//! The engine in earnest: diffusers' pipelines on libtorch, one tick at a time, with models that are loaded at
//! first use. Model folders are searched in the order in which they were named. It never touches torch's
//! generator: the pipelines draw all noise when they admit a request.

use super::{
    backend::{Engine, EngineError, Progress},
    guard::guarded,
    hashes::{Hashed, Hashes, ToHash},
    residency::Residency,
};
use crate::{
    loaders::{ComputeOptions, Registry, StableDiffusion},
    models::ModelError,
    pipelines::{self, PipelineError, Slot},
};
use sdrest_proto::{
    bounds::{ModelName, Seed},
    error::{ErrorCode, Fault},
    generation::GenerationRequest,
    model::ModelInfo,
};
use std::rc::Rc;

/// What the engine is made of.
pub struct TorchParts {
    /// Opened before the sandbox was closed.
    pub registries: Vec<Registry>,
    pub options: ComputeOptions,
    /// Models in memory at most.
    pub max_models: usize,
    /// Called, from another thread, when `models` has news.
    pub news: Box<dyn Fn() + Send + Sync>,
}

/// See the module.
pub struct TorchEngine {
    registries: Vec<Registry>,
    options: ComputeOptions,
    residency: Residency<StableDiffusion>,
    hashes: Hashes,
}

/// One request in the making. It keeps its model in memory.
pub struct TorchSlot {
    name: ModelName,
    model: Rc<StableDiffusion>,
    slot: Slot,
    seed: Seed,
    decoded: usize,
}

impl TorchEngine {
    /// Looks at the models, and begins to hash their files on a thread of its own.
    pub fn new(parts: TorchParts) -> Self {
        let mut engine = Self {
            registries: parts.registries,
            options: parts.options,
            residency: Residency::new(parts.max_models),
            hashes: Hashes::new(parts.news.into()),
        };
        for registry in &mut engine.registries {
            if let Err(error) = registry.refresh() {
                tracing::error!(%error, "a models folder cannot be read");
            }
        }
        engine.hash_what_is_new();
        engine
    }

    fn registry_of(&self, name: &ModelName) -> Result<&Registry, ModelError> {
        let found = self.registries.iter().find(|registry| registry.get(name).is_ok());
        found.ok_or_else(|| ModelError::NotFound { name: name.to_string() })
    }

    /// Lets a model go whose weight files are others than those that it was loaded from. Where nothing can be
    /// said of the files, it stays.
    fn let_go_if_replaced(&mut self, name: &ModelName) {
        let Some(model) = self.residency.peek(name) else { return };
        let now = self.registry_of(name).and_then(|registry| registry.weight_files(name));
        if now.is_ok_and(|now| now != *model.made_of()) {
            self.residency.remove(name);
            torch_shim::return_freed_memory();
            tracing::info!(model = %name, "unloaded: its files were replaced");
        }
    }

    fn resident(&mut self, name: &ModelName) -> Result<Rc<StableDiffusion>, EngineError> {
        self.let_go_if_replaced(name);
        if let Some(model) = self.residency.get(name) {
            return Ok(model);
        }
        self.registry_of(name).map_err(model_error)?;
        if !self.residency.has_room(name) {
            let message = "all places for models in memory are taken by models in use";
            return Err(EngineError::Job {
                fault: Fault::new(ErrorCode::WorkerUnavailable, message).retry_after(10),
                cause: message.to_owned(),
            });
        }
        self.make_room(name)?;
        // What is loaded now must be listed with its own hash.
        if let Some(registry) = self.registries.iter_mut().find(|one| one.get(name).is_ok()) {
            registry.look_again(name);
        }
        self.hash_what_is_new();
        let options = self.options;
        let registry = self.registry_of(name).map_err(model_error)?;
        let loaded = guarded(name, || registry.load(name, options).map_err(model_error))?;
        tracing::info!(model = %name, "loaded");
        Ok(self.residency.put(name.clone(), loaded))
    }

    /// Lets another model go for this one where it must, and not before this one passed every check that needs
    /// no tensor.
    fn make_room(&mut self, name: &ModelName) -> Result<(), EngineError> {
        if !self.residency.is_full() {
            return Ok(());
        }
        let registry = self.registry_of(name).map_err(model_error)?;
        guarded(name, || registry.check(name).map_err(model_error))?;
        if let Some(gone) = self.residency.make_room() {
            torch_shim::return_freed_memory();
            tracing::info!(model = %gone, "unloaded, to make place");
        }
        Ok(())
    }

    /// A model whose files were cut under it is let go, so that the next job opens it anew and is told the same.
    fn check_files(
        &mut self,
        name: &ModelName,
        model: &StableDiffusion,
    ) -> Result<(), EngineError> {
        model.check_files().map_err(|error| {
            self.residency.remove(name);
            model_error(error)
        })
    }

    /// Hashes the files of models whose hash is not known. What is found while others are hashed has its turn
    /// after them.
    fn hash_what_is_new(&mut self) {
        if !self.hashes.is_free() {
            return;
        }
        let mut files = Vec::new();
        for (place, registry) in self.registries.iter().enumerate() {
            for info in registry
                .list()
                .into_iter()
                .filter(|info| info.hash.is_none() && info.fault.is_none())
            {
                let name = info.name;
                match registry.file_to_hash(&name) {
                    Ok((identity, _)) if self.hashes.has_failed(&identity) => {}
                    Ok((identity, file)) => {
                        files.push(ToHash { registry: place, name, identity, file });
                    }
                    Err(error) => tracing::warn!(model = %name, %error, "cannot be hashed"),
                }
            }
        }
        self.hashes.start(files);
    }

    /// Takes over what was hashed, and has the rest hashed when that is done.
    fn absorb_hashes(&mut self) {
        let (hashed, ended) = self.hashes.hear();
        for Hashed { registry, name, identity, hash } in hashed {
            if let Some(registry) = self.registries.get_mut(registry) {
                registry.remember_hash(&name, identity, hash);
            }
        }
        if ended {
            self.hash_what_is_new();
        }
    }
}

impl Engine for TorchEngine {
    type Slot = TorchSlot;

    fn models(&mut self) -> Vec<ModelInfo> {
        self.absorb_hashes();
        let mut models: Vec<ModelInfo> = Vec::new();
        for mut info in self.registries.iter().flat_map(Registry::list) {
            if models.iter().all(|known| known.name != info.name) {
                info.loaded = self.residency.holds(&info.name);
                models.push(info);
            }
        }
        models
    }

    fn has_room(&self, name: &ModelName) -> bool {
        self.residency.has_room(name)
    }

    fn refresh(&mut self) -> Result<(), EngineError> {
        self.absorb_hashes();
        // Every folder is looked at, whatever the ones before it answer.
        let looks: Vec<_> = self.registries.iter_mut().map(Registry::refresh).collect();
        for name in self.residency.names() {
            self.let_go_if_replaced(&name);
        }
        self.hashes.forget_failures();
        self.hash_what_is_new();
        looks.into_iter().collect::<Result<(), _>>().map_err(model_error)
    }

    fn load(&mut self, name: &ModelName) -> Result<(), EngineError> {
        self.resident(name).map(|_| ())
    }

    fn unload(&mut self, name: &ModelName) -> Result<(), EngineError> {
        // A model in memory can be let go even where its folder is gone.
        if self.residency.remove(name) {
            torch_shim::return_freed_memory();
            tracing::info!(model = %name, "unloaded");
            return Ok(());
        }
        self.registry_of(name).map(|_| ()).map_err(model_error)
    }

    fn admit(&mut self, request: &GenerationRequest) -> Result<TorchSlot, EngineError> {
        let model = self.resident(&request.model)?;
        self.check_files(&request.model, &model)?;
        let slot = pipelines::admit(&model, request).map_err(pipeline_error)?;
        let name = request.model.clone();
        Ok(TorchSlot { name, model, slot, seed: request.seed, decoded: 0 })
    }

    fn tick(&mut self, slot: &mut TorchSlot) -> Result<Progress, EngineError> {
        self.check_files(&slot.name, &slot.model)?;
        if !slot.slot.is_denoised() {
            slot.slot.step(&slot.model).map_err(pipeline_error)?;
            return Ok(Progress::Step {
                step: count(slot.slot.steps_done()),
                steps: count(slot.slot.steps()),
            });
        }
        if slot.decoded < slot.slot.num_images() {
            let index = slot.decoded;
            let image = slot.slot.decode(&slot.model, index).map_err(pipeline_error)?;
            slot.decoded += 1;
            let seed = Seed::try_from(u64::from(slot.seed).saturating_add(index as u64)).map_err(
                |error| EngineError::job(ErrorCode::GenerationFailed, error.to_string()),
            )?;
            return Ok(Progress::Image { index: count(index), seed, image });
        }
        Ok(Progress::Finished)
    }
}

/// Steps and pictures are bounded far below 2³².
fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

fn pipeline_error(error: PipelineError) -> EngineError {
    sort_out(Fault::from(&error), error.private_cause())
}

fn model_error(error: ModelError) -> EngineError {
    sort_out(Fault::from(&error), error.private_cause().map(str::to_owned))
}

/// A CUDA error sticks to the process (CUDA's runtime documentation: "the process must be terminated and
/// relaunched"); everything else, memory that was not there above all, concerns the one job.
fn sort_out(fault: Fault, cause: Option<String>) -> EngineError {
    let cause = cause.unwrap_or_else(|| fault.message.clone());
    let sticks =
        ["CUDA error", "CUDNN_STATUS", "CUBLAS_STATUS"].iter().any(|words| cause.contains(words));
    let sticks = sticks && fault.code != ErrorCode::OutOfMemory;
    if sticks { EngineError::Device(cause) } else { EngineError::Job { fault, cause } }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schedulers::SchedulerError;
    use tch::TchError;

    #[test]
    fn only_a_broken_device_ends_the_process() {
        for (words, sticks) in [
            ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", false),
            ("cuDNN error: CUDNN_STATUS_ALLOC_FAILED", false),
            ("CUDA out of memory. Tried to allocate 2.00 GiB.", false),
            ("CUDA error: out of memory", false),
            ("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm(handle)`", true),
            ("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED", true),
            ("CUDA error: an illegal memory access was encountered", true),
        ] {
            let torch = || TchError::Torch(words.to_owned());
            for error in [
                model_error(ModelError::from(torch())),
                pipeline_error(PipelineError::from(torch())),
                pipeline_error(PipelineError::from(SchedulerError::from(torch()))),
            ] {
                match error {
                    EngineError::Device(_) => assert!(sticks, "{words}"),
                    EngineError::Job { fault, .. } => {
                        assert_eq!(
                            (fault.code, sticks),
                            (ErrorCode::OutOfMemory, false),
                            "{words}"
                        );
                    }
                }
            }
        }
    }
}
