//! Final pictures of whole runs, from the prompt's text to bytes: at most one level apart in any pixel.
//! Several pictures of one run lie under each other in one PNG; where a run of one picture came out as the
//! first of three did, its file is theirs.

use crate::{
    probe::{Call, data, json, model},
    tensors::Array,
    verdict::Verdict,
};
use safetensors::Dtype;
use serde_json::Value;
use std::{fs::File, io::BufReader};

pub(crate) fn compare(name: &str, kind: &str, spacing: &str) {
    let listed = json("pictures.json");
    let mut verdict = Verdict::new(format!("pictures of {name}, {kind}, {spacing}"));
    let ours =
        |case: &&Value| case["model"] == name && case["kind"] == kind && case["spacing"] == spacing;
    for case in listed.as_array().expect("a list").iter().filter(ours) {
        let place = format!(
            "{} of {}x{}, guidance {}, {} steps",
            case["num_images"],
            case["width"],
            case["height"],
            case["guidance_scale"],
            case["steps"]
        );
        match draw(case).tensors() {
            Ok(got) => {
                // One by one, so that a failure says which.
                let want = recorded(case);
                for image in 0..want.shape[0].min(got["images"].shape[0]) {
                    let (got, want) = (got["images"].rows(&[image]), want.rows(&[image]));
                    verdict.one_level(&format!("{place}, image {image}"), &got, &want);
                }
                if want.shape[0] != got["images"].shape[0] {
                    verdict.fail(format!("{place}: {} images", got["images"].shape[0]));
                }
            }
            Err(said) => verdict.fail(format!("{place}: {said}")),
        }
    }
    verdict.finish();
}

fn draw(case: &Value) -> Call {
    let text = |key: &str| case[key].as_str().expect("a text").to_owned();
    let mut call = Call::new("draw").with("model", model(&text("model")));
    for (option, key) in [
        ("prompt", "prompt"),
        ("negative-prompt", "negative_prompt"),
        ("scheduler", "kind"),
        ("spacing", "spacing"),
    ] {
        call = call.with(option, text(key));
    }
    for (option, key) in [
        ("width", "width"),
        ("height", "height"),
        ("steps", "steps"),
        ("guidance-scale", "guidance_scale"),
        ("seed", "seed"),
        ("num-images", "num_images"),
    ] {
        call = call.with(option, case[key].to_string());
    }
    call
}

/// The case's pictures: (num_images, height, width, 3).
fn recorded(case: &Value) -> Array {
    let path = data("pictures").join(case["file"].as_str().expect("a file"));
    let file = File::open(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut reader = png::Decoder::new(BufReader::new(file)).read_info().expect("a PNG");
    let mut pixels = vec![0; reader.output_buffer_size().expect("its size")];
    let frame = reader.next_frame(&mut pixels).expect("its pixels");
    assert_eq!((frame.color_type, frame.bit_depth), (png::ColorType::Rgb, png::BitDepth::Eight));
    let whole = |key: &str| case[key].as_u64().expect("a number") as usize;
    let shape = vec![whole("num_images"), whole("height"), whole("width"), 3];
    let size: usize = shape.iter().product();
    Array {
        dtype: Dtype::U8,
        shape,
        values: pixels[..size].iter().map(|byte| f64::from(*byte)).collect(),
    }
}
