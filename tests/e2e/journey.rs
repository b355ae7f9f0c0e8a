//! What a user does from sign-in to sign-out, and what another user must not see of it.

use crate::{alone, drawing};
use anyhow::{Context, Result, ensure};
use harness::{
    Job, Program, Stack,
    etc::{ALICE, BOB, service},
    files_below, is_root, skip,
};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);

/// The text that a PNG carries under `parameters`.
fn parameters(png: &[u8]) -> Result<String> {
    let reader = png::Decoder::new(std::io::Cursor::new(png)).read_info()?;
    let info = reader.info();
    let latin1 = info.uncompressed_latin1_text.iter().find(|chunk| chunk.keyword == "parameters");
    latin1.map(|chunk| chunk.text.clone()).context("the PNG has no text `parameters`")
}

#[test]
fn from_login_to_logout() -> Result<()> {
    let _alone = alone();
    let mut stack = Stack::builder().auth_pam().start()?;
    let stranger = stack.api();
    for path in ["/api/v1/jobs", "/api/v1/models", "/api/v1/auth/me", "/api/v1/queue/status"] {
        let answer = stranger.get(path)?;
        ensure!(
            (answer.status, answer.code().as_str()) == (401, "AUTH_REQUIRED"),
            "{path}: {}",
            answer.status
        );
        let challenge = answer.header("www-authenticate").unwrap_or_default();
        ensure!(
            challenge.contains("Bearer") && challenge.contains("stable-diffusion-rest"),
            "{path}: {challenge}"
        );
    }
    ensure!(stranger.get("/api/health")?.status == 200, "health is public");

    let login = stranger.try_login(ALICE.name, ALICE.password)?.expect(200)?;
    ensure!(
        login["success"] == true && login["token_type"] == "Bearer" && login["token_kind"] == "jwt",
        "{login}"
    );
    ensure!(login["user"]["username"] == "alice" && login["user"]["role"] == "user", "{login}");
    ensure!(login["expires_in"] == 3600, "{login}");
    let permissions = login["user"]["permissions"].to_string();
    ensure!(
        permissions.contains("generate") && !permissions.contains("system_admin"),
        "{permissions}"
    );
    let alice = stranger.with_token(login["token"].as_str().context("no token")?);

    let submitted = alice.post("/api/v1/txt2img", &drawing(1, 10))?;
    let location = submitted.header("location").context("no Location")?.to_owned();
    let accepted = submitted.expect(202)?;
    let id = accepted["job"]["id"].as_str().context("no id")?.to_owned();
    ensure!(location.ends_with(&id), "{location}");
    let job = alice.wait(&id, PATIENCE)?;
    ensure!(job.state == "done" && job.body["seed"] == 1, "{}", job.body);
    let png = alice.picture(&job, 0)?;
    let text = parameters(&png)?;
    ensure!(text.starts_with("a red circle on a white background"), "{text}");
    for word in [
        "Steps: 10",
        "Sampler: Euler",
        "CFG scale: 4",
        "Seed: 1",
        "Size: 128x128",
        "Model: ",
        "Version: sdrest",
    ] {
        ensure!(text.contains(word), "the text lacks {word:?}: {text}");
    }
    ensure!(!text.contains("alice") && !text.contains('/'), "the text tells too much: {text}");

    let forged = stranger
        .with_token(&format!("{}x", alice.token().unwrap_or_default()))
        .get("/api/v1/jobs")?;
    ensure!(
        (forged.status, forged.code().as_str()) == (401, "TOKEN_INVALID"),
        "a forged token: {}",
        forged.status
    );

    alice.post("/api/v1/auth/logout", &json!({}))?.expect(200)?;
    let after = alice.get("/api/v1/jobs")?;
    ensure!(
        (after.status, after.code().as_str()) == (401, "TOKEN_REVOKED"),
        "after logout: {} {}",
        after.status,
        after.code()
    );
    stack.stop()?;
    Ok(())
}

#[test]
fn what_is_not_yours_is_not_there() -> Result<()> {
    if !is_root() {
        skip("without root PAM can check one account only");
        return Ok(());
    }
    let _alone = alone();
    let mut stack = Stack::builder().auth_pam().start()?;
    let alice = stack.api().login(ALICE.name, ALICE.password)?;
    let bob = stack.api().login(BOB.name, BOB.password)?;
    let job = alice.wait(&alice.submit(&drawing(1, 2))?, PATIENCE)?;
    let picture = job.body["images"][0]["url"].as_str().context("no url")?.to_owned();
    for path in [
        format!("/api/v1/jobs/{}", job.id),
        format!("/api/v1/queue/job/{}", job.id),
        picture.clone(),
        format!("{picture}/metadata"),
    ] {
        let answer = bob.get(&path)?;
        ensure!(
            (answer.status, answer.code().as_str()) == (404, "NOT_FOUND"),
            "bob gets {path}: {}",
            answer.status
        );
        ensure!(alice.get(&path)?.status == 200, "alice does not get {path}");
    }
    ensure!(
        bob.delete(&format!("/api/v1/jobs/{}", job.id))?.status == 404,
        "bob can delete alice's job"
    );
    ensure!(bob.get("/api/v1/jobs")?.expect(200)?["jobs"] == json!([]), "bob sees jobs");
    stack.stop()?;
    Ok(())
}

