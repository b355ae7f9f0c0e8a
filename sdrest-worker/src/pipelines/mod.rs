//! From a request to pictures, in the numbered steps of diffusers' pipelines. A request that was admitted is
//! a [`Slot`]: it holds everything that its steps need, noise included, so that no neighbour can disturb it;
//! the engine calls [`Slot::step`] once per tick and may stop between any two. Nothing here reads a file or
//! knows who asked.

mod decode;
mod denoise;
mod error;
mod guidance;
mod latents;
#[cfg(test)]
mod tests;
mod text_to_image;

pub use decode::to_rgb8;
pub use denoise::Slot;
pub use error::PipelineError;
pub use text_to_image::admit;
