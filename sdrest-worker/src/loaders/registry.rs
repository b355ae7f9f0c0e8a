//! The models of one folder: each diffusers folder in it is a model by the name of its folder (or, where the
//! named folder is a diffusers folder itself, that one alone). What lies there and cannot be used is listed
//! with the reason, which names a file, a key or a tensor and never a host path.

use super::{
    diffusers_dir::{self, ComputeOptions, StableDiffusion, UNET_WEIGHTS, WeightFiles},
    folder::ModelFolder,
    hash::{FileIdentity, HashCache, short_hash},
};
use crate::models::{ModelError, error::public};
use sdrest_proto::{bounds::ModelName, model::ModelInfo};
use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

/// What is named in every answer: the one family that this worker draws with.
const FAMILY: &str = "sd-1.x";

/// Where the models are.
#[derive(Debug)]
pub struct Registry {
    path: PathBuf,
    folder: ModelFolder,
    models: BTreeMap<ModelName, ModelInfo>,
    hashes: HashCache,
}

impl Registry {
    /// Opens the folder and reads nothing of it yet: its files are parsed inside of the sandbox only.
    pub fn hold(path: &Path) -> Result<Self, ModelError> {
        let (folder, models) = (ModelFolder::open(path)?, BTreeMap::new());
        Ok(Self { path: path.to_owned(), folder, models, hashes: HashCache::default() })
    }

    /// Opens the folder and looks at what is in it. The folder stays open.
    pub fn open(path: &Path) -> Result<Self, ModelError> {
        let mut registry = Self::hold(path)?;
        registry.refresh()?;
        Ok(registry)
    }

    /// Looks again: reads every model's configurations, no weights. Where the folder cannot be listed, what was
    /// found before stays.
    pub fn refresh(&mut self) -> Result<(), ModelError> {
        let unreadable = |error: io::Error| ModelError::Refused {
            file: "the models folder".to_owned(),
            reason: format!("it cannot be listed: {}", error.kind()),
        };
        if let Some(name) = self.single() {
            let info = self.describe(&name);
            self.models = BTreeMap::from([(name, info)]);
            return Ok(());
        }
        let mut found = BTreeMap::new();
        for entry in fs::read_dir(&self.path).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let Some(name) = entry.file_name().to_str().map(str::to_owned) else { continue };
            let Ok(name) = ModelName::try_from(name) else { continue };
            // Follows a symbolic link: openat2 then refuses one that leads out.
            if entry.path().is_dir() || looks_like_weights(name.as_str()) {
                let info = self.describe(&name);
                found.insert(name, info);
            }
        }
        self.models = found;
        Ok(())
    }

    /// Looks again at one model that is listed.
    pub fn look_again(&mut self, name: &ModelName) {
        let info = self.describe(name);
        if let Some(known) = self.models.get_mut(name) {
            *known = info;
        }
    }

    /// The folder's own name, where it is a diffusers folder itself.
    fn single(&self) -> Option<ModelName> {
        let name =
            self.folder.has("model_index.json").then(|| self.path.canonicalize().ok()).flatten()?;
        ModelName::try_from(name.file_name()?.to_str()?.to_owned()).ok()
    }

    fn folder_of(&self, name: &ModelName) -> Result<ModelFolder, ModelError> {
        if self.single().as_ref() == Some(name) {
            return ModelFolder::open(&self.path);
        }
        if looks_like_weights(name.as_str()) {
            let reason = "checkpoints in a single file are not loaded: a model is a diffusers folder of .safetensors";
            return Err(ModelError::Refused { file: name.to_string(), reason: reason.to_owned() });
        }
        self.folder.subfolder(name.as_str()).map_err(|error| match error {
            ModelError::MissingFile { .. } => ModelError::NotFound { name: name.to_string() },
            other => other,
        })
    }

    fn describe(&self, name: &ModelName) -> ModelInfo {
        let mut info = ModelInfo {
            name: name.clone(),
            family: FAMILY.to_owned(),
            prediction_type: String::new(),
            default_side: 0,
            vae_scale_factor: 0,
            hash: None,
            loaded: false,
            fault: None,
        };
        let folder = self.folder_of(name);
        match folder.and_then(|folder| Ok((diffusers_dir::describe(&folder)?, folder))) {
            Ok((description, folder)) => {
                info.default_side = description.default_side();
                info.vae_scale_factor = description.vae.scale_factor();
                info.prediction_type = description.prediction_type;
                info.fault = diffusers_dir::check_weights(&folder).err().map(public);
                info.hash = self.known_hash(&folder);
            }
            Err(error) => info.fault = Some(public(error)),
        }
        info
    }

    fn known_hash(&self, folder: &ModelFolder) -> Option<String> {
        self.hashes.get(&FileIdentity::in_folder(folder, UNET_WEIGHTS).ok()?)
    }

    /// All models, in the order of their names.
    pub fn list(&self) -> Vec<ModelInfo> {
        self.models.values().cloned().collect()
    }

    pub fn get(&self, name: &ModelName) -> Result<&ModelInfo, ModelError> {
        self.models.get(name).ok_or_else(|| ModelError::NotFound { name: name.to_string() })
    }

    /// Reads a model into memory, checking every tensor.
    pub fn load(
        &self,
        name: &ModelName,
        options: ComputeOptions,
    ) -> Result<StableDiffusion, ModelError> {
        diffusers_dir::load(&self.folder_of(name)?, options)
    }

    /// Everything about a model that can be checked without reading its tensors.
    pub fn check(&self, name: &ModelName) -> Result<(), ModelError> {
        diffusers_dir::check(&self.folder_of(name)?)
    }

    /// The states of a model's weight files as they lie there now.
    pub fn weight_files(&self, name: &ModelName) -> Result<WeightFiles, ModelError> {
        diffusers_dir::weight_files(&self.folder_of(name)?)
    }

    /// Opens the file that a model's hash is made of, for hashing it elsewhere with
    /// [`short_hash`](super::hash::short_hash); hand the answer to [`Self::remember_hash`].
    pub fn file_to_hash(&self, name: &ModelName) -> Result<(FileIdentity, fs::File), ModelError> {
        let file = self.folder_of(name)?.file(UNET_WEIGHTS)?;
        Ok((FileIdentity::named(UNET_WEIGHTS, &file)?, file))
    }

    pub fn remember_hash(&mut self, name: &ModelName, identity: FileIdentity, hash: String) {
        let is_same = self.file_to_hash(name).is_ok_and(|(now, _)| now == identity);
        if let Some(info) = self.models.get_mut(name).filter(|_| is_same) {
            info.hash = Some(hash.clone());
        }
        self.hashes.put(identity, hash);
    }

    /// Computes the hash here and now.
    pub fn hash(&mut self, name: &ModelName) -> Result<String, ModelError> {
        let (identity, mut file) = self.file_to_hash(name)?;
        if let Some(hash) = self.hashes.get(&identity) {
            return Ok(hash);
        }
        let hash = short_hash(UNET_WEIGHTS, &mut file)?;
        self.remember_hash(name, identity, hash.clone());
        Ok(hash)
    }
}

fn looks_like_weights(name: &str) -> bool {
    [".safetensors", ".ckpt", ".pt", ".pth", ".bin"].iter().any(|end| name.ends_with(end))
}
