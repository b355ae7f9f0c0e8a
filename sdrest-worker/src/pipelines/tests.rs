//! Slots beside each other: what one draws may not depend on who else is there.

use super::{Slot, admit};
use crate::loaders::{ComputeOptions, StableDiffusion, diffusers_dir, folder::ModelFolder};
use sdrest_proto::{
    bounds::{ClipSkip, Dimension, GuidanceScale, ImageCount, ModelName, Prompt, Seed, Steps},
    error::{ErrorCode, Fault},
    generation::GenerationRequest,
    image::Rgb8Image,
    sampling::{SchedulerKind, SigmaSchedule},
};
use std::{fs, path::Path, process::Command};
use tch::{Device, Kind, Tensor};

fn demo() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("demo-model")
}

fn model() -> StableDiffusion {
    load(&demo(), Kind::Float)
}

/// With one thread for each operator: tests run beside each other, on cores that others use too.
fn load(folder: &Path, kind: Kind) -> StableDiffusion {
    tch::set_num_threads(1);
    let options = ComputeOptions { kind, device: Device::Cpu };
    diffusers_dir::load(&ModelFolder::open(folder).unwrap(), options).unwrap()
}

fn request(scheduler: SchedulerKind, seed: u64) -> GenerationRequest {
    GenerationRequest {
        model: ModelName::try_from("demo-model".to_owned()).unwrap(),
        prompt: Prompt::try_from("a red circle on a white background".to_owned()).unwrap(),
        negative_prompt: Prompt::empty(),
        width: Dimension::try_from(64).unwrap(),
        height: Dimension::try_from(72).unwrap(),
        num_inference_steps: Steps::try_from(4).unwrap(),
        guidance_scale: GuidanceScale::try_from(4.0).unwrap(),
        scheduler,
        sigma_schedule: SigmaSchedule::Default,
        seed: Seed::try_from(seed).unwrap(),
        num_images: ImageCount::try_from(1).unwrap(),
        clip_skip: None,
    }
}

fn finish(mut slot: Slot, model: &StableDiffusion) -> Rgb8Image {
    while !slot.is_denoised() {
        slot.step(model).unwrap();
    }
    slot.decode(model, 0).unwrap()
}

#[test]
fn a_neighbour_changes_no_byte() {
    let model = model();
    for kind in SchedulerKind::ALL {
        let alone = finish(admit(&model, &request(kind, 3)).unwrap(), &model);
        let mut slot = admit(&model, &request(kind, 3)).unwrap();
        let mut neighbour =
            admit(&model, &request(SchedulerKind::EulerAncestralDiscrete, 99)).unwrap();
        while !slot.is_denoised() {
            neighbour.step(&model).unwrap();
            slot.step(&model).unwrap();
        }
        assert_eq!(slot.decode(&model, 0).unwrap(), alone, "{kind:?}");
        assert_eq!((alone.width(), alone.height()), (64, 72));
        assert!(slot.step(&model).is_err(), "a slot has no step after its last");
        assert!(slot.decode(&model, 1).is_err(), "a slot has no image after its last");
    }
}

#[test]
fn without_guidance_there_is_no_unconditional_row() {
    let model = model();
    let mut plain = request(SchedulerKind::Ddim, 0);
    plain.num_images = ImageCount::try_from(3).unwrap();
    assert_eq!(admit(&model, &plain).unwrap().rows(), 6);
    plain.guidance_scale = GuidanceScale::try_from(1.0).unwrap();
    let slot = admit(&model, &plain).unwrap();
    assert_eq!((slot.rows(), slot.num_images(), slot.steps()), (3, 3, 4));
}

#[test]
fn a_clip_skip_deeper_than_the_model_is_refused_with_its_bounds() {
    let model = model();
    let mut deep = request(SchedulerKind::Ddim, 0);
    deep.clip_skip = Some(ClipSkip::try_from(3).unwrap());
    assert!(admit(&model, &deep).is_ok());
    deep.clip_skip = Some(ClipSkip::try_from(4).unwrap());
    let fault = Fault::from(admit(&model, &deep).err().unwrap());
    assert_eq!(fault.code, ErrorCode::ValidationFailed);
    assert_eq!(fault.message, "`clip_skip` must be between 1 and 3 for this model, got 4");
}

/// Lays a safetensors file's tensors out behind a header that ends at an odd byte, as many writers do.
fn misalign(file: &Path) {
    let bytes = fs::read(file).unwrap();
    let (length, rest) = bytes.split_first_chunk::<8>().unwrap();
    let (header, data) = rest.split_at(u64::from_le_bytes(*length) as usize);
    let mut header = header.trim_ascii_end().to_vec();
    if header.len() % 2 == 0 {
        header.push(b' ');
    }
    let length = (header.len() as u64).to_le_bytes();
    fs::write(file, [&length, header.as_slice(), data].concat()).unwrap();
}

#[test]
fn a_header_without_padding_changes_no_byte() {
    let folder = tempfile::tempdir().unwrap();
    let copied = Command::new("cp").arg("-r").arg(demo()).arg(folder.path().join("m")).status();
    assert!(copied.unwrap().success());
    let path = folder.path().join("m");
    let files = [
        "unet/diffusion_pytorch_model.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
        "text_encoder/model.safetensors",
    ]
    .map(|file| path.join(file));
    for kind in [Kind::Half, Kind::Float] {
        for file in &files {
            let tensors: Vec<(String, Tensor)> = Tensor::read_safetensors(file)
                .unwrap()
                .into_iter()
                .map(|(name, tensor)| (name, tensor.to_kind(kind)))
                .collect();
            Tensor::write_safetensors(&tensors, file).unwrap();
        }
        let draw = || {
            let model = load(&path, Kind::Float);
            finish(admit(&model, &request(SchedulerKind::Ddim, 3)).unwrap(), &model)
        };
        let aligned = draw();
        files.iter().for_each(|file| misalign(file));
        assert!(draw() == aligned, "{kind:?}");
    }
}

/// What a GPU computes in: latents, embeddings and weights of one type, noise and noise levels of another.
#[test]
fn every_scheduler_walks_in_float16() {
    let model = load(&demo(), Kind::Half);
    for kind in SchedulerKind::ALL {
        let mut slot = admit(&model, &request(kind, 3)).unwrap();
        while !slot.is_denoised() {
            slot.step(&model).unwrap();
            assert_eq!(slot.latents().kind(), Kind::Half, "{kind:?}");
        }
        let image = slot.decode(&model, 0).unwrap();
        assert_eq!((image.width(), image.height()), (64, 72), "{kind:?}");
    }
}
