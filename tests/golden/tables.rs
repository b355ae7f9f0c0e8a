//! What a scheduler is made of: betas, cumulative products, sigmas, timesteps, and which configurations
//! and step counts are refused.

use crate::{
    probe::{Call, data, json},
    tensors::{self, Array, Tensors},
    verdict::Verdict,
};
use serde_json::Value;
use std::sync::LazyLock;

/// A case's name in the references is `KIND/SPACING/STEPS`.
fn call(config: &str, case: &str) -> Call {
    let parts: Vec<&str> = case.split('/').collect();
    let [kind, spacing, steps] = parts[..] else { panic!("{case} is no case") };
    Call::new("scheduler")
        .with("config", data(&format!("schedulers/{config}.json")))
        .with("kind", kind)
        .with("spacing", spacing)
        .with("steps", steps)
}

pub(crate) fn compare(config: &str) {
    let recorded = tensors::read(&data(&format!("schedulers/{config}.safetensors")));
    let mut verdict = Verdict::new(format!("tables of {config}"));
    for case in recorded.keys().filter_map(|name| name.strip_suffix("/timesteps")) {
        match call(config, case).tensors() {
            Ok(got) => compare_case(&mut verdict, case, &got, &recorded),
            Err(said) => verdict.fail(format!("{case}: {said}")),
        }
    }
    verdict.finish();
}

/// Equal to the last bit, where the processor is of the kind that the references were recorded on. torch leaves square
/// roots to MKL, which rounds some of them the other way on processors of another maker or another width: diffusers'
/// own tables differ by that between two machines.
fn same(verdict: &mut Verdict, place: &str, got: &Array, want: &Array) {
    static RECORDED_HERE: LazyLock<bool> = LazyLock::new(|| {
        let about = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        about.contains("GenuineIntel") && about.contains(" avx512f ")
    });
    if *RECORDED_HERE {
        verdict.equal(place, got, want);
    } else {
        verdict.norm_within(place, got, want, 1e-5);
    }
}

fn compare_case(verdict: &mut Verdict, case: &str, got: &Tensors, recorded: &Tensors) {
    let kind = case.split('/').next().unwrap_or(case);
    for table in ["betas", "alphas_cumprod"] {
        let want = recorded.get(&format!("{table}/{kind}")).unwrap_or_else(|| &recorded[table]);
        same(verdict, &format!("{case} {table}"), &got[table], want);
    }
    for table in ["timesteps", "init_noise_sigma", "sigmas"] {
        let place = format!("{case} {table}");
        match (recorded.get(&format!("{case}/{table}")), got.get(table)) {
            (Some(want), Some(got)) if table != "timesteps" && case.contains("/karras/") => {
                verdict.each_within(&place, got, want, 1e-6);
            }
            (Some(want), Some(got)) => same(verdict, &place, got, want),
            (None, None) => {}
            (want, _) => verdict.fail(format!(
                "{place}: only {} has it",
                if want.is_some() { "diffusers" } else { "sdrest" }
            )),
        }
    }
}

/// The list of tests names each recorded configuration.
pub(crate) fn every_config_is_listed(main: &str) {
    let folder = std::fs::read_dir(data("schedulers")).expect("the references");
    let names = folder.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let names: Vec<String> =
        names.filter_map(|name| name.strip_suffix(".json").map(str::to_owned)).collect();
    let missing: Vec<&String> =
        names.iter().filter(|name| !main.contains(&format!("=> \"{name}\";"))).collect();
    assert!(missing.is_empty() && names.len() > 10, "no test compares {missing:?} of {names:?}");
}

/// diffusers fails on these in the middle of a run; sdrest says so before it begins.
pub(crate) fn refusals() {
    let refused = json("refused.json");
    let refused = refused.as_array().expect("a list");
    assert!(refused.len() > 5, "{} recorded", refused.len());
    for case in refused {
        let text = |key: &str| case[key].as_str().expect("a text").to_owned();
        let name = format!("{}/{}/{}", text("kind"), text("spacing"), case["steps"]);
        let said = call(&text("config"), &name).run().err();
        let class = case["kind"].as_str();
        let named = said.as_deref().zip(class).is_some_and(|(said, class)| said.contains(class));
        assert!(named, "{case}: expected a refusal that names the class, got {said:?}");
        assert_ne!(case["steps"], Value::Null);
    }
}
