//! Where a network's weights come from, and how they are held. A [`Parameter`] keeps whatever memory backs
//! it (a file mapping) alive for as long as it lives, and hands out its tensor only inside this room, where
//! every operator makes a new tensor and none writes into a weight.

use super::error::ModelError;
use std::{any::Any, fmt, sync::Arc};
use tch::{Device, Kind, Tensor};

/// What must outlive a parameter: the mapping that its tensor points into.
pub type Keep = Arc<dyn Any + Send + Sync>;

/// One weight, never written to.
pub struct Parameter {
    tensor: Tensor,
    // Dropped after the tensor: fields are dropped in order of declaration.
    _keep: Option<Keep>,
}

impl Parameter {
    pub fn new(tensor: Tensor, keep: Option<Keep>) -> Self {
        Self { tensor, _keep: keep }
    }

    pub(super) fn tensor(&self) -> &Tensor {
        &self.tensor
    }

    /// Itself where it is of `kind` on `device` already; else a copy that stands on its own memory.
    pub fn converted(self, kind: Kind, device: Device) -> Result<Self, ModelError> {
        if self.tensor.f_kind()? == kind && self.tensor.device() == device {
            return Ok(self);
        }
        Ok(Self::new(self.tensor.f_to_kind(kind)?.f_to_device(device)?, None))
    }
}

impl fmt::Debug for Parameter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Parameter({:?})", self.tensor.size())
    }
}

/// A file of named tensors.
pub trait WeightSource {
    fn has(&self, name: &str) -> bool;
    /// The tensor `name`, which must have exactly `shape`, in the kind and on the device to compute with.
    fn parameter(&self, name: &str, shape: &[i64]) -> Result<Parameter, ModelError>;
}

/// A place in the tree of names, as `nn.Module` prefixes them.
#[derive(Clone)]
pub struct Scope<'a> {
    source: &'a dyn WeightSource,
    prefix: String,
}

impl<'a> Scope<'a> {
    pub fn root(source: &'a dyn WeightSource) -> Self {
        Self { source, prefix: String::new() }
    }

    /// The scope of the child `name` (a field, or an index of a list).
    pub fn sub(&self, name: impl fmt::Display) -> Self {
        Self { source: self.source, prefix: format!("{}{name}.", self.prefix) }
    }

    pub fn has(&self, name: &str) -> bool {
        self.source.has(&format!("{}{name}", self.prefix))
    }

    pub fn parameter(&self, name: &str, shape: &[i64]) -> Result<Parameter, ModelError> {
        self.source.parameter(&format!("{}{name}", self.prefix), shape)
    }
}
