//! The front end replaced by a hostile program that has its account and its sockets. This is the side of the test
//! that starts and measures: a whole stack, alice's login and key through the real front end, which is then stopped;
//! `hostile_program.rs` is what runs in its place. What it must not get is asserted there, where it is tried; here,
//! that authd lives on as it was, and that alice still signs in.

use anyhow::{Context, Result, ensure};
use harness::{
    Api, Program, Stack,
    etc::{ALICE, service},
    is_root, skip,
};
use nix::sys::signal::Signal;
use serde_json::json;
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

/// The run folder of the stack, for the program.
pub(crate) const RUN: &str = "SDREST_TEST_HOSTILE_RUN";
/// The public half of alice's key.
pub(crate) const ALICES_KEY: &str = "SDREST_TEST_HOSTILE_KEY";
/// `sdrest-api` of the made-up /etc.
pub(crate) const FRONT_END: u32 = 60_701;
/// What authd may have grown by, in KiB.
const GROWTH: u64 = 20 * 1024;
/// Rounds of six thousand hostile frames and calls. After the third, the others may leave so much in KiB: less than
/// a hundred bytes for each frame, and no leak is that small.
const ROUNDS: usize = 8;
const FLAT: u64 = 2 * 1024;
/// Descriptors of connections that are being closed.
const DESCRIPTORS: usize = 5;

/// Short deadlines: what a conversation holds is to be gone while the test waits.
fn with_short_deadlines(etc: &Path) -> Result<()> {
    fs::create_dir_all(etc.join("sdrest"))?;
    fs::write(
        etc.join("sdrest/sdrest.toml"),
        "[authd]\nfailure_floor_ms = 300\nstep_deadline_seconds = 10\ntotal_deadline_seconds = 20\n",
    )?;
    Ok(())
}

/// Who holds authd's sockets cannot take what was not shown to it.
#[test]
fn a_front_end_that_turns_hostile_gains_nobody() -> Result<()> {
    if !is_root() {
        skip("only root can give the front end an account of its own");
        return Ok(());
    }
    let mut stack =
        Stack::builder().pam_service(service::PLAIN).edit_etc(with_short_deadlines).start()?;
    let alice = stack.api().login(ALICE.name, ALICE.password)?;
    let wish = json!({ "name": "a key of alice" });
    let made = alice.post("/api/v1/auth/api-keys", &wish)?.expect(201)?;
    let key = made["api_key"].as_str().context("no key")?.to_owned();
    let id = made["key"]["id"].as_str().context("no id")?.to_owned();
    // A session that has ended: its id is among the revocations, which the program may read.
    let ended = stack.api().login(ALICE.name, ALICE.password)?;
    ensure!(ended.post("/api/v1/auth/logout", &json!({}))?.status < 300, "the logout failed");

    let program = program_for_the_front_end(&stack)?;
    let api = stack.kill(Program::Api, Signal::SIGSTOP)?;
    let before = Authd::of(&stack)?;
    run(&stack, &program, ("hostile_program::with_the_front_ends_socket", &id))?;
    run(&stack, &program, ("hostile_program::at_the_other_doors", &id))?;
    open_the_other_doors(&stack)?;
    run(&stack, &program, ("hostile_program::at_the_other_doors_when_their_modes_are_wrong", &id))?;
    run(&stack, &program, ("hostile_flood::floods", &id))?;
    stack.wait_until("authd has closed what it had opened", Duration::from_secs(120), || {
        let now = Authd::of(&stack).ok()?;
        (now.descriptors <= before.descriptors + DESCRIPTORS).then_some(())
    })?;
    let after = Authd::of(&stack)?;
    eprintln!("authd before {before:?}, after {after:?}");
    ensure!(after.pid == before.pid, "authd did not live through it");
    ensure!(after.resident <= before.resident + GROWTH, "authd grew: {before:?}, {after:?}");
    stays_as_it_is_over_thousands_of_frames(&stack, &program)?;

    ensure!(stack.kill(Program::Api, Signal::SIGCONT)? == api, "another front end");
    let again = stack.api().login(ALICE.name, ALICE.password)?;
    again.get("/api/v1/auth/me")?.expect(200)?;
    with_key(&stack.api(), &key)?;
    stack.stop()?;
    let log = stack.log();
    for door in ["authd-admin", "conversation.sock", "chauthtok.sock"] {
        ensure!(
            log.lines().any(|line| line.contains(door) && line.contains("60701")),
            "the log does not tell who was refused at {door}"
        );
    }
    Ok(())
}

