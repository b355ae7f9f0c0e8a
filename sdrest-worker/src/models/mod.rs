//! The neural networks of Stable Diffusion 1.x, each file named after the diffusers or transformers module
//! that it follows, each field like the checkpoint's key. They call the same ATen operators in the same
//! order as the Python classes do in eager mode, so that the numbers agree.
//!
//! Nothing here reads a file, a request or a clock: weights come through [`weights::WeightSource`], settings
//! as checked structs. Nothing here may import a room above (loaders, prompt, pipelines).

pub mod attention;
pub mod autoencoder_kl;
pub mod clip_text_model;
pub mod embeddings;
pub mod error;
pub mod layers;
pub mod resnet;
pub mod unet_2d_blocks;
pub mod unet_2d_condition;
pub mod vae_blocks;
pub mod weights;

pub use error::ModelError;