#[test]
fn a_running_job_stops_within_a_step_and_a_queued_one_at_once() -> Result<()> {
    let _alone = alone();
    let mut stack = Stack::builder().auth_none().start()?;
    let api = stack.api();
    let mut long = drawing(1, 150);
    long["batch_count"] = json!(8);
    let running = api.submit(&long)?;
    stack.wait_until("the job runs", PATIENCE, || {
        let job = api.get(&format!("/api/v1/jobs/{running}")).ok()?.json().ok()?;
        (job["job"]["state"] == "running" && job["job"]["progress"]["step"].as_u64() > Some(0))
            .then_some(())
    })?;
    let queued: Vec<String> = (0..12).map(|_| api.submit(&long)).collect::<Result<_>>()?;
    for id in queued.iter().rev().chain([&running]) {
        let answer = api.delete(&format!("/api/v1/jobs/{id}"))?;
        ensure!(
            answer.status < 300,
            "cancelling {id}: {} {}",
            answer.status,
            String::from_utf8_lossy(&answer.bytes)
        );
    }
    for id in queued.iter().chain([&running]) {
        let job = api.wait(id, Duration::from_secs(30))?;
        ensure!(job.state == "cancelled" && job.body["images"] == json!([]), "{}", job.body);
    }
    let job = api.wait(&api.submit(&drawing(1, 2))?, PATIENCE)?;
    ensure!(job.state == "done", "{}", job.body);
    stack.stop()?;
    Ok(())
}

#[test]
fn events_tell_progress_and_the_end_once() -> Result<()> {
    let _alone = alone();
    let mut stack = Stack::builder().auth_none().start()?;
    let api = stack.api();
    let id = api.submit(&drawing(3, 150))?;
    let path = format!("/api/v1/jobs/{id}/events");
    let stream = api.get(&path)?;
    ensure!(
        stream.header("content-type").is_some_and(|kind| kind.starts_with("text/event-stream")),
        "not a stream"
    );
    ensure!(stream.header("x-accel-buffering") == Some("no"), "a proxy would hold it back");
    let text = String::from_utf8(stream.bytes)?;
    let events: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
    ensure!(events.contains(&"progress"), "{text}");
    ensure!(events.iter().filter(|event| **event == "done").count() == 1, "{text}");
    let last =
        text.lines().filter_map(|line| line.strip_prefix("id: ")).next_back().context("no ids")?;
    let again = api.request("GET", &path, &[("Last-Event-ID", "0")], None)?;
    ensure!(
        String::from_utf8(again.bytes)?.contains("event: done"),
        "a late reader misses the end"
    );
    let nothing = api.request("GET", &path, &[("Last-Event-ID", last)], None)?;
    ensure!(
        !String::from_utf8(nothing.bytes)?.contains("event: progress"),
        "what was read comes again"
    );
    stack.stop()?;
    Ok(())
}

#[test]
fn a_conversation_asks_each_prompt_and_signs_in() -> Result<()> {
    let _alone = alone();
    let mut stack = Stack::builder().pam_service(service::ONE_TIME).start()?;
    let api = stack.api();
    let begun = api.post("/api/v1/auth/conversations", &json!({ "username": ALICE.name }))?;
    ensure!(
        begun.status == 201 || begun.status == 200,
        "{} {}",
        begun.status,
        String::from_utf8_lossy(&begun.bytes)
    );
    let mut step = begun.json()?;
    let id = step["id"].as_str().context("no id")?.to_owned();
    let secret = step["secret"].as_str().context("no secret")?.to_owned();
    let headers =
        [("X-Sdrest-Conversation", secret.as_str()), ("Content-Type", "application/json")];
    let mut asked = 0;
    while step["state"] != "succeeded" {
        ensure!(step["state"] != "failed", "{step}");
        ensure!(asked < 5, "it never ends: {step}");
        let next = if step["state"] == "waiting" {
            ensure!(step["prompts"][0]["style"] == "echo_off", "{step}");
            let answer = [ALICE.password, service::ONE_TIME_CODES[0]][asked.min(1)];
            asked += 1;
            let answers = json!({ "seq": step["seq"], "answers": [{ "pid": step["prompts"][0]["pid"], "value": answer }] });
            api.request(
                "POST",
                &format!("/api/v1/auth/conversations/{id}/answers"),
                &headers,
                Some(&serde_json::to_vec(&answers)?),
            )?
        } else {
            api.request(
                "GET",
                &format!("/api/v1/auth/conversations/{id}?after={}&wait=10", step["seq"]),
                &headers,
                None,
            )?
        };
        step = next.json()?;
        ensure!(next.status < 300, "{} {step}", next.status);
    }
    ensure!(asked == 2, "it asked {asked} times");
    let me = api.with_token(step["token"].as_str().context("no token")?).get("/api/v1/auth/me")?;
    ensure!(me.status == 200, "the token does not work");
    let gone = api.request(
        "GET",
        &format!("/api/v1/auth/conversations/{id}?after=0&wait=0"),
        &headers,
        None,
    )?;
    ensure!(gone.status == 410, "the result can be had twice: {}", gone.status);
    // One password is not enough here, so the one-shot form becomes a conversation.
    let one_shot = api.try_login(ALICE.name, ALICE.password)?;
    ensure!(one_shot.status == 202, "one-shot: {}", one_shot.status);
    stack.stop()?;
    Ok(())
}

