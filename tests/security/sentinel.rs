//! No secret leaves its place: every kind of secret is used, right and wrong, while the daemons log as much as a
//! server can be told to; then it is looked for in every place that somebody else could read.
//!
//! `serve` passes `--verbose` on, which is debug for all of them; `trace` comes from a file of `conf.d`, with a table
//! for each. So there are two rounds.

use anyhow::{Context, Result, ensure};
use harness::{
    Api, Program, Stack,
    etc::{ALICE, service},
    files_below, is_root, skip,
};
use serde_json::{Value, json};
use std::{fs, path::Path};

const WRONG: &str = "sentinel-of-a-wrong-password-7c1e";
const TYPED_INTO_THE_NAME: &str = "sentinel-typed-into-the-name-93ab";
const WRONG_TOKEN: &str = "sentinel-of-a-wrong-token-51dd";
const WRONG_CODE: &str = "918273";

fn with_a_short_floor(etc: &Path) -> Result<()> {
    fs::create_dir_all(etc.join("sdrest/conf.d"))?;
    Ok(fs::write(etc.join("sdrest/sdrest.toml"), "[authd]\nfailure_floor_ms = 300\n")?)
}

fn at_trace(etc: &Path) -> Result<()> {
    with_a_short_floor(etc)?;
    let tables = ["api", "authd", "worker"].map(|own| format!("[{own}]\nlog_level = \"trace\"\n"));
    Ok(fs::write(etc.join("sdrest/conf.d/10-trace.toml"), tables.concat())?)
}

#[test]
fn no_secret_is_in_a_log_a_process_or_a_file() -> Result<()> {
    if !is_root() {
        skip("only root can read what other accounts' processes were given");
        return Ok(());
    }
    let plan = || Stack::builder().pam_service(service::ONE_TIME);
    for (loudest, plan) in [
        (" DEBUG ", plan().edit_etc(with_a_short_floor).argument("--verbose")),
        (" TRACE ", plan().edit_etc(at_trace)),
    ] {
        look_everywhere(plan.start()?, loudest)
            .with_context(|| format!("the round of{loudest}"))?;
    }
    Ok(())
}

fn look_everywhere(mut stack: Stack, loudest: &str) -> Result<()> {
    let mut secrets: Secrets = vec![
        ("the password", ALICE.password.to_owned()),
        ("a wrong password", WRONG.to_owned()),
        ("a password in the field of the name", TYPED_INTO_THE_NAME.to_owned()),
        ("a wrong token", WRONG_TOKEN.to_owned()),
        ("a wrong code", WRONG_CODE.to_owned()),
    ];
    let codes = service::ONE_TIME_CODES;
    sign_in(&stack, (WRONG, codes[0]), &mut secrets)?;
    sign_in(&stack, (ALICE.password, WRONG_CODE), &mut secrets)?;
    let end = sign_in(&stack, (ALICE.password, codes[1]), &mut secrets)?;
    // The module has taken the first one, though the password before it was wrong.
    secrets.extend(codes[..2].iter().map(|code| ("a one-time code", (*code).to_owned())));
    use_tokens_and_a_key(&stack.api(), &end, &mut secrets)?;
    stack.api().try_login(TYPED_INTO_THE_NAME, WRONG)?;
    stack.api().with_token(WRONG_TOKEN).get("/api/v1/auth/me")?.expect(401)?;

    for program in [Program::Api, Program::Authd, Program::Worker] {
        dumps_no_core(&stack, program)?;
    }
    nothing_in_processes(&stack, &secrets)?;
    stack.stop()?;
    let log = stack.log();
    ensure!(log.contains("AUTHENTICATION_FAILED") && log.contains("alice"), "no log: {log}");
    // The others have no words of their own below debug, and their libraries are not heard.
    for (program, level) in [("api", " DEBUG "), ("authd", loudest), ("worker", " DEBUG ")] {
        let of = |line: &&str| line.starts_with(&format!("{program}: ")) && line.contains(level);
        ensure!(log.lines().any(|line| of(&line)), "{program} logs nothing at{level}: {log}");
    }
    holds_none(log.as_bytes(), "the log", &secrets)?;
    let files = files_below(&stack.state_dir())?;
    ensure!(files.len() > 3, "the state folder holds next to nothing: {files:?}");
    for file in files {
        holds_none(&fs::read(&file)?, &file.display().to_string(), &secrets)?;
    }
    Ok(())
}

