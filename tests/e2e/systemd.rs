//! The shipped units in a booted Debian 12 with systemd as PID 1: installed as systemd/README.md says, a real
//! user signs in through PAM over the front end's Unix socket and draws a picture.

use crate::{alone, drawing};
use anyhow::{Context, Result, ensure};
use harness::{is_root, programs, skip};
use serde_json::{Value, json};
use std::{
    process::Output,
    time::{Duration, Instant},
};

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

/// A PAM module, root in its unit, asks systemd for a service of its own in both ways, and authd for an account.
const HOSTILE_MODULE: &str = r#"set -eu
cat >/usr/local/bin/escape <<'END'
#!/bin/sh
touch /run/faillock/tried
timeout 5 systemctl --no-block start escaped
manager=org.freedesktop.systemd1
timeout 5 busctl call $manager /org/freedesktop/systemd1 $manager.Manager StartUnit ss escaped.service replace
echo 'a password of eve' | timeout 5 sdrestctl user add eve --role admin --password-stdin
exit 0
END
chmod 755 /usr/local/bin/escape
printf '[Service]\nType=oneshot\nExecStart=/bin/touch /var/lib/escaped\n' >/etc/systemd/system/escaped.service
mkdir -p /run/faillock
sed -i '1i auth optional pam_exec.so quiet /usr/local/bin/escape' /etc/pam.d/stable-diffusion-rest
systemctl daemon-reload
"#;

fn a_module_stays_inside(machine: &Machine) -> Result<()> {
    machine.run(&["sh", "-c", HOSTILE_MODULE])?;
    let login = json!({ "username": "bob", "password": "builder" });
    let login = machine.http("/auth/login", None, Some(&login))?;
    ensure!(login["token"].is_string(), "{login}");
    machine.run(&["test", "-e", "/run/faillock/tried"]).context("the module did not run")?;
    let escaped = machine.try_run(&["test", "-e", "/var/lib/escaped"])?;
    ensure!(!escaped.status.success(), "a PAM module had systemd start a service");
    let users = machine.run(&["sdrestctl", "user", "list"])?;
    ensure!(!users.contains("eve"), "a PAM module made an administrator: {users}");
    machine.run(&["sed", "-i", "1d", "/etc/pam.d/stable-diffusion-rest"])?;
    Ok(())
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
    a_module_stays_inside(machine)?;
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
    // Where the guides send an administrator to look: the log of the facility authpriv.
    let journal = ["journalctl", "-u", "sdrest-authd", "SYSLOG_FACILITY=10", "-o", "cat"];
    let audited = machine.run(&journal)?;
    let events: Vec<Value> =
        audited.lines().map(serde_json::from_str).collect::<Result<_, _>>().context(audited)?;
    for (event, result) in [("conversation_ended", "verified"), ("token_issued", "")] {
        let found = events.iter().find(|line| line["event"] == event && line["user"] == "bob");
        let found = found.with_context(|| format!("{event} is not in {events:?}"))?;
        ensure!(result.is_empty() || found["result"] == result, "{found}");
    }
    // The administrator's command finds the units' sockets by itself.
    let told = machine.run(&["sdrestctl", "status"])?;
    for (socket, user) in
        [("authd", "sdrest-authd"), ("worker/0", "sdrest-worker"), ("http", "sdrest-api")]
    {
        let row = told.lines().find(|line| line.split_whitespace().next() == Some(socket));
        ensure!(row.is_some_and(|row| row.contains(user)), "{socket} is not {user}'s:\n{told}");
    }
    ensure!(told.contains("overall: ok") && !told.contains("logins are off"), "{told}");
    machine.run(&[
        "sh",
        "-c",
        "echo builder | sdrestctl generate 'a blue star' --steps 2 -o /tmp/star.png --user bob --password-stdin",
    ])?;
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
    // What the configuration file says counts: the units leave it the choice.
    machine.run(&[
        "sh",
        "-ec",
        "mkdir -p /etc/sdrest/conf.d /srv/more
         cp -r /usr/share/sdrest/models/demo /srv/more/another
         cat >/etc/sdrest/conf.d/here.toml <<'END'
[authd]
auth = \"jwt\"
auth_realm = \"here\"
[worker]
models_dirs = [\"/srv/more\"]
[api]
worker_socket = [\"/run/sdrest/worker/0.sock\", \"/run/sdrest/worker/1.sock\"]
END
         systemctl enable --now sdrest-worker@1
         systemctl is-enabled --quiet sdrest-worker@1
         systemctl restart sdrest-authd sdrest-worker@0 sdrest-api
         echo 'a password of carol' | sdrestctl user add carol --password-stdin",
    ])?;
    let until = Instant::now() + Duration::from_secs(180);
    let login = loop {
        let body = json!({ "username": "carol", "password": "a password of carol" });
        let login = machine.http("/auth/login", None, Some(&body))?;
        if login["token"].is_string() || Instant::now() > until {
            break login;
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    let methods = machine.http("/auth/methods", None, None)?;
    ensure!(methods["mode"] == "jwt" && methods["realm"] == "here", "{methods}");
    let token = login["token"].as_str().with_context(|| login.to_string())?;
    let models = loop {
        let models = machine.http("/models", Some(token), None)?.to_string();
        if models.contains("another") || Instant::now() > until {
            break models;
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    ensure!(models.contains("another") && !models.contains("demo"), "{models}");
    let status = loop {
        let status = machine.http("/status", None, None)?;
        if status["workers"]["connected"] == 2 || Instant::now() > until {
            break status;
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    ensure!(status["workers"] == json!({ "configured": 2, "connected": 2 }), "{status}");
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
