//! Internal passwords (argon2id) as authd asks for them: one question, one answer, one process.

use crate::{
    place::Place,
    talk::{Launch, Talk},
};
use sdrest_proto::{
    conversation::{FromConversation, ToConversation},
    secret::Answer,
};

fn answer(text: &str) -> Answer {
    Answer::new(text.to_owned())
}

fn hash(place: &Place, password: &str) -> Option<String> {
    let frame = ToConversation::Hash { password: answer(password) };
    match Talk::whole(place, Launch::default(), &frame).hear() {
        Ok(FromConversation::Hashed { phc }) => Some(phc),
        Ok(other) => panic!("{other:?}"),
        Err(_) => None,
    }
}

fn matches(place: &Place, phc: &str, password: &str) -> bool {
    let frame = ToConversation::Verify { phc: phc.to_owned(), password: answer(password) };
    match Talk::whole(place, Launch::default(), &frame).hear() {
        Ok(FromConversation::Compared { matches }) => matches,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_record_is_made_compared_and_hostile_ones_are_wrong_passwords() {
    let Some(place) = Place::new() else { return };
    let record = hash(&place, "correct horse").unwrap();
    assert!(record.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{record}");
    assert!(matches(&place, &record, "correct horse"));
    for wrong in ["correct hors", "correct horse ", "", &"x".repeat(100_000)] {
        assert!(!matches(&place, &record, wrong), "{} bytes", wrong.len());
    }
    let hostile = |from: &str, to: &str| record.replace(from, to);
    for record in [
        String::new(),
        "$6$salt$hash".to_owned(),
        hostile("m=19456", "m=4294967295"),
        hostile("t=2", "t=4294967295"),
        hostile("p=1", "p=16777215"),
        hostile("argon2id", "argon2d"),
        "$".repeat(200_000),
    ] {
        assert!(!matches(&place, &record, "correct horse"));
    }
    for nothing in ["", &"x".repeat(512)] {
        assert_eq!(hash(&place, nothing), None, "no record is made of {} bytes", nothing.len());
    }
}
