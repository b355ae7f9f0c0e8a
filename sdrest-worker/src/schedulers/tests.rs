//! What the golden tests do not show of this room: that it refuses what it does not do, by name, and what
//! diffusers itself fails on, and that its runs go in order. The numbers are compared with diffusers' in
//! `tests/golden`, through `sdrest-probe`.

use super::{SchedulerConfig, SchedulerError, build};
use sdrest_proto::sampling::{SchedulerKind, SigmaSchedule};
use tch::{Device, Kind, Tensor};

const DEFAULT: SigmaSchedule = SigmaSchedule::Default;

fn refusal(json: &str, kind: SchedulerKind) -> String {
    let config = SchedulerConfig::from_json(json).expect("JSON");
    build(&config, kind, DEFAULT, 4).err().map_or_else(|| "taken".to_owned(), |e| e.to_string())
}

#[test]
fn a_refusal_names_class_key_and_value() {
    let cases = [
        (r#"{"beta_schedule":"sigmoid"}"#, "`beta_schedule`", "\"sigmoid\""),
        (r#"{"prediction_type":"flow_prediction"}"#, "`prediction_type`", "\"flow_prediction\""),
        (r#"{"timestep_spacing":7}"#, "`timestep_spacing`", "7"),
        (r#"{"num_train_timesteps":100000000000}"#, "`num_train_timesteps`", "100000000000"),
        (r#"{"num_train_timesteps":0}"#, "`num_train_timesteps`", "0"),
        (r#"{"beta_start":"x"}"#, "`beta_start`", "\"x\""),
        (r#"{"beta_end":NaN}"#, "`beta_end`", "NaN"),
        (r#"{"beta_end":5.0}"#, "`beta_end`", "5.0"),
        (r#"{"trained_betas":[0.1,0.2]}"#, "`trained_betas`", "[0.1,0.2]"),
        (r#"{"rescale_betas_zero_snr":"yes"}"#, "`rescale_betas_zero_snr`", "\"yes\""),
    ];
    for kind in SchedulerKind::ALL {
        for (json, key, value) in cases {
            let text = refusal(json, kind);
            assert!(
                text.contains(key) && text.contains(value) && text.contains(kind.class_name()),
                "{text}"
            );
        }
    }
}

#[test]
fn what_is_not_done_is_refused() {
    let (euler, dpm) = (SchedulerKind::EulerDiscrete, SchedulerKind::DpmSolverMultistep);
    for (kind, json) in [
        (euler, r#"{"interpolation_type":"log_linear"}"#),
        (euler, r#"{"use_beta_sigmas":true}"#),
        (euler, r#"{"timestep_type":"continuous","prediction_type":"v_prediction"}"#),
        (dpm, r#"{"algorithm_type":"sde-dpmsolver++"}"#),
        (dpm, r#"{"solver_order":3}"#),
        (dpm, r#"{"use_lu_lambdas":true}"#),
        (dpm, r#"{"variance_type":"learned_range"}"#),
        (dpm, r#"{"lambda_min_clipped":Infinity}"#),
        (SchedulerKind::Ddim, r#"{"thresholding":true}"#),
    ] {
        let key = json.split('"').nth(1).expect("a key");
        let text = refusal(json, kind);
        assert!(text.contains(&format!("`{key}`")), "{json}: {text}");
    }
}

#[test]
fn keys_of_other_classes_are_passed_over() {
    let others = r#"{"skip_prk_steps":true,"solver_order":9,"interpolation_type":"log_linear","x":{"y":[1]}}"#;
    assert_eq!(refusal(others, SchedulerKind::Ddim), "taken");
    assert_eq!(refusal(others, SchedulerKind::EulerAncestralDiscrete), "taken");
}

#[test]
fn python_numbers_are_read_and_texts_are_left_alone() {
    let json =
        r#"{"lambda_min_clipped": -Infinity, "note": "NaN \" Infinity", "more": [NaN, Infinity]}"#;
    assert_eq!(refusal(json, SchedulerKind::DpmSolverMultistep), "taken");
    assert!(matches!(SchedulerConfig::from_json("[1]"), Err(SchedulerError::Json(_))));
    assert!(matches!(SchedulerConfig::from_json("{\"a\": \"\\"), Err(SchedulerError::Json(_))));
}

#[test]
fn pairs_and_step_counts_out_of_bounds_are_refused() {
    let config = SchedulerConfig::default();
    for kind in [SchedulerKind::Ddim, SchedulerKind::EulerAncestralDiscrete] {
        let error =
            build(&config, kind, SigmaSchedule::Karras, 4).err().expect("refused").to_string();
        assert!(error.contains(kind.class_name()) && error.contains("Karras"), "{error}");
    }
    for kind in SchedulerKind::ALL {
        for steps in [0, 1001, u32::MAX] {
            let error = build(&config, kind, DEFAULT, steps).err().expect("refused").to_string();
            assert!(
                error.contains("num_inference_steps") && error.contains(&steps.to_string()),
                "{error}"
            );
        }
    }
}

#[test]
fn steps_come_in_order_and_end() {
    let sample = Tensor::zeros([1, 4, 2, 2], (Kind::Float, Device::Cpu));
    for kind in SchedulerKind::ALL {
        let mut run = build(&SchedulerConfig::default(), kind, DEFAULT, 2).expect("a run");
        let mut step = |index| run.step(&sample, index, &sample, Some(&sample));
        assert!(matches!(
            step(1),
            Err(SchedulerError::OutOfOrder { index: 1, expected: 0, count: 2 })
        ));
        assert!(step(0).is_ok());
        assert!(matches!(step(0), Err(SchedulerError::OutOfOrder { .. })));
        assert!(step(1).is_ok());
        assert!(matches!(step(2), Err(SchedulerError::OutOfOrder { .. })));
    }
}

#[test]
fn a_step_without_its_noise_or_with_another_shape_is_an_error() {
    let sample = Tensor::zeros([1, 4, 2, 2], (Kind::Float, Device::Cpu));
    let other = Tensor::zeros([1, 4, 3, 2], (Kind::Float, Device::Cpu));
    let config = SchedulerConfig::default();
    let mut run = build(&config, SchedulerKind::EulerAncestralDiscrete, DEFAULT, 2).expect("a run");
    assert!(run.takes_noise(0) && run.takes_noise(1) && !run.takes_noise(2));
    assert!(matches!(run.step(&sample, 0, &sample, None), Err(SchedulerError::NoiseMissing(0))));
    for kind in SchedulerKind::ALL {
        let mut run = build(&config, kind, DEFAULT, 2).expect("a run");
        assert!(matches!(
            run.step(&other, 0, &sample, Some(&sample)),
            Err(SchedulerError::Tensor(_))
        ));
    }
}

/// A half-precision sample stays one, though the step is computed in float32.
#[test]
fn the_dtype_of_the_model_is_kept() {
    let sample = Tensor::ones([1, 4, 2, 2], (Kind::BFloat16, Device::Cpu));
    for kind in SchedulerKind::ALL {
        let mut run = build(&SchedulerConfig::default(), kind, DEFAULT, 2).expect("a run");
        let next = run.step(&sample, 0, &sample, Some(&sample)).expect("a step");
        assert_eq!(
            (next.kind(), run.scale_model_input(&next, 1).expect("scaled").kind()),
            (sample.kind(), sample.kind())
        );
    }
}
