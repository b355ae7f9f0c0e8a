//! What a worker says of the models that it can load. Names only: a host path never leaves the worker.

use crate::bounds::ModelName;
use serde::{Deserialize, Serialize};

/// One model folder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ModelInfo {
    pub name: ModelName,
    /// `sd-1.x`.
    pub family: String,
    /// `epsilon` or `v_prediction`, from scheduler_config.json.
    pub prediction_type: String,
    /// The picture side in pixels that the UNet was trained for (`sample_size` × the VAE's factor).
    pub default_side: u32,
    /// How much the VAE shrinks; width and height must be multiples of it.
    pub vae_scale_factor: u32,
    /// First ten hex digits of the SHA-256 of the UNet's weights; absent until it has been computed.
    pub hash: Option<String>,
    /// Whether its weights are in memory now.
    pub loaded: bool,
    /// Why it cannot be used, where it cannot: named file, named tensor.
    pub fault: Option<String>,
}
