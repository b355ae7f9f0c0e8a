//! The HTTP side: JSON in and out, the bearer token, and the server's error messages as errors.

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

pub(super) struct Client {
    agent: Agent,
    base: String,
    token: Option<String>,
}

/// No answer came at all: the server is not there, or was just started again.
#[derive(Debug)]
pub(super) struct Unreachable(String);

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unreachable {}

/// A status and a JSON body; success and failure alike.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: Value,
}

impl Client {
    pub(super) fn new(base: &str) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(PATIENCE))
            .max_redirects(0)
            // A picture server on this machine is never behind the proxy of the environment.
            .proxy(None)
            .build();
        Self { agent: Agent::new_with_config(config), base: base.to_owned(), token: None }
    }

    pub(super) fn set_token(&mut self, token: String) {
        self.token = Some(token);
    }

    pub(super) fn get(&self, path: &str) -> Result<Value> {
        self.get_with(path, None)?.success()
    }

    pub(super) fn post(&self, path: &str, body: &Value) -> Result<Value> {
        self.post_with(path, body, None)?.success()
    }

    /// `conversation` is the secret that proves who began a login.
    pub(super) fn get_with(&self, path: &str, conversation: Option<&str>) -> Result<Answer> {
        let mut request = self.agent.get(self.address(path)).header("Accept", "application/json");
        for (name, value) in self.headers(conversation) {
            request = request.header(name, value);
        }
        answer(request.call().map_err(|error| self.unreachable(&error))?)
    }

    pub(super) fn post_with(
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
    pub(super) fn events(&self, path: &str, mut seen: impl FnMut(Value) -> bool) -> Result<()> {
        let mut request = self.agent.get(self.address(path)).header("Accept", "text/event-stream");
        for (name, value) in self.headers(None) {
            request = request.header(name, value);
        }
        let response = request.call().map_err(|error| self.unreachable(&error))?;
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

    /// A picture. `path` is the `url` of a job's image: absolute on this server.
    pub(super) fn bytes(&self, path: &str) -> Result<Vec<u8>> {
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
            self.base
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
    /// The body of a 2xx; else the server's message with its code.
    pub(super) fn success(self) -> Result<Value> {
        if (200..300).contains(&self.status) {
            return Ok(self.body);
        }
        Err(self.error())
    }

    pub(super) fn error(&self) -> anyhow::Error {
        match self.body.get("error") {
            Some(error) => anyhow!(
                "{} ({})",
                error.get("message").and_then(Value::as_str).unwrap_or("no message"),
                error.get("code").and_then(Value::as_str).unwrap_or("no code")
            ),
            None => anyhow!("HTTP status {}", self.status),
        }
    }
}
