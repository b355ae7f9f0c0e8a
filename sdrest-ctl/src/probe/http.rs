//! One plain GET over TCP or a Unix socket, for /api/health and /api/status alone (RFC 9112, `Connection: close`).

use super::{PATIENCE, Report, State};
use anyhow::{Context, Result, bail};
use sdrest_proto::health::SandboxReport;
use serde_json::Value;
use std::{
    io::{Read, Write},
    net::{TcpStream, ToSocketAddrs},
    os::unix::net::UnixStream,
    time::Instant,
};

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
    let answer = if let Some(socket) = url.strip_prefix("unix:") {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        exchange(stream, "localhost", path)?
    } else {
        let authority =
            url.strip_prefix("http://").context("status speaks http:// and unix: only")?;
        let authority = authority.split('/').next().unwrap_or(authority);
        let address = authority.to_socket_addrs()?.next().context("the address has no IP")?;
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        exchange(stream, authority, path)?
    };
    let end = answer
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .context("the answer has no end of headers")?;
    let head = String::from_utf8_lossy(&answer[..end]);
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok())
        .context("the answer is not HTTP")?;
    if head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        bail!("the answer came in chunks");
    }
    Ok((status, answer[end + 4..].to_vec()))
}

fn exchange(mut stream: impl Read + Write, host: &str, path: &str) -> Result<Vec<u8>> {
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: application/json\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes())?;
    let mut answer = Vec::new();
    stream.take(LONGEST_ANSWER).read_to_end(&mut answer).context("no answer within 5 s")?;
    Ok(answer)
}
