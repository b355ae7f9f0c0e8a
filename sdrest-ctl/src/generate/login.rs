//! Signing in: any number of prompts, by the conversation routes. What a module says without asking is shown
//! at once, while the next long poll waits.

use super::{
    client::{Answer, Client},
    terminal::{self, Echo, Source},
};
use crate::{cli::GenerateArgs, users};
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

/// Seconds that one question to the server waits for news.
const WAIT: u32 = 25;

/// False where the server asks nobody to sign in.
pub(super) fn sign_in(client: &mut Client, args: &GenerateArgs) -> Result<bool> {
    if !needs_login(&client.get("/auth/methods")?) {
        return Ok(false);
    }
    let username = match &args.user {
        Some(name) => name.clone(),
        None => {
            users::name_of(nix::unistd::getuid().as_raw()).context("name the user with --user")?
        }
    };
    let source = if args.password_stdin { Source::Lines } else { Source::Terminal };
    let begun = client.post_with("/auth/conversations", &json!({ "username": username }), None)?;
    let token = converse(client, begun, source)?;
    client.set_token(token);
    Ok(true)
}

/// `{"methods":["none"]}` or `{"mode":"none"}` need no login.
fn needs_login(methods: &Value) -> bool {
    let mode = methods.get("mode").and_then(Value::as_str);
    let listed = methods.get("methods").and_then(Value::as_array);
    let only_none = listed.is_some_and(|listed| {
        listed
            .iter()
            .all(|method| method.as_str().or_else(|| method.get("name")?.as_str()) == Some("none"))
    });
    mode != Some("none") && !only_none
}

/// From the first step to the token.
fn converse(client: &Client, begun: Answer, source: Source) -> Result<String> {
    let mut step = begun.success()?;
    let id = text(&step, "id")?.to_owned();
    let secret = text(&step, "secret")?.to_owned();
    let path = format!("/auth/conversations/{id}");
    let mut told = 0;
    loop {
        told = tell_news(&step, told);
        let sequence =
            step.get("seq").and_then(Value::as_u64).context("the server's step has no seq")?;
        step = match text(&step, "state")? {
            "running" => client
                .get_with(&format!("{path}?after={sequence}&wait={WAIT}"), Some(&secret))?
                .success()?,
            "waiting" => {
                let body = json!({ "seq": sequence, "answers": answers(&step, source)? });
                client.post_with(&format!("{path}/answers"), &body, Some(&secret))?.success()?
            }
            "succeeded" => return token(&step),
            "failed" => bail!("{}", failure(&step)),
            other => bail!("the server's conversation is in the unknown state {other:?}"),
        };
    }
}

/// Shows the messages after `told`, and gives the number of the last.
fn tell_news(step: &Value, told: u64) -> u64 {
    let mut last = told;
    for message in step.get("messages").and_then(Value::as_array).into_iter().flatten() {
        let number = message.get("seq").and_then(Value::as_u64).unwrap_or(0);
        if number > told {
            terminal::tell(message.get("text").and_then(Value::as_str).unwrap_or_default());
            last = last.max(number);
        }
    }
    last
}

/// One answer for each prompt, in their order.
fn answers(step: &Value, source: Source) -> Result<Vec<Value>> {
    let prompts = step
        .get("prompts")
        .and_then(Value::as_array)
        .context("the server waits, but asks nothing")?;
    let mut answers = Vec::new();
    for prompt in prompts {
        let echo = if prompt.get("style").and_then(Value::as_str) == Some("echo_on") {
            Echo::On
        } else {
            Echo::Off
        };
        let value = terminal::ask(source, text(prompt, "text")?, echo)?;
        answers.push(json!({ "pid": prompt.get("pid"), "value": value }));
    }
    Ok(answers)
}

fn token(step: &Value) -> Result<String> {
    let holder = step.get("grant").or_else(|| step.get("result")).unwrap_or(step);
    let token = holder.get("token").or_else(|| holder.get("access_token")).and_then(Value::as_str);
    token.map(str::to_owned).context("the server signed in without a token")
}

fn failure(step: &Value) -> anyhow::Error {
    Answer { status: 401, body: step.clone() }.error()
}

fn text<'a>(value: &'a Value, name: &str) -> Result<&'a str> {
    value
        .get(name)
        .and_then(Value::as_str)
        .with_context(|| format!("the server's answer has no {name}"))
}
