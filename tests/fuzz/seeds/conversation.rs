//! Both sides of the talk between authd and a conversation program.

use super::{Seed, seed};
use sdrest_proto::{
    conversation::{
        AccountFacts, AccountKey, AccountQuery, Denial, FromConversation, Prompt, Purpose, Start,
        ToConversation, Verdict, encode, write_frame,
    },
    login::{Echo, MessageStyle},
    secret::Answer,
};
use serde::Serialize;

pub(super) fn seeds() -> Vec<Seed> {
    let mut seeds = Vec::new();
    both(&mut seeds, ["authd_says", "authd_stream"], &authd());
    both(&mut seeds, ["conversation_says", "conversation_stream"], &program());
    seeds
}

/// Each frame by itself, and all of them in one stream.
fn both<T: Serialize>(seeds: &mut Vec<Seed>, targets: [&'static str; 2], frames: &[T]) {
    let mut stream = Vec::new();
    for (at, frame) in frames.iter().enumerate() {
        seeds.push(seed(targets[0], &format!("frame-{at:02}"), encode(frame).unwrap()));
        write_frame(&mut stream, frame).unwrap();
    }
    seeds.push(seed(targets[1], "all", stream));
}

fn authd() -> Vec<ToConversation> {
    let start = |purpose| Start {
        service: "stable-diffusion-rest".to_owned(),
        username: "alice".to_owned(),
        rhost: Some("192.0.2.7".to_owned()),
        step_deadline_ms: 60_000,
        total_deadline_ms: 180_000,
        purpose,
    };
    let account =
        |who, service| ToConversation::Account(AccountQuery { who, service, deadline_ms: 5_000 });
    let password = || Answer::new("correct horse".to_owned());
    vec![
        ToConversation::Start(start(Purpose::SignIn)),
        ToConversation::Start(start(Purpose::ChangeExpired)),
        ToConversation::Probe { service: Some("stable-diffusion-rest".to_owned()) },
        account(AccountKey::Name("alice".to_owned()), None),
        account(AccountKey::Uid(1000), Some("stable-diffusion-rest".to_owned())),
        ToConversation::Verify {
            phc: "$argon2id$v=19$m=19456,t=2,p=1$c2FsdA$aGFzaA".to_owned(),
            password: password(),
        },
        ToConversation::Hash { password: password() },
        ToConversation::Answers(vec![password(), Answer::new("123456".to_owned())]),
    ]
}

fn program() -> Vec<FromConversation> {
    let message =
        |style| FromConversation::Message { style, text: "Your password expires soon".to_owned() };
    let facts = AccountFacts {
        username: "alice".to_owned(),
        uid: 1000,
        gid: 1000,
        groups: vec!["alice".to_owned(), "sdrest-admin".to_owned()],
    };
    vec![
        message(MessageStyle::Info),
        message(MessageStyle::Error),
        FromConversation::Prompts(vec![
            Prompt { echo: Echo::Off, text: "Password: ".to_owned() },
            Prompt { echo: Echo::On, text: "One-time code: ".to_owned() },
        ]),
        FromConversation::Verdict(Verdict::Verified(facts)),
        FromConversation::Verdict(Verdict::Denied { denial: Denial::AcctExpired, pam_code: 13 }),
        FromConversation::Probed { fault: Some("there is no such service".to_owned()), pam: true },
        FromConversation::Compared { matches: false },
        FromConversation::Hashed { phc: "$argon2id$v=19$m=19456,t=2,p=1$c2FsdA$aGFzaA".to_owned() },
    ]
}
