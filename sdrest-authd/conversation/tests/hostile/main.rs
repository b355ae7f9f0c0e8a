//! Modules that hang, crash, leave, rename, print and flood: none of them may fool authd or outlive the login. The
//! test plays authd over a socket pair; the module is compiled from `module.c` beside this file.
#![allow(clippy::unwrap_used, reason = "a test fails by its panic")]

use nix::unistd::geteuid;
use sdrest_proto::{
    conversation::{
        Denial, FromConversation, Purpose, Start, ToConversation, Verdict, read_frame, write_frame,
    },
    secret::Answer,
};
use std::{
    fs, io,
    os::{
        fd::OwnedFd,
        unix::{fs::PermissionsExt, net::UnixStream},
    },
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

const USER: &str = "games";

/// The module, compiled once; the reason where it cannot be.
fn module() -> Result<&'static PathBuf, &'static str> {
    static MODULE: OnceLock<Option<PathBuf>> = OnceLock::new();
    let compiled = MODULE.get_or_init(|| {
        let module = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("pam_hostile.so");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/hostile/module.c");
        let cc = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .arg(&module)
            .arg(source)
            .arg("-lpam")
            .status();
        cc.is_ok_and(|status| status.success()).then_some(module)
    });
    compiled.as_ref().ok_or("skipped: there is no C compiler, or the headers of libpam are missing")
}

/// One running program, and this test as authd at its other end.
struct Login {
    stream: UnixStream,
    child: Child,
    _services: tempfile::TempDir,
}

impl Login {
    fn new(auth: &str, account: &str, authd: u32) -> Self {
        let services = tempfile::tempdir().unwrap();
        let path = module().unwrap().display();
        let file = services.path().join("sdrest");
        fs::write(
            &file,
            format!("auth required {path} {auth}\naccount required {path} {account}\n"),
        )
        .unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        let (stream, other) = UnixStream::pair().unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_sdrest-conversation"))
            .args(["--min-uid", "1", "--authd-user", &authd.to_string(), "--pam-config-dir"])
            .arg(services.path())
            .env("SDREST_LEAK", "secret")
            .stdin(OwnedFd::from(other))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self { stream, child, _services: services }
    }

    fn start(auth: &str, account: &str) -> Self {
        Self::start_within(auth, account, (60_000, 60_000))
    }

    fn start_within(auth: &str, account: &str, deadlines_ms: (u32, u32)) -> Self {
        let mut login = Self::new(auth, account, geteuid().as_raw());
        login.say(&ToConversation::Start(Start {
            service: "sdrest".into(),
            username: USER.into(),
            rhost: Some("192.0.2.1".into()),
            step_deadline_ms: deadlines_ms.0,
            total_deadline_ms: deadlines_ms.1,
            purpose: Purpose::SignIn,
        }));
        login
    }

    fn say(&mut self, frame: &ToConversation) {
        write_frame(&mut self.stream, frame).unwrap();
    }

    fn hear(&mut self) -> io::Result<FromConversation> {
        read_frame(&mut self.stream)
    }

    /// The verdict, or nothing where the program ends without one.
    fn verdict(&mut self) -> Option<Verdict> {
        loop {
            match self.hear() {
                Ok(FromConversation::Verdict(verdict)) => return Some(verdict),
                Ok(_) => {}
                Err(_) => return None,
            }
        }
    }

    fn ended(&mut self) -> ExitStatus {
        let give_up = Instant::now() + Duration::from_secs(10);
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < give_up, "the program still runs");
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Login {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn denied(verdict: Option<Verdict>) -> Denial {
    match verdict {
        Some(Verdict::Denied { denial, .. }) => denial,
        other => panic!("{other:?} is no denial"),
    }
}

macro_rules! skip_without_module {
    () => {
        if let Err(why) = module() {
            eprintln!("{why}");
            return;
        }
    };
}

#[test]
fn a_good_module_verifies_and_sees_no_environment() {
    skip_without_module!();
    for mode in ["", "environment", "print", "null"] {
        let mut login = Login::start(mode, "");
        let verdict = login.verdict();
        let Some(Verdict::Verified(facts)) = verdict else { panic!("{mode}: {verdict:?}") };
        assert_eq!(facts.username, USER);
        assert!(facts.uid > 0 && !facts.groups.is_empty());
        assert!(login.ended().success());
        let mut printed = String::new();
        io::Read::read_to_string(&mut login.child.stdout.take().unwrap(), &mut printed).unwrap();
        assert_eq!(printed, "", "what a module prints goes nowhere");
    }
}

#[test]
fn a_module_that_ends_the_process_gives_no_verdict() {
    skip_without_module!();
    for mode in ["abort", "exit", "segv", "close"] {
        let mut login = Login::start(mode, "");
        assert_eq!(login.verdict(), None, "{mode}");
        login.ended();
    }
}

#[test]
fn a_module_cannot_make_somebody_else_of_the_user() {
    skip_without_module!();
    assert_eq!(denied(Login::start("rename", "").verdict()), Denial::AuthErr);
    assert_eq!(denied(Login::start("", "late-rename").verdict()), Denial::AuthErr);
}

#[test]
fn wrong_numbers_and_styles_of_messages_fail_the_login() {
    skip_without_module!();
    for mode in ["many", "none", "style"] {
        assert_eq!(denied(Login::start(mode, "").verdict()), Denial::AuthErr, "{mode}");
    }
}

#[test]
fn all_prompts_of_one_call_come_together_and_need_as_many_answers() {
    skip_without_module!();
    for (answers, good) in [(32, true), (31, false), (33, false)] {
        let mut login = Login::start("all", "");
        let Ok(FromConversation::Prompts(prompts)) = login.hear() else {
            panic!("prompts come first")
        };
        assert_eq!(prompts.len(), 32);
        login.say(&ToConversation::Answers(
            (0..answers).map(|_| Answer::new("a".repeat(511))).collect(),
        ));
        assert_eq!(
            matches!(login.verdict(), Some(Verdict::Verified(_))),
            good,
            "{answers} answers"
        );
    }
    for bad in ["nul\0".to_owned(), "a".repeat(512)] {
        let mut login = Login::start("all", "");
        login.hear().unwrap();
        login.say(&ToConversation::Answers((0..32).map(|_| Answer::new(bad.clone())).collect()));
        assert_eq!(denied(login.verdict()), Denial::AuthErr);
    }
}

#[test]
fn deadlines_and_a_hang_up_end_a_module_that_will_not() {
    skip_without_module!();
    let began = Instant::now();
    let mut login = Login::start_within("hang", "", (1000, 3000));
    assert_eq!(login.verdict(), None);
    assert!(began.elapsed() < Duration::from_secs(20), "the total deadline is 3 s");
    assert!(!login.ended().success());
    // Nobody answers.
    let began = Instant::now();
    let mut login = Login::start_within("all", "", (1000, 60_000));
    assert_eq!(login.verdict(), None);
    assert!(began.elapsed() < Duration::from_secs(20), "the deadline of a step is 1 s");
    assert!(!login.ended().success());
    // authd goes away.
    let mut login = Login::start("hang", "");
    thread::sleep(Duration::from_millis(100));
    login.stream.shutdown(std::net::Shutdown::Both).unwrap();
    let began = Instant::now();
    login.ended();
    assert!(began.elapsed() < Duration::from_secs(20), "the deadlines are 60 s");
}

#[test]
fn what_a_module_left_in_the_background_is_gone_before_the_verdict() {
    skip_without_module!();
    let mut login = Login::start("daemon", "");
    assert!(matches!(login.verdict(), Some(Verdict::Verified(_))));
    let left = fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| fs::read(entry.path().join("cmdline")).ok())
        .filter(|line| line.starts_with(b"sleep\x00765432"))
        .count();
    assert_eq!(left, 0);
}

#[test]
fn strangers_and_wrong_first_frames_are_refused() {
    skip_without_module!();
    if geteuid().is_root() {
        eprintln!("skipped in part: root may always ask");
    } else {
        let mut login = Login::new("", "", geteuid().as_raw() + 1);
        assert!(login.hear().is_err(), "another uid at the other end");
        assert!(!login.ended().success());
    }
    let mut login = Login::new("", "", geteuid().as_raw());
    login.say(&ToConversation::Answers(Vec::new()));
    assert!(login.hear().is_err());
    for bytes in [&b"\xff\xff\xff\xff"[..], b"\x04\0\0\0abcd", b"\x01\0\0\0"] {
        let mut login = Login::new("", "", geteuid().as_raw());
        io::Write::write_all(&mut login.stream, bytes).unwrap();
        login.stream.shutdown(std::net::Shutdown::Write).unwrap();
        assert!(login.hear().is_err());
        assert!(!login.ended().success());
    }
}

#[test]
fn a_probe_says_what_is_wrong() {
    skip_without_module!();
    let mut login = Login::new("", "", geteuid().as_raw());
    login.say(&ToConversation::Probe { service: Some("sdrest".into()) });
    assert!(matches!(login.hear(), Ok(FromConversation::Probed { fault: None, pam: true })));
    let mut login = Login::new("", "", geteuid().as_raw());
    login.say(&ToConversation::Probe { service: Some("not-there".into()) });
    let Ok(FromConversation::Probed { fault: Some(fault), .. }) = login.hear() else {
        panic!("a fault")
    };
    assert!(fault.contains("not-there is missing"), "{fault}");
}
