//! Accounts, keys and sessions from an administrator's chair and from their owner's: `sdrestctl` and HTTP against the
//! whole stack, over restarts of authd; and an expired password that is changed on the way in.

use crate::alone;
use anyhow::{Context, Result, ensure};
use harness::{
    Answer, Program, Stack,
    etc::{ALICE, MUST_CHANGE, service},
    is_root, programs, skip,
};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::{fs, os::unix::fs::PermissionsExt, time::Duration};

const NAME: &str = "carol";
const PASSWORD: &str = "a password of carol";

/// `sdrestctl WORDS` with this on standard input: what it wrote on standard output.
fn ctl(stack: &Stack, words: &[&str], input: &str) -> Result<String> {
    let output = stack.sdrestctl(words, input)?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{words:?}: {said}");
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// What a request with this API key and nothing else is answered.
fn with_key(stack: &Stack, key: &str) -> Result<Answer> {
    stack.api().request("GET", "/api/v1/models", &[("X-API-Key", key)], None)
}

/// In which the front end hears of what authd was told.
const HEARD: Duration = Duration::from_secs(20);

fn is_revoked(answer: &Answer) -> bool {
    (answer.status, answer.code().as_str()) == (401, "TOKEN_REVOKED")
}

fn restart_authd(stack: &Stack) -> Result<()> {
    let old = stack.kill(Program::Authd, Signal::SIGKILL)?;
    stack.wait_for_new(Program::Authd, old)?;
    stack.wait_healthy()
}

#[test]
fn a_server_on_a_unix_socket_is_signed_in_to_drawn_with_and_looked_at() -> Result<()> {
    let _alone = alone();
    let folder = tempfile::tempdir()?;
    let socket = folder.path().join("http.sock");
    let address = format!("unix:{}", socket.display());
    let mut stack = Stack::builder().auth("jwt").argument("--listen").argument(&address).start()?;
    ensure!(stack.url() == address, "{}", stack.url());
    // Its health is asked over the socket too.
    stack.wait_healthy()?;
    stack.add_user(NAME, PASSWORD, "user")?;
    let (typed, own) = (format!("{PASSWORD}\n"), ["--user", NAME, "--password-stdin"]);
    let picture = folder.path().join("star.png").display().to_string();
    let draw = ["generate", "a blue star", "--steps", "2", "-o", &picture];
    ctl(&stack, &[&draw[..], &own].concat(), &typed)?;
    ensure!(fs::read(&picture)?.starts_with(b"\x89PNG"), "no picture");
    let named = ["key", "add", "--name", "named", "--url", &address];
    ensure!(ctl(&stack, &[&named[..], &own].concat(), &typed)?.starts_with("sdr_"), "no key");
    let wrong = stack.sdrestctl(&[&draw[..], &own].concat(), "another password\n")?;
    let said = String::from_utf8_lossy(&wrong.stderr).into_owned();
    ensure!(!wrong.status.success() && said.contains("AUTHENTICATION_FAILED"), "{said}");
    stack.stop()?;
    let gone = stack.sdrestctl(&[&draw[..], &["--url", &address], &own].concat(), &typed)?;
    let said = String::from_utf8_lossy(&gone.stderr).into_owned();
    ensure!(!gone.status.success() && said.contains(&address), "{said}");
    Ok(())
}

#[test]
fn what_no_flag_says_the_configuration_file_does() -> Result<()> {
    let _alone = alone();
    let mut stack = Stack::builder()
        .auth("jwt")
        .edit_etc(|etc| {
            let folder = etc.join("sdrest/conf.d");
            fs::create_dir_all(&folder)?;
            let text = "[authd]\nauth = \"none\"\nauth_realm = \"of the file\"\n[worker]\nmax_models = 1\n";
            Ok(fs::write(folder.join("here.toml"), text)?)
        })
        .start()?;
    let methods = stack.api().get("/api/v1/auth/methods")?.expect(200)?;
    ensure!(methods["mode"] == "jwt" && methods["realm"] == "of the file", "{methods}");
    stack.stop()?;
    Ok(())
}

#[test]
fn a_key_is_made_used_and_revoked() -> Result<()> {
    let _alone = alone();
    let mut stack = Stack::builder().auth("jwt").start()?;
    stack.add_user(NAME, PASSWORD, "user")?;
    let typed = format!("{PASSWORD}\n");
    let own = ["--user", NAME, "--password-stdin"];
    let key = ctl(&stack, &[&["key", "add", "--name", "laptop"], &own[..]].concat(), &typed)?;
    ensure!(key.starts_with("sdr_") && !key.contains('\n'), "not the key alone: {key:?}");
    with_key(&stack, &key)?.expect(200)?;
    let listed: Value = serde_json::from_str(&ctl(
        &stack,
        &[&["key", "list", "-o", "json"], &own[..]].concat(),
        &typed,
    )?)?;
    ensure!(!listed.to_string().contains(&key), "a list shows a key");
    let id = listed.pointer("/0/id").or(listed.pointer("/keys/0/id")).and_then(Value::as_str);
    let id = id.with_context(|| format!("no id in {listed}"))?.to_owned();
    // It draws a picture in the place of a sign-in.
    let folder = tempfile::tempdir()?;
    let (file, picture) = (folder.path().join("key"), folder.path().join("circle.png"));
    fs::write(&file, format!("{key}\n"))?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
    let (file, picture) = (file.display().to_string(), picture.display().to_string());
    let words =
        ["generate", "a red circle", "--steps", "2", "--api-key-file", &file, "-o", &picture];
    ctl(&stack, &words, "")?;
    ensure!(fs::read(&picture)?.starts_with(b"\x89PNG"), "no picture");
    restart_authd(&stack)?;
    with_key(&stack, &key)?.expect(200)?;
    ctl(&stack, &["key", "revoke", &id, "--as-admin"], "")?;
    // The front end hears of it within moments, and not before the command returns.
    stack.wait_until("the key is revoked", HEARD, || {
        with_key(&stack, &key).ok().filter(is_revoked)
    })?;
    stack.stop()?;
    Ok(())
}

#[test]
fn an_administrator_ends_sessions_and_changes_the_signing_key() -> Result<()> {
    let _alone = alone();
    let mut stack = Stack::builder().auth("jwt").start()?;
    stack.add_user(NAME, PASSWORD, "user")?;
    let before = stack.api().login(NAME, PASSWORD)?;
    ctl(&stack, &["rotate-key"], "")?;
    before.get("/api/v1/auth/me")?.expect(200)?;
    let keys = stack.api().get("/.well-known/jwks.json")?.expect(200)?;
    ensure!(keys["keys"].as_array().is_some_and(|keys| keys.len() == 2), "{keys}");
    let after = stack.api().login(NAME, PASSWORD)?;
    restart_authd(&stack)?;
    for session in [&before, &after] {
        session.get("/api/v1/auth/me")?.expect(200)?;
    }
    ctl(&stack, &["sessions", "revoke", NAME], "")?;
    for session in [&before, &after] {
        stack.wait_until("the session is over", HEARD, || {
            session.get("/api/v1/auth/me").ok().filter(is_revoked)
        })?;
    }
    ctl(&stack, &["user", "disable", NAME], "")?;
    let disabled = stack.api().try_login(NAME, PASSWORD)?;
    ensure!((disabled.status, disabled.code().as_str()) == (401, "AUTHENTICATION_FAILED"));
    ctl(&stack, &["user", "enable", NAME], "")?;
    ctl(&stack, &["user", "passwd", NAME, "--password-stdin"], "another password\n")?;
    ensure!(stack.api().try_login(NAME, PASSWORD)?.status == 401, "the old password still works");
    stack.api().login(NAME, "another password")?;
    ctl(&stack, &["user", "remove", NAME], "")?;
    ensure!(stack.api().try_login(NAME, "another password")?.status == 401);
    stack.stop()?;
    Ok(())
}

#[test]
fn who_leaves_the_group_is_an_administrator_no_more() -> Result<()> {
    if !is_root() {
        skip("without root all are one user");
        return Ok(());
    }
    let _alone = alone();
    let mut stack = Stack::builder()
        .auth("jwt")
        .edit_etc(|etc| {
            let group = etc.join("group");
            let text = fs::read_to_string(&group)?.replace("60704:", "60704:alice");
            Ok(fs::write(group, text)?)
        })
        .start()?;
    // Her own copy of the program, in a folder that she can enter.
    let folder = stack.run_dir().parent().context("no folder")?.to_owned();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755))?;
    let program = folder.join("hers");
    fs::copy(programs::find("sdrestctl")?, &program)?;
    let (uid, group) = (ALICE.uid.to_string(), "--groups=60704");
    let list = || -> Result<std::process::Output> {
        let mut command = stack.etc().command("setpriv");
        command.args(["--reuid", &uid, "--regid", &uid, group]).arg(&program);
        command.args(["user", "list", "--run-dir"]).arg(stack.run_dir());
        Ok(command.output()?)
    };
    let member = list()?;
    ensure!(member.status.success(), "{}", String::from_utf8_lossy(&member.stderr));
    // `gpasswd -d`, and then `userdel`. Her shell keeps the group, and so may open the socket.
    let file = stack.etc().folder().join("group");
    fs::write(&file, fs::read_to_string(&file)?.replace("60704:alice", "60704:"))?;
    ensure!(!list()?.status.success(), "she is an administrator still");
    let file = stack.etc().folder().join("passwd");
    let rest = fs::read_to_string(&file)?;
    let rest: Vec<&str> = rest.lines().filter(|line| !line.starts_with("alice:")).collect();
    fs::write(&file, rest.join("\n") + "\n")?;
    restart_authd(&stack)?;
    stack.stop()?;
    Ok(())
}

