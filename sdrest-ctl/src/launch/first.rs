//! The first process of a login's PID namespace: when it ends, the kernel ends everything in the namespace,
//! whatever a PAM module started and wherever it hid (pid_namespaces(7)). It becomes the conversation program.

use super::descriptors;
use crate::cli::LaunchFirstArgs;
use anyhow::{Context, Error, Result, bail};
use caps::{CapSet, Capability};
use nix::{
    mount::{MsFlags, mount},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{prctl, signal::Signal},
};
use std::{
    convert::Infallible, io::stdout, os::fd::AsFd, os::unix::process::CommandExt, process::Command,
};

/// What no PAM module may ever do; the conversation program then keeps only what it asks for by name. With
/// CAP_DAC_READ_SEARCH open_by_handle_at(2) opens files that a mount hides; shadow files of any mode are read with
/// CAP_DAC_OVERRIDE too.
const NEVER: [Capability; 10] = [
    Capability::CAP_BPF,
    Capability::CAP_DAC_READ_SEARCH,
    Capability::CAP_MAC_ADMIN,
    Capability::CAP_MAC_OVERRIDE,
    Capability::CAP_MKNOD,
    Capability::CAP_SYS_BOOT,
    Capability::CAP_SYS_MODULE,
    Capability::CAP_SYS_PTRACE,
    Capability::CAP_SYS_RAWIO,
    Capability::CAP_SYS_TIME,
];

/// Returns only where a step failed.
pub(crate) fn run(args: &LaunchFirstArgs) -> Result<Infallible> {
    descriptors::begin(None)?;
    if args.mount_proc {
        let hardened = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        // A container may forbid this; then /proc shows the outer namespace's numbers, which nothing here reads.
        let _ = mount(Some("proc"), "/proc", Some("proc"), hardened, None::<&str>);
    }
    prctl::set_pdeathsig(Signal::SIGKILL).context("the death signal cannot be set")?;
    parent_lives()?;
    if args.mount_proc {
        drop_what_no_module_needs()?;
    }
    let (program, arguments) = args.program.split_first().context("no program was named")?;
    let error = Command::new(program).args(arguments).stdout(descriptors::log_as_output()?).exec();
    Err(Error::new(error).context(format!("{} cannot be executed", program.display())))
}

/// The parent is outside of this PID namespace and has no number here. Standard output is a pipe whose other
/// end it alone holds; when that is gone, so is the parent.
fn parent_lives() -> Result<()> {
    let output = stdout();
    let mut pipe = [PollFd::new(output.as_fd(), PollFlags::POLLERR)];
    poll(&mut pipe, PollTimeout::ZERO).context("the parent's pipe cannot be looked at")?;
    let gone = PollFlags::POLLERR | PollFlags::POLLHUP | PollFlags::POLLNVAL;
    if pipe[0].revents().is_some_and(|events| events.intersects(gone)) {
        bail!("the process that started this one has ended");
    }
    Ok(())
}

fn drop_what_no_module_needs() -> Result<()> {
    for capability in NEVER {
        if caps::has_cap(None, CapSet::Bounding, capability).unwrap_or(false) {
            caps::drop(None, CapSet::Bounding, capability)
                .with_context(|| format!("{capability} cannot be dropped"))?;
        }
    }
    Ok(())
}
