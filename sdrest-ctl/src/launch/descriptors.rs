//! The descriptors and the signal mask that a new process begins with: what the caller of sdrestctl left
//! open or blocked must not reach a sandboxed program.

use anyhow::{Context, Result, bail};
use nix::{
    fcntl::{FcntlArg, fcntl},
    sys::signal::SigSet,
};
use std::{
    fs,
    io::{stderr, stdin, stdout},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    process::Stdio,
};

/// SD_LISTEN_FDS_START of sd_listen_fds(3).
const FIRST_LISTENER: i32 = 3;

/// Where a program finds its secret: above the listeners.
pub(crate) const SECRET: i32 = 9;

/// Closes all but the three standard descriptors and the one of the secret, and blocks no signal.
pub(crate) fn begin(secret: Option<i32>) -> Result<()> {
    SigSet::empty().thread_set_mask().context("the signal mask cannot be cleared")?;
    let open: Vec<i32> = fs::read_dir("/proc/self/fd")
        .context("/proc/self/fd cannot be read")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    let closed = |descriptor: &i32| *descriptor >= FIRST_LISTENER && Some(*descriptor) != secret;
    for descriptor in open.into_iter().filter(closed) {
        // The one that read the folder is closed already: EBADF says so.
        let _ = nix::unistd::close(descriptor);
    }
    Ok(())
}

/// Moves the secret to where its program looks. It is opened anew, so that a program which was started again reads it
/// from its beginning.
pub(crate) fn place_secret(number: i32) -> Result<()> {
    let memory = fs::File::open(format!("/proc/self/fd/{number}")).context("no secret is there")?;
    nix::unistd::close(number).context("the secret cannot be moved")?;
    let got = fcntl(&memory, FcntlArg::F_DUPFD(SECRET)).context("the secret cannot be moved")?;
    if got != SECRET {
        bail!("the secret went to descriptor {got} instead of {SECRET}");
    }
    Ok(())
}

/// Copies standard input, and with two names standard output, to where sd_listen_fds(3) looks. They stay
/// open over exec.
pub(crate) fn place_listeners(names: &[String]) -> Result<()> {
    let (input, output) = (stdin(), stdout());
    let sources: [BorrowedFd<'_>; 2] = [input.as_fd(), output.as_fd()];
    if names.len() > sources.len() {
        bail!("at most two listening sockets can be handed over, got {}", names.len());
    }
    for (place, (source, name)) in (FIRST_LISTENER..).zip(sources.into_iter().zip(names)) {
        let got = fcntl(source, FcntlArg::F_DUPFD(place))
            .with_context(|| format!("socket {name} is not there"))?;
        if got != place {
            bail!("socket {name} went to descriptor {got} instead of {place}");
        }
    }
    Ok(())
}

/// Standard output for a program that has nothing to say there: where its log goes.
pub(crate) fn log_as_output() -> Result<Stdio> {
    let log: OwnedFd = stderr().as_fd().try_clone_to_owned().context("standard error is closed")?;
    Ok(Stdio::from(log))
}
