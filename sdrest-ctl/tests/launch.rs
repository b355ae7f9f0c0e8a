//! The hidden `launch…` subcommands, from outside: what a daemon sees and is, and that nothing of a login
//! outlives it. They need root; without it each test says so.
#![expect(clippy::unwrap_used, reason = "a test may panic, also in its own functions")]

use nix::{sys::signal::Signal, unistd::Pid};
use std::{
    fs,
    os::{fd::OwnedFd, unix::net::UnixListener, unix::net::UnixStream},
    path::Path,
    process::{Child, Command, Output, Stdio, id},
    time::{Duration, Instant},
};

const SDRESTCTL: &str = env!("CARGO_BIN_EXE_sdrestctl");
/// No account of any machine.
const UID: &str = "65533";

fn root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("SKIPPED: namespaces and users of their own need root");
    }
    root
}

/// A shell script run as a daemon is: its output comes by standard error.
fn in_view(dir: &Path, listeners: &[(&str, OwnedFd)], script: &str) -> Output {
    fs::create_dir_all(dir.join("view")).unwrap();
    let mut command = Command::new(SDRESTCTL);
    command.args(["launch", "--parent", &id().to_string(), "--uid", UID, "--gid", UID]);
    command.arg("--view").arg(dir.join("view"));
    command.arg("--read-only").arg(dir.join("shown")).arg("--writable").arg(dir.join("state"));
    for (name, _) in listeners {
        command.args(["--listen", name]);
    }
    command.args(["--", "/bin/sh", "-c", script]).env_clear();
    let mut passed =
        listeners.iter().map(|(_, listener)| Stdio::from(listener.try_clone().unwrap()));
    command
        .stdin(passed.next().unwrap_or_else(Stdio::null))
        .stdout(passed.next().unwrap_or_else(Stdio::null));
    command.stderr(Stdio::piped()).output().unwrap()
}

/// A folder below one that only root may enter, as a checkout in /root is.
fn closed_home() -> (tempfile::TempDir, std::path::PathBuf) {
    use std::os::unix::fs::{PermissionsExt, chown};
    let home = tempfile::tempdir().unwrap();
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let dir = home.path().join("clone");
    for name in ["shown", "state", "hidden"] {
        fs::create_dir_all(dir.join(name)).unwrap();
    }
    fs::write(dir.join("shown/model"), "weights").unwrap();
    fs::write(dir.join("hidden/key"), "secret").unwrap();
    let uid = UID.parse().unwrap();
    chown(dir.join("state"), Some(uid), Some(uid)).unwrap();
    (home, dir)
}

#[test]
fn a_daemon_sees_what_it_was_given_and_nothing_else() {
    if !root() {
        return;
    }
    let (_home, dir) = closed_home();
    let script = format!(
        "cd '{}' && cat shown/model && echo mine > state/file && ls hidden; echo no > shown/model; echo no > new; ls /root; id -u; id -G; \
         grep -c . /proc/net/dev; grep -E '^(CapBnd|NoNewPrivs)' /proc/self/status; ls /proc/1 2>&1; head -c 3 /proc/cpuinfo",
        dir.display()
    );
    let output = in_view(&dir, &[], &script);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("weights"), "{text}");
    assert_eq!(fs::read_to_string(dir.join("state/file")).unwrap(), "mine\n");
    assert_eq!(
        fs::read_to_string(dir.join("shown/model")).unwrap(),
        "weights",
        "a read-only folder was written"
    );
    assert!(!dir.join("new").exists(), "{text}");
    assert!(text.contains("hidden") && !text.contains("key"), "{text}");
    assert!(
        text.contains("CapBnd:\t0000000000000000") && text.contains("NoNewPrivs:\t1"),
        "{text}"
    );
    assert!(text.lines().filter(|line| *line == UID).count() == 2, "one uid and one group: {text}");
    assert!(text.contains("pro"), "/proc/cpuinfo decides ATen's kernels: {text}");
    // Two lines of heading and the loopback device.
    assert!(text.lines().any(|line| line == "3"), "a network of its own has one device: {text}");
    assert!(text.contains("'/proc/1': No such file"), "other users' processes are hidden: {text}");
}

