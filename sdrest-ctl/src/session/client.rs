//! The HTTP side: JSON in and out, the bearer token or API key, and the server's error messages as errors.

use super::{agent::agent, terminal::printable_line};
use anyhow::{Context, Result, anyhow, bail};
use serde_json::Value;
use std::{
    fmt,
    io::{BufRead, BufReader},
    time::Duration,
};
use ureq::{Agent, http::Response};

/// Longer than the longest wait that is asked for.
const PATIENCE: Duration = Duration::from_secs(60);
const LARGEST_PICTURE: u64 = 64 * 1024 * 1024;

pub(crate) struct Client {
    agent: Agent,
    /// What its requests begin with, and how it was named.
    base: String,
    url: String,
    token: Option<String>,
}

/// No answer came at all: the server is not there, or was just started again.
#[derive(Debug)]
pub(crate) struct Unreachable(String);

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unreachable {}

/// A status and a JSON body; success and failure alike.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Value,
}

impl Client {
    pub(crate) fn new(url: &str) -> Self {
        let (agent, base) = agent(url, PATIENCE);
        Self { agent, base, url: url.to_owned(), token: None }
    }

    /// An access token or an API key: both travel in the same header.
    pub(crate) fn set_token(&mut self, token: String) {
        self.token = Some(token);
    }

    pub(crate) fn get(&self, path: &str) -> Result<Value> {
        self.get_with(path, None)?.success()
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Result<Value> {
        self.post_with(path, body, None)?.success()
    }

    /// `conversation` is the secret that proves who began a login.
    pub(crate) fn get_with(&self, path: &str, conversation: Option<&str>) -> Result<Answer> {
        let mut request = self.agent.get(self.address(path)).header("Accept", "application/json");
        for (name, value) in self.headers(conversation) {
            request = request.header(name, value);
        }
        answer(request.call().map_err(|error| self.unreachable(&error))?)
    }

    pub(crate) fn post_with(
        &self,
        path: &str,
        body: &Value,
        conversation: Option<&str>,
    ) -> Result<Answer> {
        let mut request = self.agent.post(self.address(path)).header("Accept", "application/json");
        for (name, value) in self.headers(conversation) {
            request = request.header(name, value);
        }
        answer(request.send_json(body).map_err(|error| self.unreachable(&error))?)
    }

    /// Gives the data of each server-sent event (WHATWG HTML, 9.2) to `seen`, until that answers true or the stream
    /// ends. A stream that breaks is no error: the caller looks again.
    pub(crate) fn events(&self, path: &str, mut seen: impl FnMut(Value) -> bool) -> Result<()> {
        let mut request = self.agent.get(self.address(path)).header("Accept", "text/event-stream");
        for (name, value) in self.headers(None) {
            request = request.header(name, value);
        }
        let response = request.call().map_err(|error| self.unreachable(&error))?;
        if response.status() == 429 {
            // As many streams as one user may have: the caller looks again.
            return Ok(());
        }
        if response.status() != 200 {
            answer(response)?.success()?;
            bail!("the server gave no events");
        }
        let lines = BufReader::new(response.into_body().into_reader()).lines();
        for line in lines.map_while(Result::ok) {
            let Some(data) = line.strip_prefix("data:") else { continue };
            if let Ok(value) = serde_json::from_str(data.trim_start())
                && seen(value)
            {
                break;
            }
        }
        Ok(())
    }

    pub(crate) fn delete(&self, path: &str, conversation: Option<&str>) -> Result<Value> {
        let mut request =
            self.agent.delete(self.address(path)).header("Accept", "application/json");
        for (name, value) in self.headers(conversation) {
            request = request.header(name, value);
        }
        answer(request.call().map_err(|error| self.unreachable(&error))?)?.success()
    }

    /// A picture. `path` is the `url` of a job's image: absolute on this server.
    pub(crate) fn bytes(&self, path: &str) -> Result<Vec<u8>> {
        let mut request = self.agent.get(format!("{}{path}", self.base));
        for (name, value) in self.headers(None) {
            request = request.header(name, value);
        }
        let mut response = request.call().map_err(|error| self.unreachable(&error))?;
        if response.status() != 200 {
            answer(response)?.success()?;
            bail!("the server gave no picture");
        }
        Ok(response.body_mut().with_config().limit(LARGEST_PICTURE).read_to_vec()?)
    }

    fn address(&self, path: &str) -> String {
        format!("{}/api/v1{path}", self.base)
    }

    fn headers(&self, conversation: Option<&str>) -> Vec<(&'static str, String)> {
        let mut headers = Vec::new();
        if let Some(token) = &self.token {
            headers.push(("Authorization", format!("Bearer {token}")));
        }
        if let Some(secret) = conversation {
            headers.push(("X-Sdrest-Conversation", secret.to_owned()));
        }
        headers
    }

    fn unreachable(&self, error: &ureq::Error) -> Unreachable {
        Unreachable(format!(
            "{} does not answer: {error} (is `sdrestctl serve` running?)",
            self.url
        ))
    }
}

fn answer(mut response: Response<ureq::Body>) -> Result<Answer> {
    let status = response.status().as_u16();
    let text = response.body_mut().read_to_string().context("the server's answer broke off")?;
    let body = if text.is_empty() {
        Value::Null
    } else {
        serde_json::from_str(&text).unwrap_or(Value::String(text))
    };
    Ok(Answer { status, body })
}

impl Answer {
    pub(crate) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The body of a 2xx; else the server's message with its code.
    pub(crate) fn success(self) -> Result<Value> {
        if self.is_success() {
            return Ok(self.body);
        }
        Err(self.error())
    }

    pub(crate) fn error(&self) -> anyhow::Error {
        match self.refusal() {
            Some((code, message)) => anyhow!("{}", printable_line(&format!("{message} ({code})"))),
            None => anyhow!("HTTP status {}", self.status),
        }
    }

    /// The code and the message of an error, where the body is one.
    pub(crate) fn refusal(&self) -> Option<(&str, &str)> {
        let error = self.body.get("error")?;
        let word = |name: &str, none| error.get(name).and_then(Value::as_str).unwrap_or(none);
        Some((word("code", "no code"), word("message", "no message")))
    }
}
