//! Whoever guesses names learns nothing (CVE-2016-6210, CVE-2018-15473, CVE-2003-0190): a login of nobody, of a
//! denied, a locked, a system or a good account with a wrong password gives one text, one code, and the same time.
//! Several users are interleaved, the floor is short, the throttle off, and the service asks only pam_unix with
//! `nodelay`. The full run (`SDREST_TESTS=full`) compares medians; a short one says only what no busy machine breaks.

use anyhow::{Context, Result, ensure};
use harness::{
    Stack,
    etc::{ALICE, BOB, LOCKED, SYSTEM, service},
    is_root, skip,
};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    time::{Duration, Instant},
};

const FLOOR: Duration = Duration::from_millis(300);
const KINDS: [(&str, &str); 5] = [
    ("unknown", "nobody-knows-me"),
    ("denied", BOB.name),
    ("locked", LOCKED.name),
    ("a system account", SYSTEM.name),
    ("a wrong password", ALICE.name),
];

fn with_bob_denied(etc: &Path) -> Result<()> {
    fs::create_dir_all(etc.join("sdrest"))?;
    let text = format!(
        "[authd]\nfailure_floor_ms = {}\nthrottle = false\ndeny_users = [\"{}\"]\n",
        FLOOR.as_millis(),
        BOB.name
    );
    Ok(fs::write(etc.join("sdrest/sdrest.toml"), text)?)
}

#[test]
fn replay_15_cve_2016_6210_failures_differ_neither_in_text_nor_in_time() -> Result<()> {
    if !is_root() {
        skip("without root PAM can check one account only");
        return Ok(());
    }
    let full = std::env::var("SDREST_TESTS").is_ok_and(|size| size == "full");
    let tries = if full { 200 } else { 12 };
    let mut stack =
        Stack::builder().pam_service(service::PLAIN).edit_etc(with_bob_denied).start()?;
    let mut times: BTreeMap<&str, Vec<Duration>> = BTreeMap::new();
    let mut shapes = Vec::new();
    for _ in 0..tries {
        for (kind, name) in KINDS {
            let (shape, took) = fail(&stack, name).context(kind)?;
            times.entry(kind).or_default().push(took);
            if !shapes.contains(&shape) {
                shapes.push(shape);
            }
        }
    }
    stack.stop()?;
    ensure!(shapes.len() == 1, "failures tell of the account: {shapes:?}");
    let medians: Vec<(&str, Duration)> =
        times.iter_mut().map(|(kind, times)| (*kind, median(times))).collect();
    eprintln!("medians of {tries} tries: {medians:?}");
    for (kind, times) in &times {
        ensure!(times.iter().all(|took| *took >= FLOOR), "{kind}: before the floor");
    }
    ensure!(medians.iter().all(|(_, median)| *median < FLOOR * 2), "beyond the floor's double");
    if full {
        let all = || medians.iter().map(|(_, median)| median.as_secs_f64());
        let (least, most) = (all().fold(f64::INFINITY, f64::min), all().fold(0.0, f64::max));
        ensure!(most <= least * 1.10, "the time tells of the account: {medians:?}");
    }
    Ok(())
}

/// One login with a wrong password: all of the answer that is not of its moment, and how long it took.
fn fail(stack: &Stack, name: &str) -> Result<(Value, Duration)> {
    let began = Instant::now();
    let answer = stack.api().try_login(name, "not the password")?;
    let took = began.elapsed();
    let mut body = answer.json()?;
    ensure!((answer.status, answer.code().as_str()) == (401, "AUTHENTICATION_FAILED"), "{body}");
    // These belong to the moment and to the request, in every answer alike.
    for member in ["timestamp", "request_id"] {
        if let Some(error) = body["error"].as_object_mut() {
            error.remove(member);
        }
    }
    let mut headers: Vec<(String, String)> = answer.headers.clone();
    headers.retain(|(name, _)| name != "date" && name != "x-request-id");
    headers.sort();
    Ok((json!({ "status": answer.status, "headers": headers, "body": body }), took))
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}
