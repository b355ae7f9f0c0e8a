//! Bad input over HTTP: each gets its code and a message that names the parameter, its bounds and the value;
//! nothing crashes and nothing is lost.

use crate::{alone, drawing};
use anyhow::{Result, ensure};
use harness::{Program, Stack};
use serde_json::{Value, json};
use std::time::Duration;

/// (what is changed, status, code, words that the message must have)
fn cases() -> Vec<(Value, u16, &'static str, Vec<&'static str>)> {
    vec![
        (json!({ "stepz": 20 }), 422, "VALIDATION_FAILED", vec!["stepz"]),
        (json!({ "steps": 0 }), 422, "VALIDATION_FAILED", vec!["steps", "1", "150", "0"]),
        (json!({ "steps": 100_000 }), 422, "VALIDATION_FAILED", vec!["steps", "150", "100000"]),
        (json!({ "steps": "twenty" }), 422, "VALIDATION_FAILED", vec!["steps"]),
        (json!({ "steps": -3 }), 422, "VALIDATION_FAILED", vec!["steps", "-3"]),
        (json!({ "width": 100 }), 422, "VALIDATION_FAILED", vec!["width", "multiple of 8", "100"]),
        (
            json!({ "height": 1_000_000 }),
            422,
            "VALIDATION_FAILED",
            vec!["height", "2048", "1000000"],
        ),
        (json!({ "cfg_scale": 1e9 }), 422, "VALIDATION_FAILED", vec!["cfg_scale", "30"]),
        (json!({ "seed": -2 }), 422, "VALIDATION_FAILED", vec!["seed", "-2"]),
        (json!({ "batch_count": 99 }), 422, "VALIDATION_FAILED", vec!["batch_count", "8", "99"]),
        (
            json!({ "sampler": "Euler z" }),
            422,
            "VALIDATION_FAILED",
            vec!["sampler", "Euler z", "Euler a"],
        ),
        (
            json!({ "sampler": "DDIM", "scheduler": "Karras" }),
            422,
            "VALIDATION_FAILED",
            vec!["scheduler", "DDIM"],
        ),
        (
            json!({ "prompt": "x".repeat(100_000) }),
            422,
            "VALIDATION_FAILED",
            vec!["prompt", "10000"],
        ),
        (json!({ "prompt": null }), 422, "VALIDATION_FAILED", vec!["prompt"]),
        (json!({ "model": "../../etc/passwd" }), 422, "VALIDATION_FAILED", vec!["model"]),
        (json!({ "model": "no-such-model" }), 404, "MODEL_NOT_FOUND", vec!["no-such-model"]),
    ]
}

#[test]
fn each_field_is_refused_with_its_name_bounds_and_value() -> Result<()> {
    let _alone = alone();
    let mut stack = Stack::builder().auth_none().start()?;
    let api = stack.api();
    for (change, status, code, words) in cases() {
        let mut body = drawing(1, 2);
        for (key, value) in change.as_object().into_iter().flatten() {
            body[key] = value.clone();
        }
        let answer = api.post("/api/v1/txt2img", &body)?;
        let said = String::from_utf8_lossy(&answer.bytes).into_owned();
        let change = change.to_string().chars().take(80).collect::<String>();
        ensure!(
            (answer.status, answer.code().as_str()) == (status, code),
            "{change}: got {} {said}",
            answer.status
        );
        let message = answer.json()?["error"]["message"].as_str().unwrap_or_default().to_owned();
        ensure!(answer.json()?["error"]["timestamp"].is_u64(), "{change}: no timestamp: {said}");
        ensure!(answer.header("x-request-id").is_some(), "{change}: no X-Request-Id");
        for word in words {
            ensure!(
                message.contains(word),
                "{change}: the message does not name {word:?}: {message}"
            );
        }
        ensure!(message.len() < 600, "{change}: a message of {} bytes", message.len());
    }
    ensure!(
        api.get("/api/v1/jobs")?.expect(200)?["jobs"] == json!([]),
        "a refused request became a job"
    );
    stack.stop()?;
    Ok(())
}

/// method, path, headers, body; status and code of the answer
type Case<'a> = (&'a str, &'a str, Vec<(&'a str, &'a str)>, Option<&'a [u8]>, u16, &'a str);

#[test]
fn what_is_not_a_request_is_refused_in_the_same_shape() -> Result<()> {
    let _alone = alone();
    let mut stack = Stack::builder().auth_none().start()?;
    let api = stack.api();
    let worker = stack.process(Program::Worker);
    let json_type = ("Content-Type", "application/json");
    let deep = "[".repeat(100_000);
    let cases: Vec<Case<'_>> = vec![
        ("POST", "/api/v1/txt2img", vec![json_type], Some(b"{"), 400, "BAD_REQUEST"),
        ("POST", "/api/v1/txt2img", vec![json_type], Some(b""), 400, "BAD_REQUEST"),
        ("POST", "/api/v1/txt2img", vec![json_type], Some(b"\xff\xfe{}"), 400, "BAD_REQUEST"),
        ("POST", "/api/v1/txt2img", vec![json_type], Some(deep.as_bytes()), 400, "BAD_REQUEST"),
        (
            "POST",
            "/api/v1/txt2img",
            vec![("Content-Type", "text/plain")],
            Some(b"{}"),
            415,
            "UNSUPPORTED_MEDIA_TYPE",
        ),
        ("GET", "/api/v1/no-such-route", vec![], None, 404, "NOT_FOUND"),
        ("DELETE", "/api/v1/txt2img", vec![], None, 405, "METHOD_NOT_ALLOWED"),
        ("GET", "/api/v1/jobs/not-an-id", vec![], None, 404, "NOT_FOUND"),
        (
            "GET",
            "/api/v1/images/0192f0c1-2345-7abc-8def-0123456789ab",
            vec![],
            None,
            404,
            "NOT_FOUND",
        ),
        ("GET", "/api/v1/health", vec![("Host", "evil.example")], None, 421, "MISDIRECTED_REQUEST"),
        (
            "POST",
            "/api/v1/txt2img",
            vec![json_type, ("Origin", "http://evil.example"), ("Sec-Fetch-Site", "cross-site")],
            Some(b"{}"),
            403,
            "CROSS_SITE",
        ),
    ];
    for (method, path, headers, body, status, code) in cases {
        let answer = api.request(method, path, &headers, body)?;
        ensure!(
            (answer.status, answer.code().as_str()) == (status, code),
            "{method} {path} {headers:?}: expected {status} {code}, got {} {}",
            answer.status,
            String::from_utf8_lossy(&answer.bytes)
        );
    }
    let large = vec![b' '; 4 * 1024 * 1024];
    // The connection may be closed before all of it is sent; an answer, where it comes, is 413.
    if let Ok(answer) = api.request("POST", "/api/v1/txt2img", &[json_type], Some(&large)) {
        ensure!(
            (answer.status, answer.code().as_str()) == (413, "PAYLOAD_TOO_LARGE"),
            "got {}",
            answer.status
        );
    }
    let job = api.wait(&api.submit(&drawing(1, 2))?, Duration::from_secs(60))?;
    ensure!(job.state == "done", "after all that: {}", job.body);
    ensure!(stack.process(Program::Worker) == worker, "the worker was restarted");
    stack.stop()?;
    Ok(())
}