/// Answers whatever the change of a password asks, to its end.
fn change_password(stack: &Stack, begun: &Answer, new: &str) -> Result<Value> {
    let mut step = begun.json()?;
    let id = step["id"].as_str().context("no id")?.to_owned();
    let secret = step["secret"].as_str().context("no secret")?.to_owned();
    let headers = [("X-Sdrest-Conversation", &*secret), ("Content-Type", "application/json")];
    for _ in 0..20 {
        let path = format!("/api/v1/auth/conversations/{id}");
        let answer = match step["state"].as_str() {
            Some("succeeded" | "failed") => return Ok(step),
            Some("waiting") => {
                let answers: Vec<Value> = step["prompts"]
                    .as_array()
                    .context("no prompts")?
                    .iter()
                    .map(|prompt| {
                        let text = prompt["text"].as_str().unwrap_or_default().to_lowercase();
                        let value = if text.contains("new") { new } else { MUST_CHANGE.password };
                        json!({ "pid": prompt["pid"], "value": value })
                    })
                    .collect();
                let body = serde_json::to_vec(&json!({ "seq": step["seq"], "answers": answers }))?;
                stack.api().request("POST", &format!("{path}/answers"), &headers, Some(&body))?
            }
            _ => {
                let path = format!("{path}?after={}&wait=10", step["seq"]);
                stack.api().request("GET", &path, &headers, None)?
            }
        };
        step = answer.json()?;
    }
    anyhow::bail!("it never ends: {step}")
}

