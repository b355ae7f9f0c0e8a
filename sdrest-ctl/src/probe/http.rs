//! How the front end says it is: /api/health, and /api/status where that is public.

use super::{PATIENCE, Report, State};
use crate::session::agent::agent;
use anyhow::{Context, Result};
use sdrest_proto::health::SandboxReport;
use serde_json::Value;
use std::time::Instant;

/// More than a health answer ever needs.
const LONGEST_ANSWER: u64 = 256 * 1024;

pub(super) fn health(url: &str, report: &mut Report) -> Result<()> {
    let begun = Instant::now();
    let (status, body) = get(url, "/api/health")?;
    report.round_trip = Some(begun.elapsed());
    let body: Value = serde_json::from_slice(&body).context("the answer is not JSON")?;
    let word = body.get("status").and_then(Value::as_str).unwrap_or_default().to_owned();
    let detail = body.get("detail").and_then(Value::as_str).unwrap_or(&word).to_owned();
    report.state = match (status, word.as_str()) {
        (200, "ok") => State::Up,
        (200 | 503, _) => State::Degraded,
        _ => State::Down,
    };
    report.detail = if status == 200 { detail } else { format!("HTTP {status}: {detail}") };
    report.uptime_seconds = body.get("uptime_seconds").and_then(Value::as_u64);
    report.http = Some(body);
    // More figures, where the administrator left that path public.
    if let Ok((200, body)) = get(url, "/api/status")
        && let Ok(body) = serde_json::from_slice::<Value>(&body)
    {
        report.sandbox = body.get("sandbox").and_then(sandbox);
        report.http = Some(body);
    }
    Ok(())
}

fn sandbox(value: &Value) -> Option<SandboxReport> {
    let flag = |name: &str| value.get(name).and_then(Value::as_bool);
    let number = |name: &str| value.get(name).and_then(Value::as_u64);
    Some(SandboxReport {
        closed: flag("closed")?,
        no_new_privs: flag("no_new_privs")?,
        effective_capabilities: number("effective_capabilities")?,
        seccomp: u8::try_from(number("seccomp")?).ok()?,
        landlock_abi: u32::try_from(number("landlock_abi")?).ok()?,
        network_denied: flag("network_denied")?,
    })
}

/// Status and body.
fn get(url: &str, path: &str) -> Result<(u16, Vec<u8>)> {
    let (agent, base) = agent(url, PATIENCE);
    let mut answer =
        agent.get(format!("{base}{path}")).header("Accept", "application/json").call()?;
    let body = answer.body_mut().with_config().limit(LONGEST_ANSWER).read_to_vec()?;
    Ok((answer.status().as_u16(), body))
}
