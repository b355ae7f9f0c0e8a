//! One conversation program over a made-up /etc, with the test as authd at the other end of its standard input: the
//! frames themselves, before any daemon.

use crate::place::Place;
use harness::programs;
use sdrest_proto::{
    conversation::{
        AccountKey, AccountQuery, FromConversation, Purpose, Start, ToConversation, Verdict,
        read_frame, write_frame,
    },
    secret::Answer,
};
use std::{
    io::{self, Read},
    os::{fd::OwnedFd, unix::net::UnixStream},
    process::{Child, ExitStatus, Stdio},
    thread,
    time::{Duration, Instant},
};

/// Longer than any deadline that a test sets.
const PATIENCE: Duration = Duration::from_secs(30);

/// How the program is started.
#[derive(Clone, Copy, Default)]
pub(crate) struct Launch<'a> {
    pub(crate) flags: &'a [&'a str],
    /// Put before the program, as `setpriv` is.
    pub(crate) wrapper: &'a [&'a str],
}

pub(crate) struct Talk {
    pub(crate) stream: UnixStream,
    /// Nothing where systemd started it.
    child: Option<Child>,
}

/// What a person saw, and how it ended: `ok`, the denial, or `gone` where the program ended without a verdict.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) end: String,
    pub(crate) prompts: Vec<String>,
    pub(crate) texts: Vec<String>,
    pub(crate) verdict: Option<Verdict>,
}

pub(crate) fn sign_in(service: &str, user: &str) -> ToConversation {
    start(service, user, Purpose::SignIn)
}

pub(crate) fn start(service: &str, user: &str, purpose: Purpose) -> ToConversation {
    ToConversation::Start(Start {
        service: service.to_owned(),
        username: user.to_owned(),
        rhost: Some("192.0.2.1".to_owned()),
        step_deadline_ms: 5000,
        total_deadline_ms: 20_000,
        purpose,
    })
}

pub(crate) fn account(who: AccountKey, service: Option<&str>) -> ToConversation {
    let service = service.map(str::to_owned);
    ToConversation::Account(AccountQuery { who, service, deadline_ms: 5000 })
}

impl Talk {
    pub(crate) fn launch(place: &Place, launch: Launch<'_>) -> Self {
        let (stream, other) = UnixStream::pair().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let program = programs::find("sdrest-conversation").unwrap();
        let mut words: Vec<std::ffi::OsString> =
            place.with_libraries().into_iter().map(Into::into).collect();
        words.extend(launch.wrapper.iter().map(Into::into));
        words.push(program.into());
        let child = place
            .etc
            .command(&words[0])
            .args(&words[1..])
            .args(["--authd-user", "0"])
            .args(launch.flags)
            .stdin(OwnedFd::from(other))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self { stream, child: Some(child) }
    }

    /// With a program that somebody else starts for this connection.
    pub(crate) fn over(stream: UnixStream, first: &ToConversation) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut talk = Self { stream, child: None };
        talk.say(first);
        talk
    }

    /// Launches it and says the first frame.
    pub(crate) fn whole(place: &Place, launch: Launch<'_>, first: &ToConversation) -> Self {
        let mut talk = Self::launch(place, launch);
        talk.say(first);
        talk
    }

    pub(crate) fn say(&mut self, frame: &ToConversation) {
        write_frame(&mut self.stream, frame).unwrap();
    }

    pub(crate) fn answer(&mut self, texts: &[&str]) {
        let answers = texts.iter().map(|text| Answer::new((*text).to_owned())).collect();
        self.say(&ToConversation::Answers(answers));
    }

    pub(crate) fn hear(&mut self) -> io::Result<FromConversation> {
        read_frame(&mut self.stream)
    }

    /// The texts of the next prompts; what is told before is skipped.
    pub(crate) fn prompted(&mut self) -> Vec<String> {
        loop {
            match self.hear().unwrap() {
                FromConversation::Prompts(prompts) => {
                    return prompts.into_iter().map(|prompt| prompt.text).collect();
                }
                FromConversation::Message { .. } => {}
                other => panic!("{other:?} is no prompt"),
            }
        }
    }

    /// Gives the answers one after another, each to one prompt, and hangs up where they do not suffice.
    pub(crate) fn go(&mut self, answers: &[&str]) -> Seen {
        let mut left = answers.iter();
        let mut seen = Seen { end: "gone".into(), prompts: vec![], texts: vec![], verdict: None };
        loop {
            match self.hear() {
                Ok(FromConversation::Message { text, .. }) => seen.texts.push(text),
                Ok(FromConversation::Prompts(prompts)) => {
                    let given: Vec<&str> = left.by_ref().take(prompts.len()).copied().collect();
                    let enough = given.len() == prompts.len();
                    seen.prompts.extend(prompts.into_iter().map(|prompt| prompt.text));
                    if !enough {
                        seen.end = "unanswered".to_owned();
                        self.hang_up();
                        return seen;
                    }
                    self.answer(&given);
                }
                Ok(FromConversation::Verdict(verdict)) => {
                    seen.end = match &verdict {
                        Verdict::Verified(_) => "ok".to_owned(),
                        Verdict::Denied { denial, .. } => format!("{denial:?}"),
                    };
                    seen.verdict = Some(verdict);
                    return seen;
                }
                Ok(other) => panic!("{other:?} is no part of a login"),
                Err(_) => return seen,
            }
        }
    }

    pub(crate) fn hang_up(&self) {
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
    }

    /// Waits for the program's end: how, and everything that it wrote.
    pub(crate) fn ended(&mut self) -> (ExitStatus, String) {
        let child = self.child.as_mut().unwrap();
        let give_up = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < give_up, "the program still runs");
            thread::sleep(Duration::from_millis(5));
        };
        let mut written = String::new();
        child.stdout.take().unwrap().read_to_string(&mut written).unwrap();
        child.stderr.take().unwrap().read_to_string(&mut written).unwrap();
        (status, written)
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A whole login with these answers.
pub(crate) fn login(place: &Place, service: &str, user: &str, answers: &[&str]) -> Seen {
    Talk::whole(place, Launch::default(), &sign_in(service, user)).go(answers)
}

/// A whole login that may change an expired password.
pub(crate) fn change(place: &Place, service: &str, user: &str, answers: &[&str]) -> Seen {
    let launch = Launch { flags: &["--change-expired"], wrapper: &[] };
    Talk::whole(place, launch, &start(service, user, Purpose::ChangeExpired)).go(answers)
}
