//! From a folder of models to networks in memory. Only `.safetensors` weights are loaded: unpickling runs
//! code. Every file is opened beneath its model's folder, must be a regular file of root, of the folder's
//! owner or of this process's user, and must not be writable by everybody. Every tensor's name and shape is
//! checked before a model counts as loaded. Nothing here may panic on what a file holds, name a host path in
//! an error, or import the pipelines.

pub mod config_json;
pub mod diffusers_dir;
pub mod folder;
pub mod hash;
mod mapped;
pub mod registry;
pub mod safetensors;
mod safetensors_header;
mod scheduler_config;
#[cfg(test)]
mod tests;
mod text_encoder_json;
mod tokenizer_json;
mod unet_json;
mod vae_json;

pub use diffusers_dir::{ComputeOptions, StableDiffusion};
pub use registry::Registry;
