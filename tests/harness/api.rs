//! A client of the HTTP interface, as a script would be one: plain JSON, nothing shared with the server's own types.

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use ureq::Agent;

const PATIENCE: Duration = Duration::from_secs(60);
const LARGEST: u64 = 64 * 1024 * 1024;

/// One server, with or without a token.
#[derive(Clone, Debug)]
pub struct Api {
    agent: Agent,
    base: String,
    token: Option<String>,
}

/// Any answer, also a refusal.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    /// Lower-case names.
    pub headers: Vec<(String, String)>,
    pub bytes: Vec<u8>,
}

/// A job that has ended.
#[derive(Clone, Debug)]
pub struct Job {
    pub id: String,
    pub state: String,
    /// The whole job, as it came.
    pub body: Value,
}

impl Api {
    pub fn new(base: &str) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(PATIENCE))
            .max_redirects(0)
            .proxy(None)
            .build();
        Self { agent: Agent::new_with_config(config), base: base.to_owned(), token: None }
    }

    /// The same server as somebody.
    pub fn with_token(&self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self.clone() }
    }

    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// `path` begins with a slash, from the root of the server. `body` of none is a request without one.
    pub fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
    ) -> Result<Answer> {
        let mut request =
            ureq::http::Request::builder().method(method).uri(format!("{}{path}", self.base));
        if let Some(token) = &self.token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = match body {
            Some(body) => self.agent.run(request.body(body)?),
            None => self.agent.run(request.body(())?),
        };
        let mut response = response.with_context(|| format!("{method} {path}"))?;
        let headers = response
            .headers()
            .iter()
            .map(|(name, value)| {
                (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
            })
            .collect();
        let status = response.status().as_u16();
        let bytes = response.body_mut().with_config().limit(LARGEST).read_to_vec()?;
        Ok(Answer { status, headers, bytes })
    }

    pub fn get(&self, path: &str) -> Result<Answer> {
        self.request("GET", path, &[], None)
    }

    pub fn delete(&self, path: &str) -> Result<Answer> {
        self.request("DELETE", path, &[], None)
    }

    pub fn post(&self, path: &str, body: &Value) -> Result<Answer> {
        let bytes = serde_json::to_vec(body)?;
        self.request("POST", path, &[("Content-Type", "application/json")], Some(&bytes))
    }

    /// The one-shot login, whatever it answers.
    pub fn try_login(&self, username: &str, password: &str) -> Result<Answer> {
        self.post("/api/v1/auth/login", &json!({ "username": username, "password": password }))
    }

    /// Signs in, and gives a client that is somebody.
    pub fn login(&self, username: &str, password: &str) -> Result<Self> {
        let body = self.try_login(username, password)?.expect(200)?;
        let token = body.get("token").and_then(Value::as_str).context("the login has no token")?;
        Ok(self.with_token(token))
    }

    /// Submits to `txt2img` and gives the job's id.
    pub fn submit(&self, body: &Value) -> Result<String> {
        let answer = self.post("/api/v1/txt2img", body)?.expect(202)?;
        let id = answer
            .pointer("/job/id")
            .and_then(Value::as_str)
            .context("the answer has no job.id")?;
        Ok(id.to_owned())
    }

    /// Waits until a job has ended, in whatever state. Outlives a restart of the front end.
    pub fn wait(&self, id: &str, patience: Duration) -> Result<Job> {
        let until = Instant::now() + patience;
        loop {
            let answer = self.get(&format!("/api/v1/jobs/{id}?wait=5"));
            if let Ok(answer) = answer
                && answer.status < 500
            {
                let body = answer.expect(200)?;
                let job = body.get("job").context("the answer has no job")?.clone();
                let state = job
                    .get("state")
                    .and_then(Value::as_str)
                    .context("the job has no state")?
                    .to_owned();
                if matches!(state.as_str(), "done" | "failed" | "cancelled") {
                    return Ok(Job { id: id.to_owned(), state, body: job });
                }
            }
            if Instant::now() > until {
                bail!("the job {id} did not end within {} s", patience.as_secs());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The PNG of picture `index` of a job that is done.
    pub fn picture(&self, job: &Job, index: usize) -> Result<Vec<u8>> {
        ensure!(job.state == "done", "the job {} ended {}: {}", job.id, job.state, job.body);
        let url = job
            .body
            .pointer(&format!("/images/{index}/url"))
            .and_then(Value::as_str)
            .context("no such picture")?;
        let answer = self.get(url)?;
        ensure!(answer.status == 200, "{url} answered {}", answer.status);
        Ok(answer.bytes)
    }
}

impl Answer {
    pub fn json(&self) -> Result<Value> {
        serde_json::from_slice(&self.bytes).with_context(|| {
            format!("status {}, not JSON: {}", self.status, String::from_utf8_lossy(&self.bytes))
        })
    }

    /// The JSON body of an answer that must have this status.
    pub fn expect(&self, status: u16) -> Result<Value> {
        ensure!(
            self.status == status,
            "expected status {status}, got {}: {}",
            self.status,
            String::from_utf8_lossy(&self.bytes)
        );
        self.json()
    }

    /// `error.code`, or nothing.
    pub fn code(&self) -> String {
        let body = self.json().unwrap_or_default();
        body.pointer("/error/code").and_then(Value::as_str).unwrap_or_default().to_owned()
    }

    /// A header by its lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}