#[test]
fn an_expired_password_is_changed_on_the_way_in() -> Result<()> {
    if !is_root() {
        skip("without root PAM can check one account only, and nobody can write /etc/shadow");
        return Ok(());
    }
    let _alone = alone();
    let mut stack = Stack::builder().pam_service(service::SHIPPED).start()?;
    let begun = stack.api().try_login(MUST_CHANGE.name, MUST_CHANGE.password)?;
    ensure!(begun.status == 202, "{}", String::from_utf8_lossy(&begun.bytes));
    // Whoever walks away keeps the old one: the next sign-in is asked for a new one again.
    let again = stack.api().try_login(MUST_CHANGE.name, MUST_CHANGE.password)?;
    ensure!(again.status == 202, "{}", String::from_utf8_lossy(&again.bytes));
    let new = "Some0ther-Longer!Word";
    let ended = change_password(&stack, &again, new)?;
    ensure!(ended["state"] == "succeeded" && ended["token"].is_string(), "{ended}");
    stack.api().login(MUST_CHANGE.name, new)?;
    let old = stack.api().try_login(MUST_CHANGE.name, MUST_CHANGE.password)?;
    ensure!((old.status, old.code().as_str()) == (401, "AUTHENTICATION_FAILED"));
    stack.stop()?;
    Ok(())
}
