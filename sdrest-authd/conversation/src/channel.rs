//! The connection to authd: frames out under a lock (the watchdog may close it at any moment), frames in by the
//! one thread that runs PAM. It takes the socket off standard input first, so that a module that reads or
//! writes 0 or 1 meets /dev/null.

use crate::deadlines::Deadlines;
use nix::{
    sys::socket::{Shutdown, getsockopt, shutdown, sockopt::PeerCredentials},
    unistd::{dup2_stdin, dup2_stdout},
};
use sdrest_proto::conversation::{self, FromConversation, ToConversation};
use std::{
    fs::OpenOptions,
    io,
    os::{
        fd::{AsFd, AsRawFd},
        unix::net::UnixStream,
    },
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

/// A peer in a user namespace that has no name here.
const OVERFLOW_UID: u32 = 65534;

pub(crate) struct Channel {
    stream: UnixStream,
    writer: Mutex<UnixStream>,
    pub(crate) deadlines: Deadlines,
    /// Whether the verdict is out, or on its way: a hang-up after it is the ordinary end.
    finished: AtomicBool,
}

impl Channel {
    /// Takes the socket from standard input and puts /dev/null at 0 and 1; standard error stays the log.
    pub(crate) fn from_stdin() -> io::Result<Self> {
        let socket = io::stdin().as_fd().try_clone_to_owned()?;
        let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
        dup2_stdin(&null)?;
        dup2_stdout(&null)?;
        let stream = UnixStream::from(socket);
        stream.set_nonblocking(false)?;
        let writer = Mutex::new(stream.try_clone()?);
        let finished = AtomicBool::new(false);
        Ok(Self { stream, writer, deadlines: Deadlines::default(), finished })
    }

    /// Refuses a peer other than authd or root, before any byte of it is read (SO_PEERCRED, unix(7)).
    pub(crate) fn check_peer(&self, authd: u32) -> io::Result<()> {
        let peer = getsockopt(&self.stream, PeerCredentials)?;
        if trusted(peer.uid(), authd) {
            return Ok(());
        }
        Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("the other end of standard input has uid {}, authd has {authd}", peer.uid()),
        ))
    }

    pub(crate) fn send(&self, frame: &FromConversation) -> io::Result<()> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        conversation::write_frame(&mut *writer, frame)
    }

    /// The last frame of this connection.
    pub(crate) fn finish(&self, frame: &FromConversation) -> io::Result<()> {
        self.finished.store(true, Ordering::SeqCst);
        self.send(frame)
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.finished.load(Ordering::SeqCst)
    }

    pub(crate) fn receive(&self) -> io::Result<ToConversation> {
        conversation::read_frame(&mut &self.stream)
    }

    /// Waits for answers, under the step's deadline.
    pub(crate) fn receive_answer(&self) -> io::Result<ToConversation> {
        self.deadlines.person_is_asked();
        let frame = self.receive();
        self.deadlines.person_answered();
        frame
    }

    pub(crate) fn raw(&self) -> i32 {
        self.stream.as_raw_fd()
    }

    pub(crate) fn as_stream(&self) -> &UnixStream {
        &self.stream
    }

    /// No byte gets out after this, whatever a module still does.
    pub(crate) fn close(&self) {
        let _ = shutdown(self.raw(), Shutdown::Both);
    }
}

/// Root may ask too: `sdrestctl status` probes, and root needs nobody's leave.
fn trusted(peer: u32, authd: u32) -> bool {
    peer != OVERFLOW_UID && (peer == authd || peer == 0)
}

#[cfg(test)]
mod tests {
    use super::{OVERFLOW_UID, trusted};

    #[test]
    fn authd_and_root_may_ask_and_nobody_else() {
        assert!(trusted(990, 990) && trusted(0, 990));
        assert!(!trusted(991, 990) && !trusted(1000, 0));
        assert!(!trusted(OVERFLOW_UID, OVERFLOW_UID));
    }
}
