//! What an admin sees: every process under its own user and in its own sandbox, the conversation program only
//! while a login runs, and a status that reaches every socket.

use crate::alone;
use anyhow::{Context, Result, ensure};
use harness::{
    Program, Stack,
    etc::{ALICE, service},
    is_root, skip,
};
use serde_json::{Value, json};
use std::{fs, path::PathBuf};

/// Everything in a JSON value, for looking whatever its shape.
fn flat(value: &Value, path: String, into: &mut Vec<(String, String)>) {
    match value {
        Value::Object(map) => {
            map.iter().for_each(|(key, value)| flat(value, format!("{path}/{key}"), into))
        }
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(n, value)| flat(value, format!("{path}/{n}"), into))
        }
        other => into.push((path, other.to_string())),
    }
}

#[test]
fn each_program_runs_as_its_own_user() -> Result<()> {
    if !is_root() {
        skip("users of their own need root");
        return Ok(());
    }
    let _alone = alone();
    let mut stack = Stack::builder().pam_service(service::ONE_TIME).start()?;
    let uid =
        |program| stack.process(program).map(|process| process.uid).context("it does not run");
    let uids =
        [uid(Program::Ctl)?, uid(Program::Api)?, uid(Program::Authd)?, uid(Program::Worker)?];
    ensure!(uids == [0, 60701, 60702, 60703], "{uids:?}");
    ensure!(
        stack.process(Program::Conversation).is_none(),
        "a conversation runs though nobody signs in"
    );
    let begun = stack
        .api()
        .post("/api/v1/auth/conversations", &json!({ "username": ALICE.name }))?
        .json()?;
    ensure!(
        stack.process(Program::Conversation).is_some(),
        "no conversation runs while somebody signs in"
    );
    let secret = begun["secret"].as_str().context("no secret")?.to_owned();
    let path = format!("/api/v1/auth/conversations/{}", begun["id"].as_str().context("no id")?);
    let cancelled =
        stack.api().request("DELETE", &path, &[("X-Sdrest-Conversation", &secret)], None)?;
    ensure!(cancelled.status < 300, "{}", cancelled.status);
    stack.wait_until("the conversation ends", std::time::Duration::from_secs(30), || {
        stack.process(Program::Conversation).is_none().then_some(())
    })?;
    stack.stop()?;
    Ok(())
}

/// What the kernel says of a process, not what it says of itself.
fn kernel(pid: i32, field: &str) -> Result<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    Ok(line.context("no such field")?.trim().to_owned())
}

#[test]
fn the_daemons_have_no_capabilities_no_network_and_filters() -> Result<()> {
    let _alone = alone();
    let mut stack = Stack::builder().auth_pam().start()?;
    for program in [Program::Api, Program::Authd, Program::Worker] {
        let pid = stack.process(program).context("it does not run")?.pid;
        ensure!(kernel(pid, "CapEff")? == "0000000000000000", "{program:?} has capabilities");
        ensure!(kernel(pid, "CapPrm")? == "0000000000000000", "{program:?} has capabilities");
        ensure!(kernel(pid, "NoNewPrivs")? == "1", "{program:?} may gain privileges");
        ensure!(kernel(pid, "Seccomp")? == "2", "{program:?} has no system call filter");
    }
    if is_root() {
        let network = |pid: i32| {
            fs::read_link(format!("/proc/{pid}/ns/net")).unwrap_or_else(|_| PathBuf::new())
        };
        let worker = stack.process(Program::Worker).context("no worker")?.pid;
        ensure!(network(worker) != network(1), "the worker is in the host's network");
    }
    let (code, status) = stack.status()?;
    ensure!(code == 0, "status says {code}: {status}");
    let mut all = Vec::new();
    flat(&status, String::new(), &mut all);
    let words = status.to_string();
    for name in ["http", "authd", "authd-admin", "conversation", "worker"] {
        ensure!(words.contains(name), "status does not name {name}: {words}");
    }
    // sdrestctl, which listens for conversations, has no sandbox of its own to report.
    let denied: Vec<_> = all
        .iter()
        .filter(|(path, value)| path.ends_with("network_denied") && value != "null")
        .collect();
    ensure!(denied.len() >= 3 && denied.iter().all(|(_, value)| value == "true"), "{denied:?}");
    let capability = |end: &str| {
        all.iter().find(|(path, _)| path.ends_with(end)).map(|(_, value)| value.clone())
    };
    let inside = capability("cpu_capability_inside")
        .context("status does not tell the CPU capability inside")?;
    ensure!(
        Some(&inside) == capability("/cpu_capability").as_ref(),
        "the sandbox changes the CPU capability: {inside}"
    );
    stack.stop()?;
    Ok(())
}

#[test]
fn status_tells_a_dead_front_end_from_a_live_worker() -> Result<()> {
    let _alone = alone();
    let mut stack = Stack::builder().auth_none().start()?;
    let api = stack.process(Program::Api).context("no front end")?;
    harness::processes::send(&api, nix::sys::signal::Signal::SIGSTOP)?;
    let (code, status) = stack.status()?;
    ensure!(code != 0, "a stopped front end counts as well: {status}");
    ensure!(status.to_string().contains("worker"), "{status}");
    harness::processes::send(&api, nix::sys::signal::Signal::SIGCONT)?;
    stack.wait_healthy()?;
    stack.stop()?;
    Ok(())
}
