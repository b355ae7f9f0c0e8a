//! What was opened before the sandbox closed is used inside it; the rest of the sandbox is tried where it is made.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use sdrest_api::edge::SocketTables;
use sdrest_sandbox::{Reach, close};
use std::net::{TcpListener, TcpStream};

#[test]
fn the_kernels_tables_of_sockets_stay_readable_where_they_were_opened() {
    let tables = SocketTables::open().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let server = listener.accept().unwrap().0;
    let ends = (server.peer_addr().unwrap(), server.local_addr().unwrap());
    // Landlock and seccomp belong to a thread.
    let inside = std::thread::spawn(move || {
        let sandboxed = close(&Reach::default()).unwrap();
        let own = nix::unistd::geteuid().as_raw();
        assert_eq!(tables.owner(ends.0, ends.1).unwrap(), own);
        if sandboxed.report().landlock_abi != 0 {
            assert!(SocketTables::open().is_err(), "they cannot be opened any more");
        }
        drop((client, server));
    });
    inside.join().unwrap();
}
