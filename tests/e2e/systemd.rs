//! The shipped units in a booted Debian 12 with systemd as PID 1: installed as systemd/README.md says, a real
//! user signs in through PAM over the front end's Unix socket and draws a picture.

use crate::{alone, drawing};
use anyhow::{Context, Result, bail, ensure};
use harness::{is_root, programs, skip};
use serde_json::{Value, json};
use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

struct Machine {
    script: PathBuf,
    root: PathBuf,
    run: tempfile::TempDir,
}

impl Machine {
    fn boot() -> Result<Self> {
        let boot = programs::checkout().join("tests/harness/boot");
        let cache = programs::checkout().join(".cache/boot");
        let made = Command::new(boot.join("make_root.sh")).arg(&cache).status()?;
        ensure!(made.success(), "no Debian root could be made");
        let root = cache.join("debian-root");
        let machine = Self { script: boot.join("boot.sh"), root, run: tempfile::tempdir()? };
        let bind = |from: &Path, to: &str| format!("--bind-ro={}:{to}", from.display());
        let release = programs::find("sdrestctl")?.parent().context("no folder")?.to_owned();
        let started = machine
            .command("start")
            .arg(bind(&release, "/opt/sdrest/bin"))
            .arg(bind(&programs::checkout().join(".libtorch/lib"), "/opt/sdrest/lib"))
            .arg(bind(&programs::checkout(), "/opt/sdrest/src"))
            .status()?;
        ensure!(started.success(), "the system did not boot");
        Ok(machine)
    }

    fn command(&self, verb: &str) -> Command {
        let mut command = Command::new(&self.script);
        command.env("BOOT_ROOT", &self.root).env("BOOT_RUN", self.run.path()).arg(verb);
        command
    }

    fn try_run(&self, words: &[&str]) -> Result<Output> {
        Ok(self.command("exec").args(words).output()?)
    }

    fn run(&self, words: &[&str]) -> Result<String> {
        let output = self.try_run(words)?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "{words:?}: {error}{}",
            String::from_utf8_lossy(&output.stdout)
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
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

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let journal = self.try_run(&["journalctl", "--no-pager", "-n", "80"]);
            eprintln!(
                "{}",
                journal
                    .map(|o| String::from_utf8_lossy(&o.stdout).into_owned())
                    .unwrap_or_default()
            );
        }
        let _ = self.command("stop").status();
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
    let outcome = journey(&machine);
    if outcome.is_err() {
        let journal = machine.try_run(&["journalctl", "--no-pager", "-n", "100"])?;
        bail!("{outcome:?}\n{}", String::from_utf8_lossy(&journal.stdout));
    }
    outcome
}
