//! The closed sandbox, tried from inside: what a break-in would do must fail, and what the server does must
//! work. Landlock and seccomp belong to a thread, so each test closes one of its own.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use sdrest_sandbox::{Reach, Sandboxed, close};
use std::{
    fs,
    io::ErrorKind,
    net::{TcpListener, TcpStream, UdpSocket},
    os::unix::net::UnixStream,
    path::PathBuf,
    process::Command,
};

/// Runs `escape` in a thread that has closed its sandbox around a folder of its own.
fn inside(escape: impl FnOnce(&Sandboxed, PathBuf) + Send + 'static) {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().to_owned();
    let thread = std::thread::spawn(move || {
        let sandboxed =
            close(&Reach { state: vec![state.clone()], read: vec!["/etc/hosts".into()] }).unwrap();
        escape(&sandboxed, state);
    });
    thread.join().unwrap();
}

#[test]
fn it_reports_what_the_kernel_says() {
    inside(|sandboxed, _| {
        let report = sandboxed.report();
        assert!(report.closed && report.no_new_privs && report.network_denied);
        assert_eq!((report.effective_capabilities, report.seccomp), (0, 2));
    });
}

#[test]
fn no_file_but_the_state() {
    inside(|sandboxed, state| {
        fs::write(state.join("kept"), "x").unwrap();
        assert_eq!(fs::read_to_string(state.join("kept")).unwrap(), "x");
        if sandboxed.report().landlock_abi == 0 {
            println!("skipped: this kernel has no Landlock");
            return;
        }
        for secret in ["/etc/passwd", "/etc/shadow", "/proc/self/environ", "/proc/self/status"] {
            assert_eq!(
                fs::read(secret).unwrap_err().kind(),
                ErrorKind::PermissionDenied,
                "{secret}"
            );
        }
        for place in [std::env::temp_dir().join("sdrest-escape"), "/dev/shm/sdrest-escape".into()] {
            assert_eq!(
                fs::write(&place, "x").unwrap_err().kind(),
                ErrorKind::PermissionDenied,
                "{place:?}"
            );
        }
        assert!(fs::read_dir("/").is_err());
        fs::read("/etc/hosts").unwrap();
        assert!(fs::write("/etc/hosts", "x").is_err());
        // What no state folder holds cannot be made in it.
        assert!(std::os::unix::fs::symlink("/etc/passwd", state.join("link")).is_err());
        assert!(std::os::unix::net::UnixListener::bind(state.join("socket")).is_err());
    });
}

#[test]
fn no_network_but_unix_sockets_work() {
    inside(|_, _| {
        assert!(
            TcpStream::connect("127.0.0.1:1")
                .is_err_and(|e| e.kind() == ErrorKind::PermissionDenied)
        );
        assert!(
            TcpListener::bind("127.0.0.1:0")
                .is_err_and(|e| e.kind() == ErrorKind::PermissionDenied)
        );
        assert!(UdpSocket::bind("[::1]:0").is_err_and(|e| e.kind() == ErrorKind::PermissionDenied));
        UnixStream::pair().unwrap();
    });
}

#[test]
fn no_other_program_and_no_new_namespace() {
    inside(|_, state| {
        assert!(Command::new("/bin/true").status().is_err());
        fs::write(state.join("script"), "#!/bin/sh\n").unwrap();
        assert!(Command::new(state.join("script")).status().is_err());
        let namespace = nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWUSER);
        assert_eq!(namespace, Err(nix::errno::Errno::EPERM));
        assert_eq!(nix::unistd::chroot("/"), Err(nix::errno::Errno::EPERM));
        std::thread::spawn(|| {}).join().unwrap();
    });
}
