//! The engine in earnest on the demo model: what happens to a model in memory when its files change, come or go.

use super::{
    backend::{Engine, EngineError, Progress},
    torch::{TorchEngine, TorchParts, TorchSlot},
};
use crate::loaders::{ComputeOptions, Registry};
use sdrest_proto::{
    bounds::ModelName,
    error::{ErrorCode, Fault},
    generation::GenerationRequest,
    image::Rgb8Image,
    model::ModelInfo,
};
use serde_json::json;
use std::{
    fs::{self, OpenOptions},
    io::Write,
    path::Path,
    process::Command,
    sync::mpsc::{Receiver, channel},
    time::Duration,
};
use tch::{Kind, Tensor};

const UNET: &str = "unet/diffusion_pytorch_model.safetensors";

/// A models folder with a copy of the demo model for each name.
fn folder(names: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    names.iter().for_each(|name| add(folder.path(), name));
    folder
}

fn add(folder: &Path, name: &str) {
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("demo-model");
    let copied = Command::new("cp").arg("-r").arg(demo).arg(folder.join(name)).status().unwrap();
    assert!(copied.success());
}

/// Writes the UNet's file anew, in float32 (so that its tensors view the file), as `change` has it.
fn rewrite(model: &Path, change: impl Fn(Tensor) -> Tensor) {
    let file = model.join(UNET);
    let tensors: Vec<(String, Tensor)> = Tensor::read_safetensors(&file)
        .unwrap()
        .into_iter()
        .map(|(name, tensor)| (name, change(tensor.to_kind(Kind::Float))))
        .collect();
    let new = model.join("new");
    Tensor::write_safetensors(&tensors, &new).unwrap();
    fs::rename(new, file).unwrap();
}

fn engine(folders: &[&Path], max_models: usize) -> (TorchEngine, Receiver<()>) {
    tch::set_num_threads(1);
    let (sender, news) = channel();
    let engine = TorchEngine::new(TorchParts {
        registries: folders.iter().map(|folder| Registry::hold(folder).unwrap()).collect(),
        options: ComputeOptions::REFERENCE,
        max_models,
        news: Box::new(move || {
            let _the_test_may_be_over = sender.send(());
        }),
    });
    (engine, news)
}

fn name(text: &str) -> ModelName {
    ModelName::try_from(text.to_owned()).unwrap()
}

fn request(model: &str) -> GenerationRequest {
    serde_json::from_value(json!({
        "model": model, "prompt": "a red circle", "negative_prompt": "", "width": 64, "height": 64,
        "num_inference_steps": 5, "guidance_scale": 4.0, "scheduler": "Ddim",
        "sigma_schedule": "Default", "seed": 1, "num_images": 1, "clip_skip": null,
    }))
    .unwrap()
}

fn finish(engine: &mut TorchEngine, mut slot: TorchSlot) -> Rgb8Image {
    loop {
        match engine.tick(&mut slot).unwrap() {
            Progress::Image { image, .. } => return image,
            Progress::Step { .. } => {}
            Progress::Finished => panic!("no picture"),
        }
    }
}

fn draw(engine: &mut TorchEngine, model: &str) -> Rgb8Image {
    let slot = engine.admit(&request(model)).unwrap();
    finish(engine, slot)
}

fn info(engine: &mut TorchEngine, model: &str) -> ModelInfo {
    engine.models().into_iter().find(|info| info.name.as_str() == model).unwrap()
}

fn told<T>(result: Result<T, EngineError>) -> Fault {
    match result {
        Err(EngineError::Job { fault, .. }) => fault,
        Err(other) => panic!("expected a fault of the job, got {other}"),
        Ok(_) => panic!("expected a fault of the job, got none"),
    }
}

/// The model's hash, once it is known: the list is asked for at each piece of news, as the engine thread does.
fn hash(engine: &mut TorchEngine, news: &Receiver<()>, model: &str) -> String {
    loop {
        if let Some(hash) = info(engine, model).hash {
            return hash;
        }
        news.recv_timeout(Duration::from_secs(60)).expect("news of a hash");
    }
}

#[test]
fn a_file_cut_under_a_running_job_blames_the_model_and_lets_it_go() {
    let folder = folder(&["m"]);
    rewrite(&folder.path().join("m"), |tensor| tensor);
    let (mut engine, _news) = engine(&[folder.path()], 1);
    let mut slot = engine.admit(&request("m")).unwrap();
    assert!(matches!(engine.tick(&mut slot), Ok(Progress::Step { step: 1, .. })));
    let file = OpenOptions::new().write(true).open(folder.path().join("m").join(UNET)).unwrap();
    file.set_len(file.metadata().unwrap().len() / 2).unwrap();
    let fault = told(engine.tick(&mut slot));
    assert_eq!(fault.code, ErrorCode::ModelCorrupt);
    assert!(fault.message.contains("unet/diffusion_pytorch_model"), "{}", fault.message);
    assert!(!engine.models().iter().any(|model| model.loaded));
    assert_eq!(told(engine.admit(&request("m"))).code, ErrorCode::ModelCorrupt);
}

