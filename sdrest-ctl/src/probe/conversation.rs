//! conversation.sock: whoever listens there starts a conversation program for this connection, and that is
//! asked whether a login could run. The listener's credentials are read first (unix(7), SO_PEERCRED).

use super::{Logins, PATIENCE, Report, State};
use crate::dial::dial;
use anyhow::{Context, Result, ensure};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use sdrest_proto::conversation::{FromConversation, ToConversation, read_frame, write_frame};
use std::path::Path;

/// chauthtok.sock: a service file without `password` lines is an administrator's choice and no fault.
pub(super) fn change(path: &Path, logins: &Logins, report: &mut Report) -> Result<()> {
    health(path, logins, report)?;
    if report.state == State::Impossible {
        report.state = State::Up;
        report.detail = format!("expired passwords are not changed: {}", report.detail);
    }
    Ok(())
}

pub(super) fn health(path: &Path, logins: &Logins, report: &mut Report) -> Result<()> {
    let mut connection = dial(path, PATIENCE)?;
    let peer = getsockopt(&connection, PeerCredentials).context("the listener is unknown")?;
    let own = nix::unistd::geteuid().as_raw();
    ensure!(peer.uid() == 0 || peer.uid() == own, "uid {} listens there", peer.uid());
    let service = match logins {
        Logins::Off | Logins::Unknown => {
            report.state = State::Up;
            let told = if *logins == Logins::Off { "; logins are off" } else { "" };
            report.detail = format!("listens{told}");
            return Ok(());
        }
        Logins::WithoutPam => None,
        Logins::Pam(service) => Some(service.clone()),
    };
    let detail = match &service {
        Some(service) => format!("logins through {service} can run"),
        None => "passwords can be compared and accounts looked up; PAM has no part".to_owned(),
    };
    connection.set_read_timeout(Some(PATIENCE))?;
    connection.set_write_timeout(Some(PATIENCE))?;
    write_frame(&mut connection, &ToConversation::Probe { service })?;
    match read_frame(&mut connection).context("the conversation program did not answer")? {
        FromConversation::Probed { fault: None, .. } => {
            report.state = State::Up;
            report.detail = detail;
        }
        FromConversation::Probed { fault: Some(fault), .. } => {
            report.state = State::Impossible;
            report.detail = fault;
        }
        other => anyhow::bail!("it answered a probe with {other:?}"),
    }
    Ok(())
}
