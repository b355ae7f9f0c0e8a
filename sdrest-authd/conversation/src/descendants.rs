//! Nothing that a module started outlives the login. The process makes itself the reaper of its orphans
//! (PR_SET_CHILD_SUBREAPER, prctl(2)), so a program that a module put into a session of its own is still found
//! here. Under systemd the unit's KillMode, and under `sdrestctl serve` the PID namespace, do the same once
//! more.

use nix::{
    sys::{
        prctl,
        signal::{Signal, kill},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};
use std::{
    thread,
    time::{Duration, Instant},
};

/// How long a descendant that was killed may take to die: on a busy machine it gets no processor at once.
const PATIENCE: Duration = Duration::from_secs(2);

pub(crate) fn adopt_orphans() -> nix::Result<()> {
    prctl::set_child_subreaper(true)
}

/// Kills every descendant. A killed child's own children become this process's, and go in the next round.
pub(crate) fn kill_all() {
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        for child in children() {
            let _ = kill(child, Signal::SIGKILL);
        }
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) => break,
                Ok(_) => {}
                // ECHILD: nobody is left.
                Err(_) => return,
            }
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// The children of all threads (proc(5), /proc/pid/task/tid/children).
fn children() -> Vec<Pid> {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else { return Vec::new() };
    tasks
        .flatten()
        .filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok())
        .flat_map(|text| {
            text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<i32>>()
        })
        .map(Pid::from_raw)
        .collect()
}
