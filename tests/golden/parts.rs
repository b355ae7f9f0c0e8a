//! Text model, UNet and VAE: outputs for recorded inputs, within 1e-5.

use crate::{
    probe::{Call, data, model},
    tensors::{self, Tensors},
    verdict::Verdict,
};

const BOUND: f64 = 1e-5;

fn recorded(name: &str) -> Tensors {
    tensors::read(&data(&format!("parts-{name}.safetensors")))
}

/// The numbered cases of one part: `unet/0`, `unet/1`, …
fn cases<'a>(parts: &'a Tensors, part: &'a str, tensor: &'a str) -> impl Iterator<Item = &'a str> {
    parts.keys().filter_map(move |name| {
        name.strip_suffix(tensor)?.strip_suffix('/').filter(|name| name.starts_with(part))
    })
}

pub(crate) fn text(name: &str) {
    let parts = recorded(name);
    let mut verdict = Verdict::new(format!("text model of {name}"));
    for (tensor, clip_skip) in [("prompt_embeds", None), ("clip_skip_1", Some("1"))] {
        let mut call = Call::new("text").with("model", model(name));
        if let Some(layers) = clip_skip {
            call = call.with("clip-skip", layers);
        }
        match call.with_tensors(&[("input_ids", &parts["text/input_ids"])]).tensors() {
            Ok(got) => {
                // Row by row: an empty prompt and a full one.
                let want = &parts[&format!("text/{tensor}")];
                for row in 0..want.shape[0] {
                    let (got, want) = (got["prompt_embeds"].rows(&[row]), want.rows(&[row]));
                    verdict.norm_within(&format!("{tensor}, row {row}"), &got, &want, BOUND);
                }
            }
            Err(said) => verdict.fail(format!("{tensor}: {said}")),
        }
    }
    verdict.finish();
}

pub(crate) fn unet(name: &str) {
    let parts = recorded(name);
    let mut verdict = Verdict::new(format!("UNet of {name}"));
    for case in cases(&parts, "unet/", "noise_pred") {
        let rows = &parts[&format!("{case}/prompt_embeds_rows")].values;
        let rows: Vec<usize> = rows.iter().map(|row| *row as usize).collect();
        let context = parts["text/prompt_embeds"].rows(&rows);
        let (sample, timestep) =
            (&parts[&format!("{case}/sample")], &parts[&format!("{case}/timestep")]);
        let call = Call::new("unet").with("model", model(name));
        let inputs =
            [("sample", sample), ("timestep", timestep), ("encoder_hidden_states", &context)];
        let want = &parts[&format!("{case}/noise_pred")];
        let place = format!("{case} (shape {:?}, t {})", want.shape, timestep.values[0]);
        match call.with_tensors(&inputs).tensors() {
            Ok(got) => verdict.norm_within(&place, &got["noise_pred"], want, BOUND),
            Err(said) => verdict.fail(format!("{place}: {said}")),
        }
    }
    verdict.finish();
}

pub(crate) fn vae(name: &str) {
    let parts = recorded(name);
    let mut verdict = Verdict::new(format!("VAE of {name}"));
    for case in cases(&parts, "vae/", "z") {
        let call = Call::new("vae").with("model", model(name));
        match call.with_tensors(&[("z", &parts[&format!("{case}/z")])]).tensors() {
            Ok(got) => {
                let want = &parts[&format!("{case}/image")];
                verdict.norm_within(&format!("{case} image"), &got["image"], want, BOUND);
                verdict.one_level(
                    &format!("{case} rgb"),
                    &got["rgb"],
                    &parts[&format!("{case}/rgb")],
                );
            }
            Err(said) => verdict.fail(format!("{case}: {said}")),
        }
    }
    verdict.finish();
}
