//! One job: submitted once, watched through its server-sent events until it ends, drawn as a progress bar where
//! somebody looks. A stream that breaks is begun again; the job goes on without it.

use super::{client::Client, terminal};
use crate::cli::GenerateArgs;
use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::{
    io::{IsTerminal, stderr},
    time::{Duration, Instant},
};

/// Before a stream that broke is begun again.
const PAUSE: Duration = Duration::from_millis(500);
/// A line at most this often where no terminal is.
const SAY: Duration = Duration::from_secs(2);

#[derive(Debug, Default, Deserialize)]
pub(super) struct Job {
    id: String,
    state: String,
    #[serde(default)]
    position: Option<u64>,
    #[serde(default)]
    progress: Option<Progress>,
    #[serde(default)]
    started: Option<f64>,
    #[serde(default)]
    ended: Option<f64>,
    #[serde(default)]
    pub(super) images: Vec<Image>,
    #[serde(default)]
    error: Option<Value>,
    /// When the first and the last step were seen, and which they were.
    #[serde(skip)]
    seen: Option<((u64, Instant), (u64, Instant))>,
}

#[derive(Clone, Debug, Deserialize)]
struct Progress {
    step: u64,
    steps: u64,
    #[serde(default)]
    image: u64,
    #[serde(default)]
    images: u64,
}

#[derive(Debug, Deserialize)]
pub(super) struct Image {
    pub(super) url: String,
    pub(super) seed: Value,
}

/// Only what was written on the command line: the server knows the model's defaults.
pub(super) fn body(args: &GenerateArgs) -> Value {
    let mut body = Map::new();
    body.insert("prompt".to_owned(), json!(args.prompt));
    let mut set = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            body.insert(name.to_owned(), value);
        }
    };
    set("negative_prompt", args.negative_prompt.as_ref().map(|text| json!(text)));
    set("model", args.model.as_ref().map(|name| json!(name)));
    set("steps", args.steps.map(|steps| json!(steps)));
    set("width", args.width.map(|side| json!(side)));
    set("height", args.height.map(|side| json!(side)));
    set("cfg_scale", args.cfg_scale.map(|scale| json!(scale)));
    set("seed", args.seed.map(|seed| json!(seed)));
    set("sampler", args.sampler.as_ref().map(|name| json!(name)));
    set("scheduler", args.scheduler.as_ref().map(|name| json!(name)));
    set("batch_count", args.batch_count.map(|count| json!(count)));
    Value::Object(body)
}

/// Answers once the server has accepted the job for good.
pub(super) fn submit(client: &Client, body: &Value) -> Result<Job> {
    parse(client.post("/txt2img", body)?)
}

fn parse(answer: Value) -> Result<Job> {
    let job = answer.get("job").context("the server's answer has no job")?;
    Job::deserialize(job).context("the server's job cannot be read")
}

/// Returns when the job is done; any other end is an error.
pub(super) fn watch(client: &Client, job: &mut Job) -> Result<()> {
    let bar = Bar::new();
    bar.show(job);
    while !job.has_ended() {
        client.events(&format!("/jobs/{}/events", job.id), |event| {
            if let Ok(news) = parse(event) {
                job.take(news);
                bar.show(job);
            }
            job.has_ended()
        })?;
        if !job.has_ended() {
            std::thread::sleep(PAUSE);
            job.take(parse(client.get(&format!("/jobs/{}", job.id))?)?);
            bar.show(job);
        }
    }
    bar.end();
    if job.state != "done" {
        bail!("the job {} ended {}{}", job.id, job.state, cause(job));
    }
    Ok(())
}

fn cause(job: &Job) -> String {
    let Some(error) = &job.error else { return String::new() };
    let message =
        error.get("message").and_then(Value::as_str).or_else(|| error.as_str()).unwrap_or_default();
    let code = error
        .get("code")
        .and_then(Value::as_str)
        .map(|code| format!(" ({code})"))
        .unwrap_or_default();
    format!(": {message}{code}")
}

impl Job {
    fn has_ended(&self) -> bool {
        matches!(self.state.as_str(), "done" | "failed" | "cancelled")
    }

    /// Replaces it by newer news of it.
    fn take(&mut self, news: Self) {
        let seen = self.seen;
        *self = news;
        self.seen = seen;
        if !self.has_ended() {
            self.note_step();
        }
    }

    fn note_step(&mut self) {
        let Some(progress) = &self.progress else { return };
        let total = progress.steps.saturating_mul(progress.image) + progress.step;
        let now = (total, Instant::now());
        self.seen = match self.seen {
            Some((first, last)) if last.0 != total => Some((first, now)),
            Some(unchanged) => Some(unchanged),
            None => Some((now, now)),
        };
    }

    /// How long it took, and a step of it where that is known.
    pub(super) fn summary(&self, seconds: f64) -> String {
        let steps = self.progress.as_ref().map_or(0, |progress| progress.steps);
        let pictures = self.images.len();
        let mut text =
            format!("{pictures} picture{} in {seconds:.2} s", if pictures == 1 { "" } else { "s" });
        let running = self
            .started
            .zip(self.ended)
            .map(|(started, ended)| ended - started)
            .filter(|time| *time > 0.0);
        #[expect(clippy::cast_precision_loss, reason = "a few hundred steps at most")]
        let all_steps = steps as f64 * pictures as f64;
        let stepping = self.seen.filter(|((first, _), (last, _))| last > first).map(
            |((first, from), (last, to))| {
                #[expect(clippy::cast_precision_loss, reason = "a few hundred steps at most")]
                let steps = (last - first) as f64;
                (to - from).as_secs_f64() / steps
            },
        );
        let per_step = running.map(|time| time / all_steps).or(stepping);
        if let Some(per_step) = per_step.filter(|_| all_steps > 0.0) {
            text.push_str(&format!(
                ", {steps} steps, {:.1} ms a step with text and decoding",
                per_step * 1e3
            ));
        }
        text
    }
}

/// A bar in a terminal, else a line now and then.
struct Bar {
    bar: Option<ProgressBar>,
    said: std::cell::Cell<Option<Instant>>,
}

impl Bar {
    fn new() -> Self {
        let bar = stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(Some(1), ProgressDrawTarget::stderr());
            if let Ok(style) =
                ProgressStyle::with_template("{msg:10} [{bar:40}] {pos}/{len} {elapsed}")
            {
                bar.set_style(style.progress_chars("=> "));
            }
            bar
        });
        Self { bar, said: std::cell::Cell::new(None) }
    }

    fn show(&self, job: &Job) {
        let progress = job.progress.as_ref();
        let steps = progress.map_or(0, |progress| progress.steps.max(1) * progress.images.max(1));
        let step = match (job.state.as_str(), progress) {
            ("done", _) => steps,
            (_, Some(progress)) => progress.steps * progress.image + progress.step,
            _ => 0,
        };
        let words = match (job.state.as_str(), job.position) {
            ("queued", Some(position)) => format!("queued #{position}"),
            (state, _) => state.to_owned(),
        };
        if let Some(bar) = &self.bar {
            bar.set_length(steps.max(1));
            bar.set_message(words);
            bar.set_position(step);
            return;
        }
        let due = self.said.get().is_none_or(|at| at.elapsed() >= SAY) || job.state == "done";
        if due {
            self.said.set(Some(Instant::now()));
            terminal::tell(&format!("{words} {step}/{}", steps.max(1)));
        }
    }

    fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.abandon();
        }
    }
}
