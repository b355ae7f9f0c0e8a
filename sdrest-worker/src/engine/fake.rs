//! An engine without a model, for tests of the other programs: it takes its time and draws a plain picture
//! that follows from the seed. It is reached only by a hidden flag, is named in the log and in `describe`, and
//! must never stand in for a real engine anywhere else.

use super::backend::{Engine, EngineError, Progress};
use sdrest_proto::{
    bounds::{ModelName, Seed},
    error::ErrorCode,
    generation::GenerationRequest,
    image::Rgb8Image,
    model::ModelInfo,
};
use std::{thread, time::Duration};

/// The only model there is.
pub const MODEL: &str = "fake";

/// See the module.
#[derive(Debug)]
pub struct FakeEngine {
    step: Duration,
    loaded: bool,
}

/// One request in the making.
#[derive(Debug)]
pub struct FakeSlot {
    request: GenerationRequest,
    step: u32,
    images: u32,
}

impl FakeEngine {
    /// Every step and every decoding lasts `step`.
    pub fn new(step: Duration) -> Self {
        Self { step, loaded: false }
    }
}

impl Engine for FakeEngine {
    type Slot = FakeSlot;

    fn models(&mut self) -> Vec<ModelInfo> {
        let name = ModelName::try_from(MODEL.to_owned());
        let info = name.map(|name| ModelInfo {
            name,
            family: "sd-1.x".to_owned(),
            prediction_type: "epsilon".to_owned(),
            default_side: 128,
            vae_scale_factor: 8,
            hash: Some("00000fa4e0".to_owned()),
            loaded: self.loaded,
            fault: None,
        });
        info.into_iter().collect()
    }

    fn has_room(&self, _name: &ModelName) -> bool {
        true
    }

    fn refresh(&mut self) -> Result<(), EngineError> {
        Ok(())
    }

    fn load(&mut self, name: &ModelName) -> Result<(), EngineError> {
        if name.as_str() != MODEL {
            return Err(EngineError::job(
                ErrorCode::ModelNotFound,
                format!("there is no model {name}"),
            ));
        }
        self.loaded = true;
        Ok(())
    }

    fn unload(&mut self, name: &ModelName) -> Result<(), EngineError> {
        self.load(name)?;
        self.loaded = false;
        Ok(())
    }

    fn admit(&mut self, request: &GenerationRequest) -> Result<FakeSlot, EngineError> {
        self.load(&request.model)?;
        Ok(FakeSlot { request: request.clone(), step: 0, images: 0 })
    }

    fn tick(&mut self, slot: &mut FakeSlot) -> Result<Progress, EngineError> {
        let steps = slot.request.num_inference_steps.get();
        if slot.step < steps {
            thread::sleep(self.step);
            slot.step += 1;
            return Ok(Progress::Step { step: slot.step, steps });
        }
        if slot.images < slot.request.num_images.get() {
            thread::sleep(self.step);
            let index = slot.images;
            slot.images += 1;
            return draw(&slot.request, index);
        }
        Ok(Progress::Finished)
    }
}

/// A gradient whose colours are three bytes of the seed.
fn draw(request: &GenerationRequest, index: u32) -> Result<Progress, EngineError> {
    let seed = Seed::try_from(u64::from(request.seed) + u64::from(index))
        .map_err(|error| EngineError::job(ErrorCode::GenerationFailed, error.to_string()))?;
    let [red, green, blue, ..] = u64::from(seed).wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes();
    let (width, height) = (request.width.get(), request.height.get());
    let rows = (0..height).flat_map(|y| (0..width).map(move |x| (x, y)));
    let data = rows
        .flat_map(|(x, y)| {
            [
                red.wrapping_add((x * 255 / width) as u8),
                green.wrapping_add((y * 255 / height) as u8),
                blue,
            ]
        })
        .collect();
    let image = Rgb8Image::new(width, height, data)
        .map_err(|error| EngineError::job(ErrorCode::GenerationFailed, error))?;
    Ok(Progress::Image { index, seed, image })
}
