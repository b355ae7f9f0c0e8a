//! One job: submitted once, watched through its server-sent events until it ends, drawn as a progress bar where
//! somebody looks. A stream that breaks is begun again; the job goes on without it.

use super::bar::{Bar, View};
use crate::{
    cli::GenerateArgs,
    session::{
        client::{Client, Unreachable},
        terminal,
    },
};
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::time::{Duration, Instant};

/// Before a stream that broke is begun again.
const PAUSE: Duration = Duration::from_millis(500);
/// How long the server may be gone while the job goes on.
const SERVER_PATIENCE: Duration = Duration::from_secs(60);
/// The server looks at its workers' models again within 15 s.
const MODEL_PATIENCE: Duration = Duration::from_secs(20);

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

impl Progress {
    /// Steps of the whole job.
    fn all(&self) -> u64 {
        self.steps.max(1).saturating_mul(self.images.max(1))
    }

    /// Steps done. Between two pictures the last step of the one still stands beside the count of both.
    fn total(&self) -> u64 {
        self.steps.saturating_mul(self.image).saturating_add(self.step).min(self.all())
    }
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

/// Waits until some worker has told the server of a model that works: a worker that has just been started looks at
/// its folders first. Where none comes, the submission says what is wrong.
pub(super) fn wait_for_model(client: &Client) -> Result<()> {
    let until = Instant::now() + MODEL_PATIENCE;
    let mut told = false;
    loop {
        let answer = client.get("/models")?;
        let models =
            answer.get("models").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let usable = models.iter().any(|model| model.get("fault").is_none_or(Value::is_null));
        if usable || Instant::now() > until {
            return Ok(());
        }
        if !told {
            terminal::tell("waiting for a worker to look at its models");
            told = true;
        }
        std::thread::sleep(PAUSE);
    }
}

/// Answers once the server has accepted the job for good.
pub(super) fn submit(client: &Client, body: &Value) -> Result<Job> {
    parse(client.post("/txt2img", body)?)
}

fn parse(answer: Value) -> Result<Job> {
    let job = answer.get("job").context("the server's answer has no job")?;
    Job::deserialize(job).context("the server's job cannot be read")
}

/// Returns when the job is done; any other end is an error. A server that is started again meanwhile goes on with the
/// job, so its absence is borne for a while.
pub(super) fn watch(client: &Client, job: &mut Job) -> Result<()> {
    let bar = Bar::new();
    bar.show(&job.view());
    let mut gone_since = None;
    while !job.has_ended() {
        let seen = follow(client, job, &bar);
        match seen {
            Ok(()) => gone_since = None,
            Err(error) => {
                let since = *gone_since.get_or_insert_with(Instant::now);
                if !error.is::<Unreachable>() || since.elapsed() > SERVER_PATIENCE {
                    bar.end();
                    return Err(error);
                }
            }
        }
        if !job.has_ended() {
            std::thread::sleep(PAUSE);
        }
    }
    bar.end();
    if job.state != "done" {
        bail!("the job {} ended {}{}", job.id, job.state, cause(job));
    }
    Ok(())
}

/// Looks once, then listens until the stream ends or the job does.
fn follow(client: &Client, job: &mut Job, bar: &Bar) -> Result<()> {
    job.take(parse(client.get(&format!("/jobs/{}", job.id))?)?);
    bar.show(&job.view());
    if job.has_ended() {
        return Ok(());
    }
    client.events(&format!("/jobs/{}/events", job.id), |event| {
        if let Ok(news) = parse(event) {
            job.take(news);
            bar.show(&job.view());
        }
        job.has_ended()
    })
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
    terminal::printable_line(&format!(": {message}{code}"))
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

    fn view(&self) -> View<'_> {
        let progress = self.progress.as_ref();
        let steps = progress.map_or(0, Progress::all);
        let step = if self.state == "done" { steps } else { progress.map_or(0, Progress::total) };
        View { state: &self.state, position: self.position, step, steps }
    }

    fn note_step(&mut self) {
        let Some(progress) = &self.progress else { return };
        let total = progress.total();
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
