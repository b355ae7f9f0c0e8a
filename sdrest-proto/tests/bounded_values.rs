//! Wire types check themselves while they are decoded, and say what was wrong in words.
#![allow(clippy::unwrap_used, reason = "a test may end at any failure")]

use bincode::Options;
use proptest::prelude::*;
use sdrest_proto::{
    bounds::{Dimension, GuidanceScale, ModelName, Prompt, Seed, Steps, Username},
    conversation::{self, FromConversation, ToConversation},
    generation::check_pair,
    identity::{Permission, Role, Subject},
    image::Rgb8Image,
    sampling::{SchedulerKind, SigmaSchedule},
    secret::Answer,
};

fn decode<T: serde::de::DeserializeOwned>(value: &impl serde::Serialize) -> Result<T, String> {
    let options = bincode::DefaultOptions::new();
    let bytes = options.serialize(value).unwrap();
    bincode::DefaultOptions::new().deserialize(&bytes).map_err(|error| error.to_string())
}

#[test]
fn a_hostile_value_is_refused_while_it_is_decoded_and_named() {
    let error = decode::<Steps>(&100_000u64).unwrap_err();
    assert!(
        error.contains("`num_inference_steps` must be between 1 and 150, got 100000"),
        "{error}"
    );
    let error = decode::<Dimension>(&100u64).unwrap_err();
    assert!(error.contains("a multiple of 8, got 100"), "{error}");
    assert!(decode::<GuidanceScale>(&f64::NAN).is_err());
    assert!(decode::<GuidanceScale>(&f64::INFINITY).is_err());
    assert!(decode::<Seed>(&u64::MAX).is_err());
    for name in ["", ".hidden", "../etc", "a/b", "a\0b", "a\nb"] {
        assert!(decode::<ModelName>(&name).is_err(), "{name:?}");
    }
    assert!(decode::<Prompt>(&"x".repeat(10_001)).is_err());
    assert!(decode::<Prompt>(&"ü".repeat(10_000)).is_ok());
    assert!(decode::<Username>(&"a\u{1b}[2J").is_err());
    assert!(decode::<Rgb8Image>(&(2u32, 2u32, serde_bytes::Bytes::new(&[0; 11]))).is_err());
    assert!(decode::<Rgb8Image>(&(u32::MAX, u32::MAX, serde_bytes::Bytes::new(&[]))).is_err());
    assert!(decode::<Subject>(&"root").is_err());
}

#[test]
fn a_value_quoted_in_an_error_is_short_and_without_control_characters() {
    let error =
        Username::try_from(format!("\u{1b}]0;{}", "x".repeat(500))).unwrap_err().to_string();
    assert!(error.len() < 200 && !error.contains('\u{1b}'), "{error}");
}

#[test]
fn pairs_without_a_flag_in_diffusers_are_refused_with_those_that_work() {
    for kind in SchedulerKind::ALL {
        assert!(check_pair(kind, SigmaSchedule::Default).is_ok());
    }
    let error = check_pair(SchedulerKind::Ddim, SigmaSchedule::Karras).unwrap_err().to_string();
    assert!(
        error.contains("EulerDiscreteScheduler") && error.contains("DPMSolverMultistepScheduler"),
        "{error}"
    );
}

#[test]
fn secrets_do_not_print() {
    let answer = Answer::new("correct horse".to_owned());
    assert!(!format!("{answer:?}").contains("horse"));
    let frame = ToConversation::Answers(vec![Answer::new("correct horse".to_owned())]);
    assert!(!format!("{frame:?}").contains("horse"));
}

#[test]
fn higher_roles_may_all_that_lower_ones_may() {
    for pair in Role::ALL.windows(2) {
        for permission in Permission::ALL {
            assert!(!pair[0].may(permission) || pair[1].may(permission));
        }
    }
    assert!(!Role::Guest.may(Permission::Generate));
    assert!(Role::User.may(Permission::Generate) && !Role::User.may(Permission::ModelsManage));
}

proptest! {
    #[test]
    fn conversation_frames_survive_any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = conversation::decode::<FromConversation>(&bytes);
        let _ = conversation::decode::<ToConversation>(&bytes);
        let _ = conversation::read_frame::<FromConversation>(&mut bytes.as_slice());
    }

    #[test]
    fn answers_arrive_as_they_were_sent(texts in proptest::collection::vec(".{0,80}", 0..8)) {
        let frame = ToConversation::Answers(texts.iter().cloned().map(Answer::new).collect());
        let mut wire = Vec::new();
        conversation::write_frame(&mut wire, &frame).unwrap();
        let ToConversation::Answers(back) = conversation::read_frame(&mut wire.as_slice()).unwrap() else {
            panic!("another frame came back");
        };
        let back: Vec<&str> = back.iter().map(|answer| answer.expose("comparing with what was sent")).collect();
        prop_assert_eq!(back, texts);
    }
}