/// A login's program, a shell script, with more flags of its launcher.
fn login(flags: &[&str], script: &str) -> String {
    let (_ours, theirs) = UnixStream::pair().unwrap();
    let mut command = Command::new(SDRESTCTL);
    command.args(["launch-conversation", "--parent", &id().to_string(), "--seconds", "60"]);
    command.arg("--own-namespaces").args(flags).args(["--", "/bin/sh", "-c", script]);
    let output = command.stdin(Stdio::from(OwnedFd::from(theirs))).output().unwrap();
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn an_ordinary_login_cannot_write_where_passwords_are() {
    if !root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let etc = dir.path().to_str().unwrap();
    fs::write(dir.path().join("shadow"), "before").unwrap();
    let script = format!("cat {etc}/shadow >&2; echo after > {etc}/shadow; echo new > {etc}/new");
    let said = login(&["--read-only", etc], &script);
    assert!(said.contains("before") && said.contains("Read-only file system"), "{said}");
    assert_eq!(fs::read_to_string(dir.path().join("shadow")).unwrap(), "before");
    assert!(!dir.path().join("new").exists());
    // The one that changes an expired password can.
    login(&[], &script);
    assert_eq!(fs::read_to_string(dir.path().join("shadow")).unwrap(), "after\n");
}

/// A machine on which systemd, D-Bus and a container engine take orders from uid 0, and nscd answers; in a mount namespace
/// of the test's own. All the sockets are one, which this test listens on.
const MASTERS: &str = r#"mount -t tmpfs tmpfs /run
mkdir -p /run/dbus /run/systemd /run/nscd "$1/hidden"
for socket in dbus/system_bus_socket systemd/private docker.sock nscd/socket; do
    : >"/run/$socket" && mount --bind "$1/socket" "/run/$socket"
done
shift
exec "$@""#;

#[test]
fn a_login_sees_no_master_no_disk_and_no_terminal() {
    if !root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().to_str().unwrap();
    let _listener = UnixListener::bind(dir.path().join("socket")).unwrap();
    let script = format!(
        "for path in /run/dbus/system_bus_socket /run/systemd/private /run/docker.sock /run/nscd/socket {at}/socket; do
             if [ -S $path ]; then echo reached $path; fi
         done
         echo devices $(ls /dev); echo x >/dev/null && head -c 4 /dev/zero | wc -c; touch /dev/new
         find /dev/ -type b; (: </dev/tty) && echo terminal
         grep CapBnd /proc/self/status"
    );
    let (_ours, theirs) = UnixStream::pair().unwrap();
    let output = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-euc", MASTERS, "sh", at, SDRESTCTL])
        .args(["launch-conversation", "--parent", &id().to_string(), "--seconds", "60"])
        // One in the other: the second is out of sight by then.
        .args(["--own-namespaces", "--hide", &format!("{at}/hidden")])
        .args(["--hide", &format!("{at}/hidden/below"), "--hide", &format!("{at}/socket")])
        .args(["--", "/bin/sh", "-c", &format!("{{ {script}; }} >&2")])
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let reached: Vec<&str> =
        said.lines().filter_map(|line| line.strip_prefix("reached ")).collect();
    assert_eq!(reached, ["/run/nscd/socket"], "{said}");
    let devices = said.lines().find_map(|line| line.strip_prefix("devices ")).unwrap();
    let devices: Vec<&str> = devices.split(' ').filter(|name| *name != "log").collect();
    let few = ["fd", "full", "null", "random", "stderr", "stdin", "stdout", "urandom", "zero"];
    assert_eq!(devices, few, "{said}");
    assert!(said.lines().any(|line| line == "4"), "/dev/null and /dev/zero are real: {said}");
    assert!(!said.contains("terminal"), "{said}");
    assert!(said.contains("/dev/new"), "nothing is made there: {said}");
    let bounding = said.lines().find_map(|line| line.strip_prefix("CapBnd:\t")).unwrap();
    // CAP_DAC_READ_SEARCH is number 2 (capabilities(7)).
    assert_eq!(u64::from_str_radix(bounding, 16).unwrap() & 1 << 2, 0, "{said}");
}

#[test]
fn a_secret_arrives_at_its_number_from_wherever_it_was() {
    use std::os::fd::AsRawFd;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("secret");
    fs::write(&file, "of this test").unwrap();
    let held = fs::File::open(&file).unwrap();
    // A shell gives the descriptor the number that is wanted.
    for number in ["3", "4", "9"] {
        let script = format!(
            "exec {SDRESTCTL} launch --parent $PPID --secret-fd {number} -- /bin/sh -c 'cat <&9 >&2; ls /proc/self/fd >&2' {number}</proc/{}/fd/{}",
            id(),
            held.as_raw_fd()
        );
        let output = Command::new("/bin/sh").args(["-c", &script]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("of this test"), "{number}: {said}");
        let extra = said.lines().filter(|line| ["4", "5", "6", "7", "8"].contains(line)).count();
        assert_eq!(extra, 0, "{number}: {said}");
    }
}

#[test]
fn listening_sockets_arrive_where_sd_listen_fds_looks() {
    if !root() {
        return;
    }
    let (_home, dir) = closed_home();
    let bind = |name: &str| OwnedFd::from(UnixListener::bind(dir.join(name)).unwrap());
    let listeners = [("one", bind("1.sock")), ("two", bind("2.sock"))];
    let script =
        "echo $LISTEN_FDS $LISTEN_FDNAMES; [ $LISTEN_PID = $$ ] && echo own; ls -l /proc/self/fd";
    let output = in_view(&dir, &listeners, script);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("2 one:two") && text.contains("own"), "{text}");
    assert!(text.contains(" 3 -> socket:") && text.contains(" 4 -> socket:"), "{text}");
    assert!(!text.contains(" 6 ->"), "a descriptor leaked: {text}");
}