#[test]
fn what_a_client_asks_first_is_there() -> Result<()> {
    let _alone = alone();
    let mut stack = Stack::builder().auth_none().start()?;
    let api = stack.api();
    let get = |path: &str| -> Result<Value> { api.get(path)?.expect(200) };
    ensure!(get("/api/v1/models")?["models"][0]["name"].is_string(), "no model");
    let samplers = get("/api/samplers")?["samplers"].to_string();
    ensure!(
        samplers.contains("Euler a") && samplers.contains("EulerAncestralDiscreteScheduler"),
        "{samplers}"
    );
    ensure!(get("/api/v1/schedulers")?["schedulers"].to_string().contains("Karras"), "no Karras");
    ensure!(get("/api/v1/parameters")?.to_string().contains("cfg_scale"), "no cfg_scale");
    for path in ["/api/status", "/api/v1/version", "/api/v1/queue/status", "/api/v1/auth/methods"] {
        get(path)?;
    }
    let document = get("/api/v1/openapi.json")?;
    ensure!(
        document["openapi"].as_str().is_some_and(|version| version.starts_with("3.1")),
        "not OpenAPI 3.1"
    );
    ensure!(document["paths"].as_object().map(serde_json::Map::len) > Some(20), "few routes");
    stack.stop()?;
    Ok(())
}

#[test]
fn a_deleted_picture_is_gone_for_good_and_the_others_are_listed() -> Result<()> {
    let _alone = alone();
    let mut stack = Stack::builder().auth_pam().start()?;
    let alice = stack.api().login(ALICE.name, ALICE.password)?;
    let first = alice.wait(&alice.submit(&drawing(1, 2))?, PATIENCE)?;
    let second = alice.wait(&alice.submit(&drawing(2, 2))?, PATIENCE)?;
    let listed = || -> Result<Vec<String>> {
        let list = alice.get("/api/v1/images")?.expect(200)?;
        let images = list["images"].as_array().context("no list")?;
        Ok(images.iter().filter_map(|image| image["id"].as_str().map(str::to_owned)).collect())
    };
    let id = |job: &Job| job.body["images"][0]["id"].as_str().map(str::to_owned);
    let (old, new) = (id(&first).context("no picture")?, id(&second).context("no picture")?);
    ensure!(listed()? == [new.clone(), old.clone()], "{:?}", listed()?);
    let path = format!("/api/v1/images/{old}");
    if is_root() {
        let bob = stack.api().login(BOB.name, BOB.password)?;
        ensure!(bob.delete(&path)?.status == 404, "bob deletes alice's");
        ensure!(bob.get("/api/v1/images")?.expect(200)?["images"] == json!([]), "bob sees alice's");
    }
    ensure!(alice.delete(&path)?.status == 204, "it is not deleted");
    // The front end's sandbox lets it: no file is left for the next start to find.
    let mut files = files_below(&stack.state_dir())?;
    files.retain(|file| file.to_string_lossy().contains(".png"));
    ensure!(files.len() == 1 && files[0].to_string_lossy().contains(&new), "{files:?}");
    let api = stack.kill(Program::Api, Signal::SIGKILL)?;
    stack.wait_for_new(Program::Api, api)?;
    stack.wait_healthy()?;
    ensure!(listed()? == [new], "{:?}", listed()?);
    ensure!(alice.get(&path)?.status == 404, "it came back");
    ensure!(alice.picture(&second, 0)?.starts_with(b"\x89PNG"), "the other one is gone");
    stack.stop()?;
    Ok(())
}
