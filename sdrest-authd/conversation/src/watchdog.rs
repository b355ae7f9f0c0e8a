//! The one thread beside PAM's: it ends the whole process when a deadline passes or authd hangs up, whatever a
//! module is doing. The order matters: first the socket is shut, so that no verdict can follow; then what the
//! modules started is killed; then the process ends without running any exit handler.

use crate::{channel::Channel, descendants, report};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::{io, os::fd::AsFd, sync::Arc, thread, time::Duration};

/// How long the thread of PAM has to end the process once its last word is out: less than the launcher waits.
const LAST_WORD: Duration = Duration::from_millis(500);

/// How often the deadlines are looked at; a hang-up is noticed at once.
const TICK_MS: u16 = 100;

/// Starts the thread. It ends only with the process.
pub(crate) fn start(channel: Arc<Channel>, end: fn(i32) -> !) -> io::Result<()> {
    thread::Builder::new().name("watchdog".to_owned()).spawn(move || watch(&channel, end)).map(drop)
}

fn watch(channel: &Channel, end: fn(i32) -> !) {
    let why = loop {
        // No event is asked for: POLLHUP, POLLERR and POLLNVAL are always reported.
        let mut polled = [PollFd::new(channel.as_stream().as_fd(), PollFlags::empty())];
        match poll(&mut polled, PollTimeout::from(TICK_MS)) {
            Ok(0) | Err(nix::Error::EINTR) => {}
            Ok(_) => break "authd hung up",
            Err(_) => break "the connection cannot be watched",
        }
        if let Some(why) = channel.deadlines.passed() {
            break why;
        }
    };
    if channel.is_finished() {
        // Everything that was started is gone already. The thread of PAM is about to end the process, and knows
        // whether its last word went out; only a module's exit handler can keep it from that.
        thread::sleep(LAST_WORD);
        end(0)
    }
    channel.close();
    report::line(why);
    descendants::kill_all();
    end(1)
}
