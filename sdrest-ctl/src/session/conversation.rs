//! One login by the conversation routes: any number of steps, each told to a listener, each prompt asked of it. What
//! a module says without asking arrives while the next long poll waits.

use super::{
    client::{Answer, Client},
    terminal::Echo,
};
use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

/// Seconds that one question to the server waits for news.
const WAIT: u32 = 25;

/// Who sees a login's steps and answers its prompts.
pub(crate) trait Person {
    /// `style` is info or error.
    fn told(&mut self, style: &str, text: &str);
    fn asked(&mut self, text: &str, echo: Echo) -> Result<String>;
}

/// How a login ended: with the server's last answer, which was a refusal or holds a token.
pub(crate) enum Ending {
    SignedIn(Value),
    Refused(Answer),
}

/// From the first step to the last. Where a person cannot answer, the login is given up at once.
pub(crate) fn run(client: &Client, username: &str, person: &mut impl Person) -> Result<Ending> {
    let begun = client.post_with("/auth/conversations", &json!({ "username": username }), None)?;
    if !begun.is_success() {
        return Ok(Ending::Refused(begun));
    }
    let path = format!("/auth/conversations/{}", text(&begun.body, "id")?);
    let secret = text(&begun.body, "secret")?.to_owned();
    let ending = go_on(client, (&path, &secret), begun, person);
    if ending.is_err() {
        // Whoever it was that failed, the server ends it by itself in time.
        let _ = client.delete(&path, Some(&secret));
    }
    ending
}

/// `conversation` is its path and its secret.
fn go_on(
    client: &Client,
    (path, secret): (&str, &str),
    mut answer: Answer,
    person: &mut impl Person,
) -> Result<Ending> {
    let mut told = 0;
    loop {
        told = tell_news(&answer.body, told, person);
        if !answer.is_success() {
            return Ok(Ending::Refused(answer));
        }
        let step = answer.body;
        let sequence =
            step.get("seq").and_then(Value::as_u64).context("the server's step has no seq")?;
        answer = match text(&step, "state")? {
            "running" => {
                client.get_with(&format!("{path}?after={sequence}&wait={WAIT}"), Some(secret))?
            }
            "waiting" => {
                let body = json!({ "seq": sequence, "answers": answers(&step, person)? });
                client.post_with(&format!("{path}/answers"), &body, Some(secret))?
            }
            "succeeded" => return Ok(Ending::SignedIn(step)),
            "failed" => return Ok(Ending::Refused(Answer { status: 401, body: step })),
            other => bail!("the server's conversation is in the unknown state {other:?}"),
        };
    }
}

/// Tells the messages after `told`, and gives the number of the last.
fn tell_news(step: &Value, told: u64, person: &mut impl Person) -> u64 {
    let mut last = told;
    for message in step.get("messages").and_then(Value::as_array).into_iter().flatten() {
        let word = |name: &str| message.get(name).and_then(Value::as_str).unwrap_or_default();
        let number = message.get("seq").and_then(Value::as_u64).unwrap_or(0);
        if number > told {
            person.told(word("style"), word("text"));
            last = last.max(number);
        }
    }
    last
}

/// One answer for each prompt, in their order.
fn answers(step: &Value, person: &mut impl Person) -> Result<Vec<Value>> {
    let prompts = step
        .get("prompts")
        .and_then(Value::as_array)
        .context("the server waits, but asks nothing")?;
    let mut answers = Vec::new();
    for prompt in prompts {
        let shown = prompt.get("style").and_then(Value::as_str) == Some("echo_on");
        let echo = if shown { Echo::On } else { Echo::Off };
        let value = person.asked(text(prompt, "text")?, echo)?;
        answers.push(json!({ "pid": prompt.get("pid"), "value": value }));
    }
    Ok(answers)
}

/// The access token of a login that succeeded.
pub(crate) fn token(answer: &Value) -> Result<String> {
    answer
        .get("token")
        .and_then(Value::as_str)
        .map(str::to_owned)
        .context("the server signed in without a token")
}

fn text<'a>(value: &'a Value, name: &str) -> Result<&'a str> {
    value
        .get(name)
        .and_then(Value::as_str)
        .with_context(|| format!("the server's answer has no {name}"))
}
