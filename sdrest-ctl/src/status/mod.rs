//! `sdrestctl status`: every socket's health in one look, as a table or as JSON. It asks the sockets themselves,
//! so it works with a dead front end. Exit code: 0 all is well, 1 something is degraded, 2 something is down.

mod json;
mod kernel;
mod table;

use crate::{
    cli::{OutputFormat, StatusArgs},
    paths, probe, record,
    session::{server, terminal::printable},
};
use anyhow::Result;
use probe::State;
use std::{io::Write, process::ExitCode};

pub(crate) fn run(args: &StatusArgs) -> Result<ExitCode> {
    let run_dir = args.run_dir.clone().unwrap_or_else(paths::default_run_dir);
    let record = record::read(&run_dir);
    let url = server::named_or_found(args.url.as_deref(), record.as_ref())?;
    let logins = record.as_ref().map_or(probe::Logins::Unknown, record::Record::logins);
    let prober = probe::Prober::new()?;
    let rows: Vec<Row> = probe::targets(&run_dir, &url, logins)
        .iter()
        .map(|target| Row::new(prober.ask(target), record.as_ref()))
        .collect();
    let text = match args.output {
        OutputFormat::Table => table::draw(&rows, record.as_ref()),
        OutputFormat::Json => format!("{:#}\n", json::document(&rows, record.as_ref())),
    };
    // `status | head` closes the pipe; the exit code still tells.
    let _ = std::io::stdout().write_all(printable(&text).as_bytes());
    let worst = rows.iter().map(|row| severity(row.report.state)).max().unwrap_or(2);
    Ok(ExitCode::from(worst))
}

fn severity(state: State) -> u8 {
    match state {
        State::Up => 0,
        State::Degraded => 1,
        State::Down | State::Impossible => 2,
    }
}

/// The word for the worst of all.
fn overall(rows: &[Row]) -> &'static str {
    match rows.iter().map(|row| severity(row.report.state)).max() {
        Some(0) => "ok",
        Some(1) => "degraded",
        _ => "down",
    }
}

/// One socket: what it said, and what the kernel says of the process behind it.
struct Row {
    report: probe::Report,
    /// The program behind the socket.
    daemon: &'static str,
    restarts: Option<u32>,
    seen: Option<kernel::Seen>,
}

impl Row {
    /// The front end's public answer tells no pid; `serve` wrote it down, or its unit has it. The kernel is asked in
    /// any case: a process may say of itself what it likes.
    fn new(report: probe::Report, record: Option<&record::Record>) -> Self {
        let daemon = match report.name.as_str() {
            "http" => "api",
            name if name.starts_with("worker/") => "worker",
            name if name.starts_with("authd") => "authd",
            _ => "sdrestctl",
        };
        let process = record
            .and_then(|record| record.processes.iter().find(|process| process.name == daemon));
        let recorded = if daemon == "sdrestctl" {
            record.map(|record| record.pid)
        } else {
            process.and_then(|p| p.pid)
        };
        let of_unit = || match record {
            None if daemon == "api" => kernel::first_of_unit("sdrest-api.service"),
            _ => None,
        };
        let pid = report.health.as_ref().map(|health| health.pid).or(recorded).or_else(of_unit);
        let alive = report.state != State::Down;
        Self {
            report,
            daemon,
            restarts: process.map(|process| process.restarts),
            seen: pid.filter(|_| alive).and_then(kernel::look),
        }
    }
}
