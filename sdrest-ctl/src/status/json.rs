//! The status for programs. Field names are kept: scripts read them.

use super::{Row, overall};
use crate::{
    probe::{Report, State},
    record::Record,
};
use sdrest_proto::worker::WorkerProfile;
use serde_json::{Value, json};

pub(super) fn document(rows: &[Row], record: Option<&Record>) -> Value {
    json!({
        "overall": overall(rows),
        "serve": record,
        "sockets": rows.iter().map(socket).collect::<Vec<_>>(),
    })
}

fn socket(row: &Row) -> Value {
    let report = &row.report;
    let state = match report.state {
        State::Up => "up",
        State::Degraded => "degraded",
        State::Down => "down",
        State::Impossible => "unusable",
    };
    let health = report.health.as_ref();
    json!({
        "name": report.name,
        "address": report.address,
        "state": state,
        "detail": report.detail,
        "round_trip_ms": report.round_trip.map(|time| time.as_secs_f64() * 1e3),
        "pid": row.seen.as_ref().map(|seen| seen.pid),
        "uid": row.seen.as_ref().map(|seen| seen.uid),
        "user": row.seen.as_ref().map(|seen| seen.user.clone()),
        "restarts": row.restarts,
        "build": health.map(|health| health.build.clone()),
        "uptime_seconds": report.uptime_seconds,
        "sandbox": sandbox(row),
        "figures": health.map(|health| health.figures.iter().cloned().collect::<std::collections::BTreeMap<_, _>>()),
        "authd": report.authd.as_ref().map(|authd| json!({
            "mode": authd.mode.as_str(), "realm": authd.realm, "public_paths": authd.public_paths,
            "guests": authd.guests, "pam": authd.pam, "api_keys": authd.api_keys, "keys": authd.keys.iter().map(|key| key.kid.clone()).collect::<Vec<_>>(),
        })),
        "worker": worker(report),
        "http": report.http,
    })
}

fn sandbox(row: &Row) -> Value {
    let own = row.report.sandbox.as_ref();
    let seen = row.seen.as_ref();
    json!({
        "closed": own.map(|own| own.closed),
        "network_denied": own.map(|own| own.network_denied),
        "own_network_namespace": seen.and_then(|seen| seen.own_network),
        "effective_capabilities": seen.map(|seen| seen.effective_capabilities),
        "no_new_privs": seen.map(|seen| seen.no_new_privs),
        "seccomp": seen.map(|seen| seen.seccomp),
        "landlock_abi": own.map(|own| own.landlock_abi),
    })
}

fn worker(report: &Report) -> Value {
    let Some((description, models)) = &report.worker else { return Value::Null };
    let WorkerProfile { device, dtype, cpu_capability, threads, kernel_path, torch_version } =
        &description.profile;
    let models: Vec<Value> = models
        .iter()
        .map(|model| {
            json!({
                "name": model.name, "family": model.family, "prediction_type": model.prediction_type,
                "default_side": model.default_side, "hash": model.hash, "loaded": model.loaded, "fault": model.fault,
            })
        })
        .collect();
    json!({
        "incarnation": description.incarnation,
        "capacity": description.capacity,
        "profile": {
            "line": description.profile.line(), "device": device, "dtype": dtype, "cpu_capability": cpu_capability,
            "threads": threads, "kernel_path": kernel_path, "torch_version": torch_version,
        },
        "cpu_capability_inside": description.cpu_capability_inside,
        "models": models,
    })
}
