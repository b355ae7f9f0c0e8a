//! What the kernel says of this process, read back after the sandbox was closed: proc_pid_status(5) of every
//! thread, and one try at a network socket. It reports what it finds, never what was meant.

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use sdrest_proto::health::SandboxReport;
use std::{fs, io};

const THREADS: &str = "/proc/self/task";

/// How many threads the process has besides this one.
pub(super) fn other_threads() -> io::Result<usize> {
    Ok(fs::read_dir(THREADS)?.count().saturating_sub(1))
}

/// The worst that any thread has. `landlock_abi` is what the kernel answered when the rules were enforced;
/// `None` where the sandbox was not closed.
pub(super) fn read(landlock_abi: Option<u32>) -> io::Result<SandboxReport> {
    let mut report = SandboxReport {
        closed: landlock_abi.is_some(),
        no_new_privs: true,
        effective_capabilities: 0,
        seccomp: 2,
        landlock_abi: landlock_abi.unwrap_or(0),
        network_denied: network_denied(),
    };
    for thread in fs::read_dir(THREADS)? {
        let status = match fs::read_to_string(thread?.path().join("status")) {
            Ok(status) => status,
            // A thread that ended while the folder was read.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH)) => {
                continue;
            }
            Err(error) => return Err(error),
        };
        report.no_new_privs &= field(&status, "NoNewPrivs") == Some("1");
        report.seccomp = report
            .seccomp
            .min(field(&status, "Seccomp").and_then(|it| it.parse().ok()).unwrap_or(0));
        let effective = field(&status, "CapEff").and_then(|hex| u64::from_str_radix(hex, 16).ok());
        report.effective_capabilities |= effective.unwrap_or(u64::MAX);
    }
    Ok(report)
}

fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

fn network_denied() -> bool {
    socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).is_err()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let status = "Name:\tx\nSeccomp_filters:\t3\nSeccomp:\t2\nNoNewPrivs:\t1\nCapEff:\t00000000000000ff\n";
        assert_eq!(field(status, "Seccomp"), Some("2"));
        assert_eq!(field(status, "NoNewPrivs"), Some("1"));
        assert_eq!(field(status, "CapEff"), Some("00000000000000ff"));
        assert_eq!(field(status, "CapPrm"), None);
    }
}
