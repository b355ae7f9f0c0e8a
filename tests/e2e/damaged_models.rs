//! Models that cannot be used: each is refused by name, with the file and the tensor that are in the way; the
//! worker lives and the good model beside them goes on drawing.

use crate::{alone, drawing};
use anyhow::{Context, Result, ensure};
use harness::{Program, Stack, programs};
use serde_json::json;
use std::{
    fs::{self, OpenOptions},
    io::Write,
    path::Path,
    process::Command,
    time::Duration,
};

const UNET: &str = "unet/diffusion_pytorch_model.safetensors";

fn copy(folder: &Path, name: &str) -> Result<()> {
    let copied =
        Command::new("cp").arg("-r").arg(programs::demo_model()).arg(folder.join(name)).status()?;
    ensure!(copied.success(), "the demo model could not be copied");
    Ok(())
}

/// A safetensors file with this header and no data.
fn with_header(length: u64, header: &str) -> Vec<u8> {
    let mut bytes = length.to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes
}

fn damage(folder: &Path) -> Result<()> {
    let file = |name: &str| folder.join(name).join(UNET);
    for name in [
        "good",
        "missing",
        "truncated",
        "no-header",
        "endless-header",
        "overlapping",
        "pickle",
        "other-shape",
        "not-json",
        "endless-words",
        "endless-vocabulary",
        "joined",
    ] {
        copy(folder, name)?;
    }
    fs::remove_file(file("missing"))?;
    let size = fs::metadata(file("truncated"))?.len();
    OpenOptions::new().write(true).open(file("truncated"))?.set_len(size / 2)?;
    fs::write(file("no-header"), b"12345")?;
    fs::write(file("endless-header"), with_header(u64::MAX, "{}"))?;
    let overlap = r#"{"conv_in.weight":{"dtype":"F32","shape":[1024],"data_offsets":[0,4096]},"conv_in.bias":{"dtype":"F32","shape":[1024],"data_offsets":[4,4100]}}"#;
    fs::write(file("overlapping"), with_header(overlap.len() as u64, overlap))?;
    OpenOptions::new().append(true).open(file("overlapping"))?.write_all(&[0; 4100])?;
    fs::remove_file(file("pickle"))?;
    fs::write(folder.join("pickle/unet/diffusion_pytorch_model.bin"), b"\x80\x02cos\nsystem\n")?;
    let config = folder.join("other-shape/unet/config.json");
    let text = fs::read_to_string(&config)?
        .replace("\"in_channels\": 4", "\"in_channels\": 4, \"sample_size\": 16");
    let mut parsed: serde_json::Value = serde_json::from_str(&text)?;
    parsed["block_out_channels"] = json!([32, 64, 96]);
    fs::write(&config, parsed.to_string())?;
    fs::write(folder.join("not-json/unet/config.json"), b"{\"in_channels\": ")?;
    // Spelled out, these words are more than a frame may hold, and the list of models would be too.
    let words = format!(r#"{{"a":"{}"}}"#, "\u{200b}".repeat(5_500_000));
    fs::write(file("endless-words"), with_header(words.len() as u64, &words))?;
    fs::write(folder.join("endless-vocabulary/tokenizer/vocab.json"), &words)?;
    let merges = folder.join("joined/tokenizer/merges.txt");
    let mut merges = OpenOptions::new().append(true).open(merges)?;
    merges.write_all(b"<|startoftext|> <|startoftext|>\n")?;
    Ok(())
}

#[test]
fn each_is_refused_by_name_and_the_good_one_draws() -> Result<()> {
    let _alone = alone();
    let folder = tempfile::tempdir()?;
    let models = folder.path().join("models");
    fs::create_dir(&models)?;
    damage(&models)?;
    Command::new("chmod").args(["-R", "a+rX"]).arg(folder.path()).status()?;
    let mut stack = Stack::builder().auth_none().models(&models).start()?;
    let api = stack.api();
    let worker = stack.process(Program::Worker).context("no worker")?;
    for (model, codes, words) in [
        ("missing", &["MODEL_CORRUPT", "MODEL_NOT_FOUND"][..], vec!["unet"]),
        ("truncated", &["MODEL_CORRUPT"], vec![UNET]),
        ("no-header", &["MODEL_CORRUPT"], vec![UNET]),
        ("endless-header", &["MODEL_CORRUPT"], vec![UNET]),
        ("overlapping", &["MODEL_CORRUPT"], vec![UNET]),
        ("pickle", &["MODEL_UNSUPPORTED", "MODEL_CORRUPT"], vec!["safetensors"]),
        ("other-shape", &["MODEL_CORRUPT", "MODEL_UNSUPPORTED"], vec!["unet"]),
        ("not-json", &["MODEL_CORRUPT"], vec!["unet/config.json"]),
        ("endless-words", &["MODEL_CORRUPT"], vec![UNET, "`a`"]),
        ("endless-vocabulary", &["MODEL_CORRUPT"], vec!["tokenizer/vocab.json"]),
        ("joined", &["MODEL_CORRUPT"], vec!["tokenizer/merges.txt"]),
    ] {
        let mut body = drawing(1, 2);
        body["model"] = json!(model);
        let answer = api.post("/api/v1/txt2img", &body)?;
        // A fault that shows in the folder is told at once, one that shows while loading ends the job.
        let (code, message) = if answer.status == 202 {
            let id = answer.json()?["job"]["id"].as_str().unwrap_or_default().to_owned();
            let job = api.wait(&id, Duration::from_secs(60))?;
            ensure!(job.state == "failed", "{model}: {}", job.body);
            let field =
                |name: &str| job.body["error"][name].as_str().unwrap_or_default().to_owned();
            (field("code"), field("message"))
        } else {
            (
                answer.code(),
                answer.json()?["error"]["message"].as_str().unwrap_or_default().to_owned(),
            )
        };
        ensure!(
            codes.contains(&code.as_str()),
            "{model}: expected {codes:?}, got {code}: {message}"
        );
        for word in words {
            ensure!(message.contains(word), "{model}: the message does not name {word}: {message}");
        }
        ensure!(message.len() < 600, "{model}: the message has {} bytes", message.len());
        ensure!(
            !message.contains(&*models.to_string_lossy()),
            "{model}: a host path is told: {message}"
        );
    }
    let mut body = drawing(1, 2);
    body["model"] = json!("good");
    let job = api.wait(&api.submit(&body)?, Duration::from_secs(60))?;
    ensure!(job.state == "done", "the good model: {}", job.body);
    let now = stack.process(Program::Worker).context("no worker")?;
    ensure!(now.pid == worker.pid, "the worker was restarted");
    stack.stop()?;
    Ok(())
}