#[test]
fn a_replaced_model_draws_with_its_new_weights_under_its_new_hash() {
    let folder = folder(&["m"]);
    let model = folder.path().join("m");
    let (mut engine, news) = engine(&[folder.path()], 1);
    let old = draw(&mut engine, "m");
    let old_hash = hash(&mut engine, &news, "m");
    let running = engine.admit(&request("m")).unwrap();

    rewrite(&model, |tensor| tensor * 0.5);
    engine.refresh().unwrap();
    assert!(!info(&mut engine, "m").loaded, "the old weights are gone from memory");
    let new = draw(&mut engine, "m");
    assert!(new != old, "the old weights drew");
    let new_hash = hash(&mut engine, &news, "m");
    assert_ne!(new_hash, old_hash);
    assert!(finish(&mut engine, running) == old, "a job ends with the weights that it began with");

    // Without a look in between, too.
    rewrite(&model, |tensor| tensor * 2.0);
    assert!(draw(&mut engine, "m") == old);
    assert_ne!(hash(&mut engine, &news, "m"), new_hash);
}

#[test]
fn one_folder_that_cannot_be_listed_hides_neither_its_models_nor_others() {
    let (gone, there) = (folder(&["a"]), folder(&[]));
    let path = gone.path().to_owned();
    let (mut engine, _news) = engine(&[&path, there.path()], 1);
    drop(gone);
    add(there.path(), "b");
    assert_eq!(told(engine.refresh()).code, ErrorCode::ModelUnsupported);
    let names: Vec<String> = engine.models().iter().map(|info| info.name.to_string()).collect();
    assert_eq!(names, ["a", "b"]);
}

#[test]
fn a_model_whose_folder_is_gone_can_be_unloaded() {
    let folder = folder(&["m"]);
    let (mut engine, _news) = engine(&[folder.path()], 1);
    engine.load(&name("m")).unwrap();
    fs::remove_dir_all(folder.path().join("m")).unwrap();
    engine.refresh().unwrap();
    engine.unload(&name("m")).unwrap();
    assert_eq!(told(engine.unload(&name("m"))).code, ErrorCode::ModelNotFound);
}

#[test]
fn a_model_that_came_while_another_was_hashed_is_hashed_too() {
    let folder = folder(&["large"]);
    // A tensor that no network asks for keeps the hashing busy while `late` comes; its bytes are a hole.
    let file = folder.path().join("large").join(UNET);
    let header =
        format!(r#"{{"hole":{{"dtype":"U8","shape":[{0}],"data_offsets":[0,{0}]}}}}"#, 1_u64 << 30);
    let mut unet = fs::File::create(file).unwrap();
    unet.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
    unet.write_all(header.as_bytes()).unwrap();
    unet.set_len(8 + header.len() as u64 + (1 << 30)).unwrap();
    // `late` is ready beside it, so that it comes at once: a copy may take longer than the hash.
    let beside = tempfile::tempdir().unwrap();
    add(beside.path(), "late");
    let (mut engine, news) = engine(&[folder.path()], 1);
    fs::rename(beside.path().join("late"), folder.path().join("late")).unwrap();
    engine.refresh().unwrap();
    assert_eq!(info(&mut engine, "large").hash, None, "it is hashed still");
    assert_eq!(hash(&mut engine, &news, "late").len(), 10);
    assert!(info(&mut engine, "large").hash.is_some());
}

#[test]
fn a_model_that_cannot_be_loaded_pushes_none_out() {
    let folder = folder(&["good", "headers", "tokens"]);
    fs::write(folder.path().join("headers").join(UNET), b"12345").unwrap();
    let merges = folder.path().join("tokens/tokenizer/merges.txt");
    let mut merges = OpenOptions::new().append(true).open(merges).unwrap();
    merges.write_all(b"<|startoftext|> <|startoftext|>\n").unwrap();
    let (mut engine, _news) = engine(&[folder.path()], 1);
    engine.load(&name("good")).unwrap();
    for broken in ["headers", "tokens"] {
        assert_eq!(told(engine.load(&name(broken))).code, ErrorCode::ModelCorrupt);
        assert!(info(&mut engine, "good").loaded, "{broken} pushed the good model out");
    }
}
