//! Each scheduler's walk over recorded random model outputs: every sample on the way, within 1e-5.

use crate::{
    probe::{Call, data},
    tensors::{self, Array, Tensors},
    verdict::Verdict,
};

const BOUND: f64 = 1e-5;

pub(crate) fn compare(config: &str) {
    let recorded = tensors::read(&data("loops.safetensors"));
    let mut verdict = Verdict::new(format!("loops of {config}"));
    let prefix = format!("{config}/");
    for name in recorded.keys().filter(|name| name.starts_with(&prefix)) {
        let Some(case) = name.strip_suffix("/samples") else { continue };
        match walk(config, case, &recorded) {
            Ok(got) => {
                for table in ["samples", "scaled"] {
                    if let Some(want) = recorded.get(&format!("{case}/{table}")) {
                        compare_steps(&mut verdict, &format!("{case} {table}"), &got[table], want);
                    }
                }
            }
            Err(said) => verdict.fail(format!("{case}: {said}")),
        }
    }
    verdict.finish();
}

/// `case` is `CONFIG/KIND/SPACING/STEPS`.
fn walk(config: &str, case: &str, recorded: &Tensors) -> Result<Tensors, String> {
    let parts: Vec<&str> = case.split('/').collect();
    let [_, kind, spacing, steps] = parts[..] else { panic!("{case} is no case") };
    let count: Vec<usize> = (0..steps.parse().expect("a number")).collect();
    let (model_output, noise) =
        (recorded["model_output"].rows(&count), recorded["noise"].rows(&count));
    Call::new("scheduler-loop")
        .with("config", data(&format!("schedulers/{config}.json")))
        .with("kind", kind)
        .with("spacing", spacing)
        .with("steps", steps)
        .with_tensors(&[
            ("sample", &recorded["sample"]),
            ("model_output", &model_output),
            ("noise", &noise),
        ])
        .tensors()
}

/// Step by step: an error in a quiet last step must not hide behind a loud first one.
fn compare_steps(verdict: &mut Verdict, place: &str, got: &Array, want: &Array) {
    if got.shape != want.shape {
        return verdict
            .fail(format!("{place}: shape {:?}, diffusers' is {:?}", got.shape, want.shape));
    }
    for step in 0..want.shape[0] {
        verdict.norm_within(
            &format!("{place}, step {step}"),
            &got.rows(&[step]),
            &want.rows(&[step]),
            BOUND,
        );
    }
}
