//! The engine in earnest: diffusers' pipelines on libtorch, one tick at a time, with models that are loaded at
//! first use. Model folders are searched in the order in which they were named. It never touches torch's
//! generator: the pipelines draw all noise when they admit a request.

use super::{
    backend::{Engine, EngineError, Progress},
    residency::Residency,
};
use crate::{
    loaders::{ComputeOptions, Registry, StableDiffusion, hash::short_hash},
    models::ModelError,
    pipelines::{self, PipelineError, Slot},
};
use sdrest_proto::{
    bounds::{ModelName, Seed},
    error::{ErrorCode, Fault},
    generation::GenerationRequest,
    model::ModelInfo,
};
use std::{
    rc::Rc,
    sync::mpsc::{Receiver, Sender, channel},
    thread,
};

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

type Identity = crate::loaders::hash::FileIdentity;

/// A file's hash, computed beside the engine.
struct Hashed {
    registry: usize,
    name: ModelName,
    identity: Identity,
    hash: String,
}

/// See the module.
pub struct TorchEngine {
    registries: Vec<Registry>,
    options: ComputeOptions,
    residency: Residency<StableDiffusion>,
    news: std::sync::Arc<dyn Fn() + Send + Sync>,
    hashed: (Sender<Hashed>, Receiver<Hashed>),
    /// The thread that hashes; there is one at most.
    hashing: Option<thread::JoinHandle<()>>,
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
            news: parts.news.into(),
            hashed: channel(),
            hashing: None,
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

