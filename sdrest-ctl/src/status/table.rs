//! The status for a person's eyes.

use super::{Row, overall};
use crate::{columns::align, probe::State, record::Record, session::terminal::printable_line};
use std::fmt::Write;

const HEAD: [&str; 7] = ["SOCKET", "STATE", "PID", "USER", "UPTIME", "ROUND TRIP", "DETAIL"];

pub(super) fn draw(rows: &[Row], record: Option<&Record>) -> String {
    let mut lines = vec![HEAD.map(str::to_owned)];
    lines.extend(rows.iter().map(cells));
    let mut text = String::new();
    if let Some(record) = record {
        line(
            &mut text,
            &format!("{}, auth {}, sdrestctl pid {}", record.url, record.auth, record.pid),
        );
    }
    text.push_str(&align(&lines));
    sandboxes(&mut text, rows);
    workers(&mut text, rows);
    let _ = writeln!(text, "\noverall: {}", overall(rows));
    text
}

/// One line: what a process says of itself neither ends it nor moves the cursor.
fn line(text: &mut String, words: &str) {
    text.push_str(&printable_line(words));
    text.push('\n');
}

fn cells(row: &Row) -> [String; 7] {
    let report = &row.report;
    let state = match report.state {
        State::Up => "up",
        State::Degraded => "degraded",
        State::Down => "down",
        State::Impossible => "unusable",
    };
    let dash = || "-".to_owned();
    let mut detail = report.detail.clone();
    if let Some(restarts) = row.restarts.filter(|restarts| *restarts > 0) {
        let _ = write!(detail, " (restarted {restarts}×)");
    }
    [
        report.name.clone(),
        state.to_owned(),
        row.seen.as_ref().map_or_else(dash, |seen| seen.pid.to_string()),
        row.seen.as_ref().map_or_else(dash, |seen| seen.user.clone()),
        report.uptime_seconds.map_or_else(dash, |seconds| format!("{seconds} s")),
        report.round_trip.map_or_else(dash, |time| format!("{:.1} ms", time.as_secs_f64() * 1e3)),
        detail,
    ]
}

/// What the kernel sees, beside what the process found when it looked at itself.
fn sandboxes(text: &mut String, rows: &[Row]) {
    let mut lines = vec![
        ["PROCESS", "NETWORK", "CAPABILITIES", "NO_NEW_PRIVS", "SECCOMP", "LANDLOCK", "CLOSED"]
            .map(str::to_owned),
    ];
    let mut pids = Vec::new();
    for row in rows {
        let Some(seen) = row.seen.as_ref().filter(|seen| !pids.contains(&seen.pid)) else {
            continue;
        };
        pids.push(seen.pid);
        let own = row.report.sandbox.as_ref();
        let network = match (own.is_some_and(|own| own.network_denied), seen.own_network) {
            (true, Some(true)) => "none (denied, own namespace)",
            (true, _) => "none (denied)",
            (false, Some(true)) => "none (own namespace)",
            (false, Some(false)) => "the host's",
            (false, None) => "unknown",
        };
        let yes = |flag: bool| if flag { "yes" } else { "no" }.to_owned();
        lines.push([
            row.daemon.to_owned(),
            network.to_owned(),
            if seen.effective_capabilities == 0 {
                "none".to_owned()
            } else {
                format!("{:#x}", seen.effective_capabilities)
            },
            yes(seen.no_new_privs),
            if seen.seccomp == 2 { "filter".to_owned() } else { "off".to_owned() },
            own.map_or_else(|| "-".to_owned(), |own| format!("ABI {}", own.landlock_abi)),
            own.map_or_else(|| "-".to_owned(), |own| yes(own.closed)),
        ]);
    }
    if lines.len() > 1 {
        text.push('\n');
        text.push_str(&align(&lines));
    }
}

fn workers(text: &mut String, rows: &[Row]) {
    let mut pids = Vec::new();
    for row in rows {
        if let Some(health) =
            row.report.health.as_ref().filter(|health| !pids.contains(&health.pid))
        {
            pids.push(health.pid);
            let figures: Vec<String> =
                health.figures.iter().map(|(name, value)| format!("{name} {value}")).collect();
            text.push('\n');
            line(text, &format!("{} ({}): {}", row.report.name, health.build, figures.join(", ")));
        }
        let Some((description, models)) = &row.report.worker else { continue };
        line(text, &format!("  {}", description.profile.line()));
        let (outside, inside) =
            (&description.profile.cpu_capability, &description.cpu_capability_inside);
        let same = if outside == inside { "the same" } else { "NOT THE SAME" };
        line(
            text,
            &format!("  CPU capability: {outside} outside the sandbox, {inside} inside: {same}"),
        );
        for model in models {
            let loaded = if model.loaded { "in memory" } else { "on disk" };
            let fault = model
                .fault
                .as_ref()
                .map(|fault| format!("; unusable: {fault}"))
                .unwrap_or_default();
            line(
                text,
                &format!(
                    "  model {}: {}, {}, {} px, {loaded}{fault}",
                    model.name, model.family, model.prediction_type, model.default_side
                ),
            );
        }
    }
}