/// The first rounds may fill what is kept for all connections together; after that nothing is left of a round.
fn stays_as_it_is_over_thousands_of_frames(stack: &Stack, program: &Path) -> Result<()> {
    let mut sizes = Vec::new();
    for _ in 0..ROUNDS {
        run(stack, program, ("hostile_flood::thousands_of_frames", ""))?;
        sizes.push(Authd::of(stack)?.resident);
    }
    eprintln!("authd after each six thousand frames, in KiB: {sizes:?}");
    ensure!(sizes[ROUNDS - 1] <= sizes[2] + FLAT, "authd grows with each round: {sizes:?} KiB");
    Ok(())
}

fn with_key(api: &Api, key: &str) -> Result<()> {
    let me = api.request("GET", "/api/v1/auth/me", &[("X-API-Key", key)], None)?.expect(200)?;
    ensure!(me["user"]["username"] == ALICE.name, "not alice: {me}");
    Ok(())
}

/// What the kernel says of authd.
#[derive(Debug)]
struct Authd {
    pid: i32,
    /// In KiB.
    resident: u64,
    descriptors: usize,
}

impl Authd {
    fn of(stack: &Stack) -> Result<Self> {
        let pid = stack.process(Program::Authd).context("authd does not run")?.pid;
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let resident = resident.and_then(|text| text.split_whitespace().next()?.parse().ok());
        Ok(Self {
            pid,
            resident: resident.context("no VmRSS")?,
            descriptors: fs::read_dir(format!("/proc/{pid}/fd"))?.count(),
        })
    }
}

/// This test's own program, where the front end's account can reach it; and the way to the sockets, whose own owners
/// and modes stay as `serve` made them. The real front end has them in its view of the file system.
fn program_for_the_front_end(stack: &Stack) -> Result<PathBuf> {
    let run = stack.run_dir();
    let folder = run.parent().context("no folder")?;
    for on_the_way in [folder, &run] {
        fs::set_permissions(on_the_way, fs::Permissions::from_mode(0o711))?;
    }
    let program = folder.join("hostile");
    // By another program: a child that another test starts while this one holds the copy open for writing has it
    // open too, and then it cannot be run.
    let copied = Command::new("cp").arg(std::env::current_exe()?).arg(&program).status()?;
    ensure!(copied.success(), "cp: {copied}");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    Ok(program)
}

fn open_the_other_doors(stack: &Stack) -> Result<()> {
    for socket in ["authd-admin.sock", "conversation.sock", "chauthtok.sock"] {
        let path = stack.run_dir().join(socket);
        fs::set_permissions(path, fs::Permissions::from_mode(0o666))?;
    }
    Ok(())
}

/// One part of the hostile program, with the front end's uid, gid and groups.
fn run(stack: &Stack, program: &Path, (part, key): (&str, &str)) -> Result<()> {
    let id = FRONT_END.to_string();
    let output = Command::new("setpriv")
        .args(["--reuid", &id, "--regid", &id, "--clear-groups", "--no-new-privs"])
        .args(["--inh-caps=-all", "--bounding-set=-all", "--"])
        .arg(program)
        .args(["--ignored", "--exact", "--nocapture", "--test-threads=1", part])
        .current_dir("/")
        .env(RUN, stack.run_dir())
        .env(ALICES_KEY, key)
        .output()?;
    let told = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    eprintln!("{told}");
    ensure!(output.status.success() && told.contains("1 passed"), "{part}: {told}");
    Ok(())
}