    fn resident(&mut self, name: &ModelName) -> Result<Rc<StableDiffusion>, EngineError> {
        if let Some(model) = self.residency.get(name) {
            return Ok(model);
        }
        let options = self.options;
        self.registry_of(name).map_err(model_error)?;
        if !self.residency.has_room(name) {
            let message = "all places for models in memory are taken by models in use";
            return Err(EngineError::Job {
                fault: Fault::new(ErrorCode::WorkerUnavailable, message).retry_after(10),
                cause: message.to_owned(),
            });
        }
        if let Some(gone) = self.residency.make_room() {
            torch_shim::return_freed_memory();
            tracing::info!(model = %gone, "unloaded, to make place");
        }
        let loaded = self
            .registry_of(name)
            .and_then(|registry| registry.load(name, options))
            .map_err(model_error)?;
        tracing::info!(model = %name, "loaded");
        Ok(self.residency.put(name.clone(), loaded))
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

    /// Hashes the files of models whose hash is not known, one after another, and tells the engine of each.
    fn hash_what_is_new(&mut self) {
        // What is found meanwhile is hashed by the next look after it.
        if self.hashing.as_ref().is_some_and(|thread| !thread.is_finished()) {
            return;
        }
        let mut files = Vec::new();
        for (place, registry) in self.registries.iter().enumerate() {
            for info in registry
                .list()
                .into_iter()
                .filter(|info| info.hash.is_none() && info.fault.is_none())
            {
                match registry.file_to_hash(&info.name) {
                    Ok((identity, file)) => files.push((place, info.name, identity, file)),
                    Err(error) => tracing::warn!(model = %info.name, %error, "cannot be hashed"),
                }
            }
        }
        if files.is_empty() {
            return;
        }
        let (sender, news) = (self.hashed.0.clone(), std::sync::Arc::clone(&self.news));
        let hashing = thread::Builder::new().name("model-hash".to_owned()).spawn(move || {
            for (registry, name, identity, mut file) in files {
                let hash = match short_hash(name.as_str(), &mut file) {
                    Ok(hash) => hash,
                    Err(error) => {
                        tracing::warn!(model = %name, %error, "cannot be hashed");
                        continue;
                    }
                };
                // Nobody receives when the engine has ended.
                if sender.send(Hashed { registry, name, identity, hash }).is_err() {
                    return;
                }
                news();
            }
        });
        match hashing {
            Ok(thread) => self.hashing = Some(thread),
            Err(error) => {
                tracing::warn!(%error, "no thread to hash models on; their hashes stay unknown");
            }
        }
    }

    fn absorb_hashes(&mut self) {
        while let Ok(Hashed { registry, name, identity, hash }) = self.hashed.1.try_recv() {
            if let Some(registry) = self.registries.get_mut(registry) {
                registry.remember_hash(&name, identity, hash);
            }
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
        let refreshed = self.registries.iter_mut().try_for_each(Registry::refresh);
        self.hash_what_is_new();
        refreshed.map_err(model_error)
    }

    fn load(&mut self, name: &ModelName) -> Result<(), EngineError> {
        self.resident(name).map(|_| ())
    }

    fn unload(&mut self, name: &ModelName) -> Result<(), EngineError> {
        self.registry_of(name).map_err(model_error)?;
        if self.residency.remove(name) {
            torch_shim::return_freed_memory();
            tracing::info!(model = %name, "unloaded");
        }
        Ok(())
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
/// relaunched"); everything else concerns the one job.
fn sort_out(fault: Fault, cause: Option<String>) -> EngineError {
    let cause = cause.unwrap_or_else(|| fault.message.clone());
    let sticks =
        ["CUDA error", "CUDNN_STATUS", "CUBLAS_STATUS"].iter().any(|words| cause.contains(words));
    if sticks { EngineError::Device(cause) } else { EngineError::Job { fault, cause } }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::{fs::OpenOptions, path::Path, process::Command};
    use tch::{Kind, Tensor};

    const UNET: &str = "m/unet/diffusion_pytorch_model.safetensors";

    /// A folder with one model whose UNet is stored in float32, so that its tensors view the file.
    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("demo-model");
        let copied =
            Command::new("cp").arg("-r").arg(demo).arg(folder.path().join("m")).status().unwrap();
        assert!(copied.success());
        let file = folder.path().join(UNET);
        let tensors: Vec<(String, Tensor)> = Tensor::read_safetensors(&file)
            .unwrap()
            .into_iter()
            .map(|(name, tensor)| (name, tensor.to_kind(Kind::Float)))
            .collect();
        Tensor::write_safetensors(&tensors, file).unwrap();
        folder
    }

    fn request() -> GenerationRequest {
        serde_json::from_value(json!({
            "model": "m", "prompt": "a red circle", "negative_prompt": "", "width": 64, "height": 64,
            "num_inference_steps": 5, "guidance_scale": 4.0, "scheduler": "Ddim",
            "sigma_schedule": "Default", "seed": 1, "num_images": 1, "clip_skip": null,
        }))
        .unwrap()
    }

    #[test]
    fn a_file_cut_under_a_running_job_blames_the_model_and_lets_it_go() {
        let folder = folder();
        let mut engine = TorchEngine::new(TorchParts {
            registries: vec![Registry::hold(folder.path()).unwrap()],
            options: ComputeOptions::REFERENCE,
            max_models: 1,
            news: Box::new(|| {}),
        });
        let mut slot = engine.admit(&request()).unwrap();
        assert!(matches!(engine.tick(&mut slot), Ok(Progress::Step { step: 1, .. })));
        let file = OpenOptions::new().write(true).open(folder.path().join(UNET)).unwrap();
        file.set_len(file.metadata().unwrap().len() / 2).unwrap();
        let told = |result: Result<(), EngineError>| match result {
            Err(EngineError::Job { fault, .. }) => fault,
            other => panic!("expected a fault of the job, got {other:?}"),
        };
        let fault = told(engine.tick(&mut slot).map(|_| ()));
        assert_eq!(fault.code, ErrorCode::ModelCorrupt);
        assert!(fault.message.contains("unet/diffusion_pytorch_model"), "{}", fault.message);
        assert!(!engine.models().iter().any(|model| model.loaded));
        assert_eq!(told(engine.admit(&request()).map(|_| ())).code, ErrorCode::ModelCorrupt);
    }
}
