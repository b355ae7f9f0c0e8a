//! `kill -9` of each program at random moments while jobs run: every job that was answered 202 ends `done`
//! exactly once, with the bytes that an undisturbed run gives.

use crate::{alone, drawing};
use anyhow::{Context, Result, ensure};
use harness::{Api, Job, Program, Stack, etc::ALICE};
use nix::sys::signal::Signal;
use std::{
    net::TcpListener,
    os::unix::net::UnixListener,
    thread::sleep,
    time::{Duration, Instant},
};

const ROUNDS: u64 = 10;
const JOBS: u64 = 3;
const PATIENCE: Duration = Duration::from_secs(180);
/// Enough that a kill within a second and a half mostly falls into a running job.
const STEPS: u32 = 20;

/// Moments that look random and are the same in every run.
struct Moments(u64);

impl Moments {
    fn next(&mut self) -> Duration {
        // Knuth's MMIX constants.
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        Duration::from_millis((self.0 >> 33) % 1500)
    }
}

/// Submits until it is answered 202: only that is a promise. The key makes a repeat the same job.
fn submitted(api: &Api, round: u64, seed: u64) -> Result<String> {
    let key = format!("round-{round}-seed-{seed}");
    let body = serde_json::to_vec(&drawing(seed, STEPS))?;
    for _ in 0..600 {
        let headers = [("Content-Type", "application/json"), ("Idempotency-Key", key.as_str())];
        if let Ok(answer) = api.request("POST", "/api/v1/txt2img", &headers, Some(&body))
            && answer.status == 202
        {
            let job = answer.json()?;
            return Ok(job["job"]["id"].as_str().unwrap_or_default().to_owned());
        }
        sleep(Duration::from_millis(100));
    }
    anyhow::bail!("no job was accepted for a minute")
}

fn picture(api: &Api, job: &Job) -> Result<Vec<u8>> {
    let images = job.body["images"].as_array().map(Vec::len);
    ensure!(images == Some(1), "job {} has {images:?} pictures: {}", job.id, job.body);
    api.picture(job, 0)
}

fn survives(victim: Program) -> Result<()> {
    let _alone = alone();
    let mut stack = Stack::builder().auth_pam().start()?;
    let token =
        stack.api().login(ALICE.name, ALICE.password)?.token().unwrap_or_default().to_owned();
    let mut undisturbed = Vec::new();
    for seed in 0..JOBS {
        let api = stack.api().with_token(&token);
        let id = submitted(&api, u64::MAX, seed)?;
        undisturbed.push(picture(&api, &api.wait(&id, PATIENCE)?)?);
    }
    let mut moments = Moments(victim.file().len() as u64);
    for round in 0..ROUNDS {
        let api = stack.api().with_token(&token);
        let jobs =
            (0..JOBS).map(|seed| submitted(&api, round, seed)).collect::<Result<Vec<_>>>()?;
        sleep(moments.next());
        stack.kill(victim, Signal::SIGKILL)?;
        if victim == Program::Ctl {
            stack.wait_end()?;
            stack.start_again()?;
        }
        let api = stack.api().with_token(&token);
        for (id, expected) in jobs.iter().zip(&undisturbed) {
            let job = api.wait(id, PATIENCE)?;
            ensure!(
                job.state == "done",
                "round {round}: job {id} ended {}: {}",
                job.state,
                job.body
            );
            ensure!(&picture(&api, &job)? == expected, "round {round}: job {id} has other bytes");
        }
        stack.wait_until("the victim runs again", Duration::from_secs(60), || {
            stack.process(victim)
        })?;
    }
    let listed = stack.api().with_token(&token).get("/api/v1/jobs?limit=100")?.expect(200)?;
    let count = listed["jobs"].as_array().map(Vec::len).unwrap_or_default() as u64;
    ensure!(count == JOBS * (ROUNDS + 1), "{count} jobs are listed");
    stack.stop()?;
    Ok(())
}

#[test]
fn of_the_front_end_loses_no_job() -> Result<()> {
    survives(Program::Api)
}

#[test]
fn of_authd_loses_no_job() -> Result<()> {
    survives(Program::Authd)
}

#[test]
fn of_the_worker_loses_no_job() -> Result<()> {
    survives(Program::Worker)
}

#[test]
fn of_sdrestctl_leaves_nothing_and_loses_no_job() -> Result<()> {
    survives(Program::Ctl)
}

const WAITS: &str = "waiting until the run before";

/// The kernel lets go of a dead process's sockets some time after its death. Who starts serve again at once must not
/// be told of another program. The listeners here are this test's, so that they stay for a known time.
#[test]
fn a_killed_sdrestctl_can_be_started_again_at_once() -> Result<()> {
    let _alone = alone();
    // An address of its own, so that the port is free.
    let address = "127.77.0.1:8188";
    let mut stack = Stack::builder().auth_none().argument("--listen").argument(address).start()?;
    stack.kill(Program::Ctl, Signal::SIGKILL)?;
    stack.wait_end()?;
    let worker = stack.run_dir().join("worker/0.sock");
    std::fs::remove_file(&worker)?;
    let held = (UnixListener::bind(&worker)?, TcpListener::bind(address)?);
    let log = stack.run_dir().parent().context("no folder")?.join("log");
    // It waits for 10 s at most; this test for as long as it takes to see that it waits.
    let lets_go = std::thread::spawn(move || {
        let waits = || std::fs::read_to_string(&log).is_ok_and(|text| text.contains(WAITS));
        let until = Instant::now() + Duration::from_secs(20);
        while !waits() && Instant::now() < until {
            sleep(Duration::from_millis(20));
        }
        drop(held);
    });
    stack.start_again()?;
    ensure!(lets_go.join().is_ok(), "the listeners are gone");
    ensure!(stack.log().matches(WAITS).count() == 1, "{}", stack.log());
    let job = submitted(&stack.api(), 0, 0)?;
    ensure!(stack.api().wait(&job, PATIENCE)?.state == "done", "{job}");
    stack.stop()?;
    // After a clean end nothing is waited for: what listens there is somebody else.
    let _other = TcpListener::bind(address)?;
    let refused = stack.start_again();
    ensure!(refused.is_err(), "it listens beside another program");
    ensure!(stack.log().matches(WAITS).count() == 1, "{}", stack.log());
    ensure!(stack.log().contains("another program listens there"), "{}", stack.log());
    Ok(())
}
