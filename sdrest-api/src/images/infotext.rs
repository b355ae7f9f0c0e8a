//! The text that A1111 writes into a picture under `parameters` (its modules/processing.py,
//! create_infotext; quoting as in infotext_utils.quote), so that its tools read sdrest's pictures. It says
//! what was asked for and what drew it; never who asked, where, or when.

use crate::names::{sampler_label, spacing_label};
use sdrest_proto::{BUILD, generation::GenerationRequest};

/// The text of picture `index` of a request. `model_hash` is the first ten hex digits of the weights' SHA-256.
pub fn infotext(request: &GenerationRequest, index: u32, model_hash: Option<&str>) -> String {
    let mut lines = vec![request.prompt.as_str().to_owned()];
    if !request.negative_prompt.as_str().is_empty() {
        lines.push(format!("Negative prompt: {}", request.negative_prompt));
    }
    let fields: Vec<String> = fields(request, index, model_hash)
        .into_iter()
        .map(|(name, value)| format!("{name}: {}", quoted(&value)))
        .collect();
    lines.push(fields.join(", "));
    lines.join("\n")
}

fn fields(
    request: &GenerationRequest,
    index: u32,
    model_hash: Option<&str>,
) -> Vec<(&'static str, String)> {
    let mut fields = vec![
        ("Steps", request.num_inference_steps.to_string()),
        ("Sampler", sampler_label(request.scheduler).to_owned()),
        ("Schedule type", spacing_label(request.sigma_schedule).to_owned()),
        ("CFG scale", request.guidance_scale.get().to_string()),
        ("Seed", (request.seed.get() + u64::from(index)).to_string()),
        ("Size", format!("{}x{}", request.width, request.height)),
    ];
    if let Some(hash) = model_hash {
        fields.push(("Model hash", hash.to_owned()));
    }
    fields.push(("Model", request.model.to_string()));
    if let Some(skip) = request.clip_skip {
        // A1111 counts the layer that is used from the end; diffusers counts those that are left out.
        fields.push(("Clip skip", (skip.get() + 1).to_string()));
    }
    fields.push(("Version", BUILD.to_owned()));
    fields
}

/// A value that a reader could cut in the wrong place becomes a JSON string.
fn quoted(value: &str) -> String {
    if value.contains([',', '\n', ':']) {
        return serde_json::Value::from(value).to_string();
    }
    value.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use sdrest_proto::{
        bounds::{ClipSkip, Dimension, GuidanceScale, ImageCount, ModelName, Prompt, Seed, Steps},
        sampling::{SchedulerKind, SigmaSchedule},
    };

    fn request() -> GenerationRequest {
        GenerationRequest {
            model: ModelName::try_from("sd, v1: best".to_owned()).unwrap(),
            prompt: Prompt::try_from("a red circle, (soft:1.2)\non white".to_owned()).unwrap(),
            negative_prompt: Prompt::try_from("blue".to_owned()).unwrap(),
            width: Dimension::try_from(512).unwrap(),
            height: Dimension::try_from(768).unwrap(),
            num_inference_steps: Steps::try_from(20).unwrap(),
            guidance_scale: GuidanceScale::try_from(7.0).unwrap(),
            scheduler: SchedulerKind::DpmSolverMultistep,
            sigma_schedule: SigmaSchedule::Karras,
            seed: Seed::try_from(41).unwrap(),
            num_images: ImageCount::try_from(2).unwrap(),
            clip_skip: Some(ClipSkip::try_from(1).unwrap()),
        }
    }

    #[test]
    fn it_reads_as_a1111_writes_it() {
        let expected = "a red circle, (soft:1.2)\non white\nNegative prompt: blue\nSteps: 20, Sampler: DPM++ 2M, \
                        Schedule type: Karras, CFG scale: 7, Seed: 42, Size: 512x768, Model hash: 0123456789, \
                        Model: \"sd, v1: best\", Clip skip: 2, Version: sdrest 0.1.0";
        assert_eq!(infotext(&request(), 1, Some("0123456789")), expected);
    }

    #[test]
    fn what_is_absent_is_left_out() {
        let plain = GenerationRequest {
            model: ModelName::try_from("demo".to_owned()).unwrap(),
            negative_prompt: Prompt::empty(),
            guidance_scale: GuidanceScale::try_from(7.5).unwrap(),
            clip_skip: None,
            ..request()
        };
        let text = infotext(&plain, 0, None);
        let last = text.lines().last().unwrap();
        assert!(!text.contains("Negative prompt"));
        assert_eq!(
            last,
            "Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7.5, Seed: 41, Size: 512x768, \
             Model: demo, Version: sdrest 0.1.0"
        );
    }
}
