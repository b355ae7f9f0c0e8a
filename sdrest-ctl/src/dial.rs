//! Connecting to a Unix socket with a deadline. connect(2) waits for as long as the queue before accept(2) is full, and
//! behind a stopped program it stays full: here that is an answer like another.

use nix::{
    errno::Errno,
    sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket},
};
use std::{
    io::{Error, ErrorKind, Result},
    os::{fd::AsRawFd, unix::net::UnixStream},
    path::Path,
    time::{Duration, Instant},
};

/// Before the next look at a full queue.
const PAUSE: Duration = Duration::from_millis(20);

/// A connection that blocks. Where the queue stays full for `patience`, the error is of the kind `WouldBlock`.
pub(crate) fn dial(path: &Path, patience: Duration) -> Result<UnixStream> {
    let until = Instant::now().checked_add(patience);
    loop {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let made = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
        match connect(made.as_raw_fd(), &UnixAddr::new(path)?) {
            Ok(()) => {
                let stream = UnixStream::from(made);
                stream.set_nonblocking(false)?;
                return Ok(stream);
            }
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) if until.is_none_or(|until| Instant::now() < until) => {
                std::thread::sleep(PAUSE);
            }
            Err(Errno::EAGAIN) => {
                return Err(Error::new(
                    ErrorKind::WouldBlock,
                    format!("nobody takes connections: the queue was full for {patience:?}"),
                ));
            }
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::{Backlog, bind, listen};
    use std::{io::Write, os::unix::net::UnixListener};

    #[test]
    fn a_full_queue_is_an_answer_and_an_empty_one_a_connection() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        assert_eq!(dial(&path, Duration::ZERO).unwrap_err().kind(), ErrorKind::NotFound);
        let listener =
            socket(AddressFamily::Unix, SockType::Stream, SockFlag::empty(), None).unwrap();
        bind(listener.as_raw_fd(), &UnixAddr::new(&path).unwrap()).unwrap();
        listen(&listener, Backlog::new(0).unwrap()).unwrap();
        let mut first = dial(&path, Duration::ZERO).unwrap();
        let full = dial(&path, Duration::from_millis(50)).unwrap_err();
        assert_eq!(full.kind(), ErrorKind::WouldBlock);
        assert!(full.to_string().contains("50ms"), "{full}");
        // Taken out of the queue meanwhile, and then it waits as any stream does.
        let listener = UnixListener::from(listener);
        let taker = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(50));
            listener.accept().unwrap();
            listener
        });
        dial(&path, Duration::from_secs(20)).unwrap();
        drop(taker.join().unwrap());
        assert!(first.write_all(b"x").is_err(), "its listener is gone");
    }
}