#[test]
fn a_launcher_whose_parent_is_gone_starts_nothing() {
    let output = Command::new(SDRESTCTL)
        .args(["launch", "--parent", "1", "--", "/bin/echo", "started"])
        .output()
        .unwrap();
    assert!(!output.status.success());
    assert!(!String::from_utf8_lossy(&output.stderr).contains("started\n"), "{output:?}");
}

/// A login whose module hides in a session of its own and ignores SIGTERM.
fn hanging_login(connection: UnixStream, seconds: &str, mark: &str) -> Child {
    let script = format!("trap '' TERM; (setsid sleep {mark} &); exec sleep {mark}");
    let mut command = Command::new(SDRESTCTL);
    command.args(["launch-conversation", "--parent", &id().to_string(), "--seconds", seconds]);
    if nix::unistd::geteuid().is_root() {
        command.arg("--own-namespaces");
    }
    command
        .args(["--", "/bin/sh", "-c", &script])
        .stdin(Stdio::from(OwnedFd::from(connection)))
        .stdout(Stdio::null());
    command.spawn().unwrap()
}

/// Processes that sleep for `mark` seconds: a number that only one test uses.
fn sleeping(mark: &str) -> usize {
    let entries = fs::read_dir("/proc").unwrap();
    let wanted = format!("sleep\0{mark}\0");
    entries
        .filter_map(|entry| fs::read(entry.ok()?.path().join("cmdline")).ok())
        .filter(|command| command == wanted.as_bytes())
        .count()
}

fn until(what: &str, done: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < end, "not within 20 s: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn nothing_of_a_login_outlives_its_caller() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut login = hanging_login(theirs, "600", "71001");
    until("the login runs", || sleeping("71001") == 2);
    drop(ours);
    login.wait().unwrap();
    until("all of it is gone", || sleeping("71001") == 0);
}

#[test]
fn nothing_of_a_login_outlives_its_time() {
    let (_ours, theirs) = UnixStream::pair().unwrap();
    let mut login = hanging_login(theirs, "1", "71002");
    login.wait().unwrap();
    until("all of it is gone", || sleeping("71002") == 0);
}

#[test]
fn nothing_of_a_login_outlives_its_launcher() {
    if !root() {
        return;
    }
    let (_ours, theirs) = UnixStream::pair().unwrap();
    let mut login = hanging_login(theirs, "600", "71003");
    until("the login runs", || sleeping("71003") == 2);
    let pid = Pid::from_raw(i32::try_from(login.id()).unwrap());
    nix::sys::signal::kill(pid, Signal::SIGKILL).unwrap();
    login.wait().unwrap();
    until("all of it is gone", || sleeping("71003") == 0);
}
