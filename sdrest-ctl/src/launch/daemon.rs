//! The last steps before a daemon: namespaces and file system view (root), listening sockets at the
//! descriptors of sd_listen_fds(3), user, no_new_privs, death signal, exec.

use super::{credentials, descriptors, view};
use crate::cli::LaunchArgs;
use anyhow::{Context, Error, Result};
use nix::{
    sched::{CloneFlags, unshare},
    sys::signal::Signal,
};
use std::{
    convert::Infallible,
    os::unix::process::CommandExt,
    process::{Command, Stdio, id},
};

/// Returns only where a step failed.
pub(crate) fn run(args: &LaunchArgs) -> Result<Infallible> {
    descriptors::begin(args.secret_fd)?;
    if let Some(number) = args.secret_fd {
        descriptors::place_secret(number)?;
    }
    descriptors::place_listeners(&args.listen)?;
    if let (Some(at), Some(uid), Some(gid)) = (&args.view, args.uid, args.gid) {
        let mut namespaces = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWIPC;
        if !args.keep_network {
            // The sockets were made outside and are handed over, so no daemon needs a network of its own.
            namespaces |= CloneFlags::CLONE_NEWNET;
        }
        unshare(namespaces).context("new namespaces cannot be made")?;
        view::enter(&view::View {
            at,
            read_only: &args.read_only,
            writable: &args.writable,
            sockets: &args.socket,
        })?;
        credentials::become_user(uid, gid)?;
    }
    credentials::no_new_privileges()?;
    credentials::end_with(args.parent, Signal::SIGKILL)?;
    let (program, arguments) = args.program.split_first().context("no program was named")?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(descriptors::log_as_output()?);
    if !args.listen.is_empty() {
        command
            .env("LISTEN_FDS", args.listen.len().to_string())
            .env("LISTEN_PID", id().to_string())
            .env("LISTEN_FDNAMES", args.listen.join(":"));
    }
    let error = command.exec();
    Err(Error::new(error).context(format!("{} cannot be executed", program.display())))
}
