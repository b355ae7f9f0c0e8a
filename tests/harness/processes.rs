//! The processes of one stack, found by what the kernel says: everything that sees the stack's made-up /etc belongs
//! to it, whatever it is called and whoever adopted it.

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use std::{fs, path::Path};

/// The programs of sdrest, by the names of their files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    Ctl,
    Api,
    Authd,
    Worker,
    Conversation,
}

impl Program {
    pub fn file(self) -> &'static str {
        match self {
            Self::Ctl => "sdrestctl",
            Self::Api => "sdrest-api",
            Self::Authd => "sdrest-authd",
            Self::Worker => "sdrest-worker",
            Self::Conversation => "sdrest-conversation",
        }
    }
}

/// One live process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    pub pid: i32,
    pub parent: i32,
    pub uid: u32,
    pub command: Vec<String>,
}

impl Process {
    /// The file name of argv[0].
    pub fn name(&self) -> &str {
        let first = self.command.first().map(String::as_str).unwrap_or_default();
        first.rsplit('/').next().unwrap_or_default()
    }

    pub fn is(&self, program: Program) -> bool {
        self.name() == program.file()
    }
}

/// All processes that see `etc` as their /etc, or name a path below `dir` in their command line (a process
/// that forbids being looked at shows its mounts to root only).
pub fn of_stack(dir: &Path) -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid: &i32| *pid != own && belongs(*pid, dir))
        .filter_map(look)
        .collect()
}

fn belongs(pid: i32, dir: &Path) -> bool {
    let folder = dir.to_string_lossy();
    let mounts = String::from_utf8_lossy(&of_any_thread(pid, "mountinfo")).into_owned();
    // The fourth field is the mounted folder within its file system, the fifth where it is mounted. On another
    // file system than the root's the fourth is shorter than the path outside.
    let over_etc = mounts.lines().any(|line| {
        let mut fields = line.split(' ').skip(3);
        let (source, target) =
            (fields.next().unwrap_or_default(), fields.next().unwrap_or_default());
        target == "/etc" && source.len() > "/etc".len() && format!("{folder}/etc").ends_with(source)
    });
    over_etc || command(pid).iter().any(|word| word.contains(&*folder))
}

fn command(pid: i32) -> Vec<String> {
    of_any_thread(pid, "cmdline")
        .split(|byte| *byte == 0)
        .filter(|word| !word.is_empty())
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect()
}

/// The threads of a process, its first among them.
fn threads(pid: i32) -> Vec<String> {
    let entries = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// A file of /proc of the first thread that shows it. In a process that is being killed the first thread is often
/// the first to go, while another holds its memory and then its files.
fn of_any_thread(pid: i32, file: &str) -> Vec<u8> {
    let read = |path: String| fs::read(path).ok().filter(|bytes| !bytes.is_empty());
    let of_thread = |thread: &String| read(format!("/proc/{pid}/task/{thread}/{file}"));
    read(format!("/proc/{pid}/{file}"))
        .or_else(|| threads(pid).iter().find_map(of_thread))
        .unwrap_or_default()
}

/// Nothing where it is gone, or a zombie of which no thread is left and that nobody has waited for yet.
fn look(pid: i32) -> Option<Process> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let field = |name: &str| {
        status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
    };
    if field("State")?.starts_with('Z') && threads(pid).len() < 2 {
        return None;
    }
    Some(Process {
        pid,
        parent: field("PPid")?.parse().ok()?,
        uid: field("Uid")?.split_whitespace().next()?.parse().ok()?,
        command: command(pid),
    })
}

/// Sends a signal to one process that [`of_stack`] found.
pub fn send(process: &Process, signal: Signal) -> nix::Result<()> {
    kill(Pid::from_raw(process.pid), signal)
}
