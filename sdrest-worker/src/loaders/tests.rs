//! What a models folder answers to, with the demo model as the one that is whole.

use super::{ComputeOptions, Registry};
use sdrest_proto::{bounds::ModelName, error::ErrorCode};
use std::{fs, path::Path};

const UNET: &str = "unet/diffusion_pytorch_model.safetensors";

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::write(target, fs::read(entry.path()).unwrap()).unwrap();
        }
    }
}

/// A models folder with one model, `m`, as `change` leaves it.
fn folder_with(change: impl FnOnce(&Path)) -> (tempfile::TempDir, Registry) {
    let root = tempfile::tempdir().unwrap();
    let model = root.path().join("m");
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("demo-model"), &model);
    change(&model);
    let registry = Registry::open(root.path()).unwrap();
    (root, registry)
}

fn name(name: &str) -> ModelName {
    ModelName::try_from(name.to_owned()).unwrap()
}

/// Code and message of loading `m`, and whether the list told of it.
fn refusal(change: impl FnOnce(&Path)) -> (ErrorCode, String, bool) {
    let (_root, registry) = folder_with(change);
    let listed = registry.get(&name("m")).unwrap().fault.is_some();
    let Err(error) = registry.load(&name("m"), ComputeOptions::REFERENCE) else {
        panic!("it was loaded")
    };
    (error.code(), error.to_string(), listed)
}

fn edit(model: &Path, file: &str, from: &str, to: &str) {
    let text = fs::read_to_string(model.join(file)).unwrap();
    assert!(text.contains(from), "{file} has no {from}");
    fs::write(model.join(file), text.replace(from, to)).unwrap();
}

#[test]
fn a_whole_model_is_listed_and_loaded() {
    let (root, mut registry) = folder_with(|_| {});
    let info = registry.get(&name("m")).unwrap();
    assert_eq!((info.default_side, info.vae_scale_factor, info.fault.as_deref()), (128, 8, None));
    registry.load(&name("m"), ComputeOptions::REFERENCE).unwrap();
    assert_eq!(
        registry.load(&name("n"), ComputeOptions::REFERENCE).err().unwrap().code(),
        ErrorCode::ModelNotFound
    );
    let hash = registry.hash(&name("m")).unwrap();
    registry.refresh().unwrap();
    assert_eq!(registry.get(&name("m")).unwrap().hash.as_ref(), Some(&hash));
    assert!(hash.len() == 10 && hash.chars().all(|c| c.is_ascii_hexdigit()));
    let alone = Registry::open(&root.path().join("m")).unwrap();
    alone.load(&name("m"), ComputeOptions::REFERENCE).unwrap();
}

#[test]
fn a_truncated_file_names_file_and_tensor() {
    let (code, said, listed) = refusal(|model| {
        let file = fs::OpenOptions::new().write(true).open(model.join(UNET)).unwrap();
        file.set_len(100_000).unwrap();
    });
    assert_eq!((code, listed), (ErrorCode::ModelCorrupt, true));
    assert!(said.starts_with(&format!("{UNET}: tensor `down_blocks.")), "{said}");
}

#[test]
fn a_pickle_is_refused_by_name() {
    let (code, said, listed) = refusal(|model| {
        fs::rename(model.join(UNET), model.join("unet/diffusion_pytorch_model.bin")).unwrap();
    });
    assert_eq!((code, listed), (ErrorCode::ModelUnsupported, true));
    assert!(said.starts_with("unet/diffusion_pytorch_model.bin: it is a pickle"), "{said}");
}

#[test]
fn a_missing_file_is_named() {
    let (code, said, _) = refusal(|model| fs::remove_file(model.join("vae/config.json")).unwrap());
    assert_eq!((code, said.as_str()), (ErrorCode::ModelCorrupt, "vae/config.json is missing"));
}

#[test]
fn a_tensor_that_the_configuration_asks_for_must_be_there() {
    let (code, said, _) = refusal(|model| {
        edit(model, "unet/config.json", "\"layers_per_block\": 1", "\"layers_per_block\": 2");
    });
    assert_eq!(code, ErrorCode::ModelCorrupt);
    assert!(
        said.starts_with(&format!("{UNET}: tensor `down_blocks.0.resnets.1."))
            && said.ends_with("is missing")
    );
}