/// What must be nowhere, each with its name.
type Secrets = Vec<(&'static str, String)>;

/// A conversation with these two answers, to its end; what the server kept secret in it joins the list. While the
/// program waits for the code, the module has the password: that is when its process is looked at.
fn sign_in(stack: &Stack, answers: (&str, &str), secrets: &mut Secrets) -> Result<Value> {
    let api = stack.api();
    let begun = api.post("/api/v1/auth/conversations", &json!({ "username": ALICE.name }))?;
    let begun = begun.expect(201)?;
    let secret = begun["secret"].as_str().context("no secret")?.to_owned();
    secrets.push(("a conversation's secret", secret.clone()));
    let talk = Talk { api, path: path_of(&begun)?, secret };
    let asked = talk.answer(&begun, answers.0)?;
    ensure!(asked["state"] == "waiting", "no second question: {asked}");
    nothing_in_processes(stack, secrets)?;
    dumps_no_core(stack, Program::Conversation)?;
    let end = talk.answer(&asked, answers.1)?;
    let right = answers.0 == ALICE.password && answers.1 != WRONG_CODE;
    ensure!(end["state"] == if right { "succeeded" } else { "failed" }, "{end}");
    Ok(end)
}

fn path_of(step: &Value) -> Result<String> {
    Ok(format!("/api/v1/auth/conversations/{}", step["id"].as_str().context("no id")?))
}

struct Talk {
    api: Api,
    path: String,
    secret: String,
}

impl Talk {
    fn answer(&self, step: &Value, text: &str) -> Result<Value> {
        let prompt =
            step.pointer("/prompts/0/pid").with_context(|| format!("no prompt: {step}"))?;
        let body = json!({ "seq": step["seq"], "answers": [{ "pid": prompt, "value": text }] });
        let mut step = self.send("POST", "/answers", Some(body.to_string().as_bytes()))?;
        while step["state"] == "running" {
            step = self.send("GET", &format!("?after={}&wait=5", step["seq"]), None)?;
        }
        Ok(step)
    }

    fn send(&self, method: &str, path: &str, body: Option<&[u8]>) -> Result<Value> {
        let headers =
            [("X-Sdrest-Conversation", self.secret.as_str()), ("Content-Type", "application/json")];
        self.api.request(method, &format!("{}{path}", self.path), &headers, body)?.json()
    }
}

fn use_tokens_and_a_key(api: &Api, end: &Value, secrets: &mut Secrets) -> Result<()> {
    let text = |body: &Value, member: &str| {
        body[member].as_str().map(str::to_owned).with_context(|| format!("no {member}"))
    };
    let (token, refresh) = (text(end, "token")?, text(end, "refresh_token")?);
    let next =
        api.post("/api/v1/auth/refresh", &json!({ "refresh_token": refresh }))?.expect(200)?;
    let alice = api.with_token(&token);
    let made = alice.post("/api/v1/auth/api-keys", &json!({ "name": "laptop" }))?.expect(201)?;
    let key = text(&made, "api_key")?;
    api.request("GET", "/api/v1/auth/me", &[("X-API-Key", &key)], None)?.expect(200)?;
    api.with_token(&key).get("/api/v1/auth/me")?.expect(200)?;
    secrets.extend([
        ("an access token", token),
        ("a refresh token", refresh),
        ("the next access token", text(&next, "token")?),
        ("the next refresh token", text(&next, "refresh_token")?),
        ("an API key", key),
    ]);
    Ok(())
}

fn nothing_in_processes(stack: &Stack, secrets: &Secrets) -> Result<()> {
    for process in stack.processes() {
        for file in ["cmdline", "environ"] {
            // It may have ended since.
            let bytes = fs::read(format!("/proc/{}/{file}", process.pid)).unwrap_or_default();
            holds_none(&bytes, &format!("{file} of {}", process.name()), secrets)?;
        }
    }
    Ok(())
}

fn dumps_no_core(stack: &Stack, program: Program) -> Result<()> {
    let process = stack.process(program).with_context(|| format!("no {}", program.file()))?;
    let limits = fs::read_to_string(format!("/proc/{}/limits", process.pid))?;
    let core = limits.lines().find_map(|line| line.strip_prefix("Max core file size"));
    let core: Vec<&str> = core.context("no limit of core files")?.split_whitespace().collect();
    ensure!(core.starts_with(&["0", "0"]), "{} may dump a core: {core:?}", program.file());
    Ok(())
}

fn holds_none(bytes: &[u8], place: &str, secrets: &Secrets) -> Result<()> {
    for (what, secret) in secrets {
        ensure!(!holds(bytes, secret), "{what} is in {place}");
    }
    Ok(())
}

/// Six digits can be a part of a time or of a number: they count as a word of their own.
fn holds(bytes: &[u8], secret: &str) -> bool {
    let digits = secret.bytes().all(|byte| byte.is_ascii_digit());
    let part_of_a_word = |at: Option<usize>| {
        at.and_then(|at| bytes.get(at))
            .is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'.')
    };
    bytes.windows(secret.len()).enumerate().any(|(at, window)| {
        window == secret.as_bytes()
            && !(digits
                && (part_of_a_word(at.checked_sub(1)) || part_of_a_word(Some(at + secret.len()))))
    })
}

#[test]
fn a_secret_is_found_where_it_is() {
    assert!(holds(b"user alice password correct horse 1 end", "correct horse 1"));
    assert!(holds(b"code=\"755224\"", "755224") && holds(b"755224", "755224"));
    assert!(!holds(b"12:00:00.755224Z 17552240", "755224"));
}
