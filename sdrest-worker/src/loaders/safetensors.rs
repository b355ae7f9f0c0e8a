//! A `.safetensors` file as a source of weights: mapped once, its header checked, its tensors viewed or,
//! where the file's type is not the one to compute in, converted one by one as they are asked for.

use super::{
    folder::ModelFolder,
    hash::FileIdentity,
    mapped::{MappedError, Mapping},
    safetensors_header,
};
use crate::models::{
    ModelError,
    error::{said, shorten},
    weights::{Parameter, WeightSource},
};
use safetensors::{
    SafeTensors,
    tensor::{Dtype, Metadata},
};
use std::sync::{Arc, Weak};
use tch::{Device, Kind};

/// One mapped file of named tensors.
#[derive(Debug)]
pub struct SafetensorsFile {
    /// Relative to the model's folder.
    file: String,
    identity: FileIdentity,
    mapping: Arc<Mapping>,
    metadata: Metadata,
    /// Where the tensors begin.
    data_start: usize,
    kind: Kind,
    device: Device,
}

impl SafetensorsFile {
    /// `kind` and `device` are what parameters are wanted in.
    pub fn open(
        folder: &ModelFolder,
        file: &str,
        kind: Kind,
        device: Device,
    ) -> Result<Self, ModelError> {
        let corrupt = |reason: String| ModelError::Corrupt { file: file.to_owned(), reason };
        let opened = folder.file(file)?;
        if opened.metadata().is_ok_and(|metadata| metadata.len() == 0) {
            return Err(corrupt("it is empty".to_owned()));
        }
        let identity = FileIdentity::named(file, &opened)?;
        let mapping = Mapping::of(&opened)
            .map_err(|error| corrupt(format!("it cannot be mapped: {}", error.kind())))?;
        safetensors_header::check(mapping.bytes()).map_err(|fault| match fault.tensor {
            Some(tensor) => {
                ModelError::BadTensor { file: file.to_owned(), tensor, reason: fault.reason }
            }
            None => corrupt(fault.reason),
        })?;
        let (length, metadata) = SafeTensors::read_metadata(mapping.bytes())
            .map_err(|error| corrupt(format!("its header is not valid: {}", said(error))))?;
        let (file, data_start) = (file.to_owned(), length + 8);
        Ok(Self { file, identity, mapping, metadata, data_start, kind, device })
    }

    /// The state of the file that is mapped.
    pub(super) fn identity(&self) -> FileIdentity {
        self.identity
    }

    /// Watches the file for as long as a parameter points into it.
    pub(super) fn watch(&self) -> WatchedFile {
        WatchedFile { file: self.file.clone(), mapping: Arc::downgrade(&self.mapping) }
    }

    fn bad(&self, tensor: &str, reason: String) -> ModelError {
        ModelError::BadTensor { file: self.file.clone(), tensor: tensor.to_owned(), reason }
    }
}

/// A file that may be mapped still. Where every tensor was copied, nothing of it is needed any more.
#[derive(Debug)]
pub(super) struct WatchedFile {
    file: String,
    mapping: Weak<Mapping>,
}

impl WatchedFile {
    pub(super) fn check(&self) -> Result<(), ModelError> {
        if self.mapping.upgrade().is_none_or(|mapping| mapping.is_whole()) {
            return Ok(());
        }
        let reason = "it became shorter while it was in use".to_owned();
        Err(ModelError::Corrupt { file: self.file.clone(), reason })
    }
}

impl WeightSource for SafetensorsFile {
    fn has(&self, name: &str) -> bool {
        self.metadata.info(name).is_some()
    }

    fn parameter(&self, name: &str, shape: &[i64]) -> Result<Parameter, ModelError> {
        let missing =
            || ModelError::MissingTensor { file: self.file.clone(), tensor: name.to_owned() };
        let info = self.metadata.info(name).ok_or_else(missing)?;
        if !info
            .shape
            .iter()
            .map(|&side| i64::try_from(side).ok())
            .eq(shape.iter().map(|&side| Some(side)))
        {
            let found = shorten(&format!("{:?}", info.shape));
            return Err(
                self.bad(name, format!("has shape {found}, the configuration asks for {shape:?}"))
            );
        }
        let Some(kind) = float_kind(info.dtype) else {
            return Err(self.bad(
                name,
                format!("has type {:?}; F32, F16, BF16 and F64 are loaded", info.dtype),
            ));
        };
        let (begin, end) = info.data_offsets;
        let range = self.data_start.saturating_add(begin)..self.data_start.saturating_add(end);
        let parameter =
            self.mapping.parameter(range, shape, kind).map_err(|error| match error {
                MappedError::OutOfRange => self.bad(name, "lies outside of the file".to_owned()),
                MappedError::Size => {
                    self.bad(name, "has another size than its shape takes".to_owned())
                }
                MappedError::Torch(error) => error,
            })?;
        parameter.converted(self.kind, self.device)
    }
}

fn float_kind(dtype: Dtype) -> Option<Kind> {
    match dtype {
        Dtype::F64 => Some(Kind::Double),
        Dtype::F32 => Some(Kind::Float),
        Dtype::F16 => Some(Kind::Half),
        Dtype::BF16 => Some(Kind::BFloat16),
        _ => None,
    }
}
