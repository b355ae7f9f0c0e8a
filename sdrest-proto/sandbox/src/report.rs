//! What the kernel says of this process (proc_pid_status(5)), and one try at a network socket.

use sdrest_proto::health::SandboxReport;
use std::{
    fs::File,
    io::{self, Read, Seek},
    net::{Ipv4Addr, UdpSocket},
};

/// The process's status, opened while that is possible.
pub(crate) struct Status(File);

impl Status {
    pub(crate) fn open() -> io::Result<Self> {
        File::open("/proc/thread-self/status").map(Self)
    }

    /// Looks. `landlock_abi` is what the kernel answered when the rules were enforced; nothing where the sandbox was
    /// left open.
    pub(crate) fn report(mut self, landlock_abi: Option<u32>) -> io::Result<SandboxReport> {
        let mut text = String::new();
        self.0.rewind()?;
        self.0.read_to_string(&mut text)?;
        let field = |name: &str| {
            text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim).unwrap_or_default()
        };
        Ok(SandboxReport {
            closed: landlock_abi.is_some(),
            no_new_privs: field("NoNewPrivs:") == "1",
            // What cannot be read counts as the worst that it could be.
            effective_capabilities: u64::from_str_radix(field("CapEff:"), 16).unwrap_or(u64::MAX),
            seccomp: field("Seccomp:").parse().unwrap_or(0),
            landlock_abi: landlock_abi.unwrap_or(0),
            network_denied: UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).is_err(),
        })
    }
}