#[test]
fn what_is_not_supported_names_key_and_value() {
    for (file, from, to, wanted) in [
        (
            "unet/config.json",
            "\"class_embed_type\": null",
            "\"class_embed_type\": \"timestep\"",
            "`class_embed_type`",
        ),
        (
            "unet/config.json",
            "\"norm_num_groups\": 4",
            "\"norm_num_groups\": 5",
            "`norm_num_groups` = 5",
        ),
        ("unet/config.json", "\"in_channels\": 4", "\"in_channels\": 9", "`in_channels` = 9"),
        (
            "vae/config.json",
            "\"shift_factor\": null",
            "\"shift_factor\": 0.1",
            "`shift_factor` = 0.1",
        ),
        ("text_encoder/config.json", "quick_gelu", "swiglu", "`hidden_act` = \"swiglu\""),
        (
            "scheduler/scheduler_config.json",
            "scaled_linear",
            "cosine",
            "`beta_schedule` = \"cosine\"",
        ),
        (
            "model_index.json",
            "StableDiffusionPipeline",
            "StableDiffusionXLPipeline",
            "`_class_name`",
        ),
    ] {
        let (code, said, listed) = refusal(|model| edit(model, file, from, to));
        assert_eq!((code, listed), (ErrorCode::ModelUnsupported, true), "{said}");
        assert!(said.starts_with(&format!("{file}: ")) && said.contains(wanted), "{said}");
    }
}

#[test]
fn no_file_makes_a_long_fault() {
    let word = "\u{200b}".repeat(1_000_000);
    let file = |header: &str, data: &[u8]| {
        [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
    };
    let shape = "1,".repeat(1_000_000);
    for header in [
        format!(r#""{word}""#),
        format!(r#"{{"a":"{word}"}}"#),
        format!(r#"{{"{word}":7}}"#),
        format!(r#"{{"{word}":{{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}}}"#),
        format!(r#"{{"a":{{"dtype":"{word}","shape":[1],"data_offsets":[0,8]}}}}"#),
        format!(r#"{{"a":{{"dtype":"F32","shape":[{shape}1],"data_offsets":[0,8]}}}}"#),
        format!(
            r#"{{"conv_in.weight":{{"dtype":"F32","shape":[{shape}2],"data_offsets":[0,8]}}}}"#
        ),
    ] {
        let (_root, registry) = folder_with(|model| {
            fs::write(model.join(UNET), file(&header, &[0; 8])).unwrap();
        });
        let Err(error) = registry.load(&name("m"), ComputeOptions::REFERENCE) else {
            panic!("it was loaded")
        };
        let listed = registry.get(&name("m")).unwrap().fault.clone().unwrap_or_default();
        for said in [error.to_string(), listed] {
            assert!(said.len() < 600 && !said.contains('\u{200b}'), "{} bytes", said.len());
        }
    }
    // Where the schedulers pass the key over, any text may stand there.
    let (_root, registry) = folder_with(|model| {
        let path = model.join("scheduler/scheduler_config.json");
        let text = fs::read_to_string(&path).unwrap();
        let mut keys: serde_json::Value = serde_json::from_str(&text).unwrap();
        keys["prediction_type"] = word[..300_000].into();
        keys["_use_default_values"] = serde_json::json!(["prediction_type"]);
        fs::write(path, keys.to_string()).unwrap();
    });
    let info = registry.get(&name("m")).unwrap();
    assert!(info.prediction_type.len() < 100, "{} bytes", info.prediction_type.len());
}

#[test]
fn the_map_of_control_tokens_decides_what_pads() {
    // Stable Diffusion 2.x: `!`, id 0, where tokenizer_config.json says <|endoftext|>. What transformers 5.23 answers.
    let (_root, registry) = folder_with(|model| {
        let file = "tokenizer/special_tokens_map.json";
        edit(model, file, r#""pad_token": "<|endoftext|>""#, r#""pad_token": "!""#);
    });
    let model = registry.load(&name("m"), ComputeOptions::REFERENCE).unwrap();
    let row = model.tokenizer.encode("a cat").unwrap();
    let end = row.iter().position(|&id| id == row_end(&model)).unwrap();
    assert!(row[end + 1..].iter().all(|&id| id == 0) && end + 1 < row.len(), "{row:?}");
}

fn row_end(model: &super::StableDiffusion) -> i64 {
    i64::from(model.tokenizer.largest_id())
}

#[test]
fn a_textual_inversion_is_refused_by_its_token() {
    let (code, said, _) = refusal(|model| {
        fs::write(model.join("tokenizer/added_tokens.json"), r#"{"<cat-toy>": 49408}"#).unwrap();
    });
    assert_eq!(code, ErrorCode::ModelUnsupported);
    assert!(
        said.starts_with("tokenizer/added_tokens.json: ") && said.contains("\"<cat-toy>\""),
        "{said}"
    );
}
