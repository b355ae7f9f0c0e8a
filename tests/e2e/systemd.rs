//! The shipped units in a booted Debian 12 with systemd as PID 1: installed as systemd/README.md says, a real
//! user signs in through PAM over the front end's Unix socket and draws a picture.

use crate::{alone, drawing};
use anyhow::{Context, Result, ensure};
use harness::{is_root, programs, skip};
use serde_json::{Value, json};
use std::process::Output;

/// A booted system with the whole of sdrest in it.
struct Machine(harness::Machine);

impl Machine {
    fn boot() -> Result<Self> {
        let root = harness::Machine::root("make_root.sh", &[], "debian-root")?;
        let release = programs::find("sdrestctl")?;
        let machine = harness::Machine::boot(
            root,
            &[
                (release.parent().context("no folder")?, "/opt/sdrest/bin"),
                (&programs::checkout().join(".libtorch/lib"), "/opt/sdrest/lib"),
                (&programs::checkout(), "/opt/sdrest/src"),
            ],
        )?;
        Ok(Self(machine))
    }

    fn try_run(&self, words: &[&str]) -> Result<Output> {
        self.0.try_run(words)
    }

    fn run(&self, words: &[&str]) -> Result<String> {
        self.0.run(words)
    }

    /// A request through the socket that only the proxy's group can open.
    fn http(&self, path: &str, token: Option<&str>, body: Option<&Value>) -> Result<Value> {
        let url = format!("http://localhost/api/v1{path}");
        let mut words = vec![
            "curl",
            "-sS",
            "--max-time",
            "90",
            "--unix-socket",
            "/run/sdrest-http/http.sock",
            &url,
        ];
        let bearer = format!("Authorization: Bearer {}", token.unwrap_or_default());
        if token.is_some() {
            words.extend(["-H", &bearer]);
        }
        let text = body.map(Value::to_string).unwrap_or_default();
        if body.is_some() {
            words.extend([
                "-H",
                "Content-Type: application/json",
                "-H",
                "Prefer: wait=60",
                "-d",
                &text,
            ]);
        }
        let answer = self.run(&words)?;
        serde_json::from_str(&answer).with_context(|| format!("{path} answered {answer}"))
    }
}

fn journey(machine: &Machine) -> Result<()> {
    machine.run(&["/opt/sdrest/src/tests/harness/boot/install.sh"])?;
    let wrong = machine.http(
        "/auth/login",
        None,
        Some(&json!({ "username": "alice", "password": "queen" })),
    )?;
    ensure!(wrong["error"]["code"] == "AUTHENTICATION_FAILED", "{wrong}");
    let login = machine.http(
        "/auth/login",
        None,
        Some(&json!({ "username": "bob", "password": "builder" })),
    )?;
    let token = login["token"].as_str().with_context(|| login.to_string())?;
    let job = machine.http("/txt2img", Some(token), Some(&drawing(1, 8)))?;
    ensure!(job["job"]["state"] == "done", "{job}");
    let url = job["job"]["images"][0]["url"].as_str().context("no picture")?.to_owned();
    let url = format!("http://localhost{url}");
    let bearer = format!("Authorization: Bearer {token}");
    let socket = "/run/sdrest-http/http.sock";
    machine.run(&[
        "curl",
        "-fsS",
        "--unix-socket",
        socket,
        "-H",
        &bearer,
        "-o",
        "/tmp/picture.png",
        &url,
    ])?;
    ensure!(machine.run(&["head", "-c", "4", "/tmp/picture.png"])?.contains("PNG"), "not a PNG");
    for (unit, user) in [
        ("sdrest-api", "sdrest-api"),
        ("sdrest-authd", "sdrest-authd"),
        ("sdrest-worker@0", "sdrest-worker"),
    ] {
        let pid = machine.run(&["systemctl", "show", "-P", "MainPID", unit])?;
        let owner = machine.run(&["ps", "-o", "user:32=", "-p", pid.trim()])?;
        ensure!(owner.trim() == user, "{unit} runs as {owner}");
    }
    // A stranger on the same machine reaches no socket.
    for socket in
        ["/run/sdrest-http/http.sock", "/run/sdrest/authd.sock", "/run/sdrest/conversation.sock"]
    {
        let tried = machine.try_run(&[
            "setpriv",
            "--reuid=alice",
            "--clear-groups",
            "test",
            "-w",
            socket,
        ])?;
        ensure!(!tried.status.success(), "alice can write to {socket}");
    }
    let left =
        machine.run(&["systemctl", "list-units", "--no-legend", "--state=failed", "sdrest*"])?;
    ensure!(left.trim().is_empty(), "failed units: {left}");
    Ok(())
}

#[test]
fn the_shipped_units_sign_a_user_in_and_draw() -> Result<()> {
    if !is_root() {
        skip("booting a system needs root");
        return Ok(());
    }
    let _alone = alone();
    let machine = Machine::boot()?;
    journey(&machine).with_context(|| machine.0.journal(100))
}
