//! `serve` from outside, with tiny shell scripts in place of the daemons: what each is started with, what it can see
//! of a secret, and what is refused before anything starts. The made-up /etc has the system users that root needs.
#![expect(clippy::unwrap_used, reason = "a test may panic, also in its own functions")]

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs::{self, File, Permissions},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

const SDRESTCTL: &str = env!("CARGO_BIN_EXE_sdrestctl");
const PRIVATE_ETC: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/harness/private_etc");
const SECRET: &str = "sentinel-4b1d-of-more-than-32-bytes";
/// What the script that stands for authd tells, and then it waits.
const AUTHD: &str = "#!/bin/sh
echo \"args $*\" >&2
if [ -e /proc/self/fd/9 ]; then echo \"secret of $(wc -c < /proc/self/fd/9) bytes\" >&2; fi
echo told >&2
exec sleep 600
";
const CONVERSATION: &str = "#!/bin/sh\necho 'pam: built in'\n";

/// sdrestctl among scripts, over a made-up /etc. Dropped, it is killed with all that it started.
struct Place {
    dir: tempfile::TempDir,
    serve: Option<Child>,
}

fn install(from: impl AsRef<OsStr>, to: &Path) {
    let status = Command::new("install").args(["-m", "755"]).arg(from).arg(to).status().unwrap();
    assert!(status.success());
}

impl Place {
    fn new(conversation: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        let made = Command::new(PRIVATE_ETC)
            .arg("make")
            .arg(dir.path())
            .stdin(Stdio::null())
            .status()
            .unwrap();
        assert!(made.success());
        let place = Self { dir, serve: None };
        fs::create_dir_all(place.path("bin")).unwrap();
        fs::create_dir_all(place.path("models")).unwrap();
        // By other programs: while this one holds a file open for writing, a child that another test starts has
        // it open as well until it becomes its program, and what is written cannot be run.
        install(SDRESTCTL, &place.path("bin/sdrestctl"));
        // Another program than authd's script becomes, so that the two can be told apart.
        let waits = "#!/bin/sh\nexec tail -f /dev/null\n";
        for (name, script) in [
            ("sdrest-authd", AUTHD),
            ("sdrest-api", waits),
            ("sdrest-worker", waits),
            ("sdrest-conversation", conversation),
        ] {
            let text = place.path(name);
            fs::write(&text, script).unwrap();
            install(text, &place.path("bin").join(name));
        }
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(PRIVATE_ETC);
        command.arg("run").arg(self.dir.path()).arg(self.path("bin/sdrestctl")).args(words);
        command.stdin(Stdio::null());
        command
    }

    fn serve(&self, words: &[&str]) -> Command {
        let mut command = self.command(&["serve"]);
        if !words.contains(&"--listen") {
            command.args(["--port", "0"]);
        }
        command.arg("--run-dir").arg(self.path("run")).arg("--state-dir").arg(self.path("state"));
        command.arg("--models-dir").arg(self.path("models")).args(words);
        command
    }

    /// Starts it, and gives what was said until authd had told everything.
    fn start(&mut self, words: &[&str]) -> String {
        let log = File::create(self.path("log")).unwrap();
        let child = self.serve(words).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        self.serve = Some(child);
        let end = Instant::now() + Duration::from_secs(60);
        loop {
            let log = fs::read_to_string(self.path("log")).unwrap();
            if log.lines().any(|line| line == "authd: told") {
                return log;
            }
            assert!(Instant::now() < end, "authd was not started:\n{log}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The end of one that cannot start.
    fn refused(&self, words: &[&str]) -> String {
        let Output { status, stderr, .. } = self.serve(words).output().unwrap();
        let said = String::from_utf8_lossy(&stderr).into_owned();
        assert_eq!(status.code(), Some(1), "{said}");
        said
    }

    /// It and everything below it.
    fn processes(&self) -> Vec<u32> {
        let mut found = vec![self.serve.as_ref().unwrap().id()];
        let mut at = 0;
        while let Some(pid) = found.get(at).copied() {
            found.extend(children(pid));
            at += 1;
        }
        found
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(serve) = &mut self.serve {
            let _ = serve.kill();
            let _ = serve.wait();
        }
    }
}

fn children(parent: u32) -> Vec<u32> {
    let line = format!("PPid:\t{parent}");
    let status = |pid: &u32| {
        let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        text.lines().any(|found| found == line)
    };
    let entries = fs::read_dir("/proc").unwrap();
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(status)
        .collect()
}

fn proc_file(pid: u32, name: &str) -> String {
    String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default())
        .into_owned()
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Whether descriptors of this process lead to a secret.
fn holds_secret(pid: u32) -> bool {
    let open = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    open.filter_map(|entry| fs::read_link(entry.path()).ok())
        .any(|target| target.to_string_lossy().contains("sdrest-jwt-secret"))
}

/// The programs that have the secret open, by name.
fn who_has_secret(place: &Place) -> Vec<String> {
    let holders = place.processes().into_iter().filter(|pid| holds_secret(*pid));
    let names = holders.map(|pid| {
        let command = proc_file(pid, "cmdline");
        let program = command.split('\0').next().unwrap_or_default();
        program.rsplit('/').next().unwrap_or_default().to_owned()
    });
    names.collect::<BTreeSet<_>>().into_iter().collect()
}

/// Nothing of the secret is in what other users can read, and only serve and authd have it at all.
fn assert_hidden(place: &Place, log: &str) {
    assert!(!log.contains(SECRET), "the secret is in the log:\n{log}");
    assert!(log.contains(&format!("secret of {} bytes", SECRET.len())), "{log}");
    assert!(log.contains("--jwt-secret-fd 9"), "{log}");
    let processes = place.processes();
    assert!(processes.len() >= 3, "{processes:?}");
    for pid in processes {
        for file in ["cmdline", "environ"] {
            let text = proc_file(pid, file);
            assert!(!text.contains(SECRET), "the secret is in /proc/{pid}/{file}: {text}");
        }
    }
    // The script of authd becomes `sleep`, a moment after it said what it was told; nothing shows in between.
    let until = Instant::now() + Duration::from_secs(20);
    let becomes = |name: &String| ["", "sh", "sdrestctl"].contains(&name.as_str());
    while who_has_secret(place).iter().all(becomes) && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(who_has_secret(place), ["sdrestctl", "sleep"], "who has the secret");
}

#[test]
fn a_secret_of_the_command_line_is_in_no_process_list() {
    for words in [
        &["--auth", "jwt", "--jwt-secret", SECRET][..],
        &[&format!("--jwt-secret={SECRET}"), "--auth", "jwt"],
    ] {
        let mut place = Place::new(CONVERSATION);
        let log = place.start(words);
        assert!(log.contains("use --jwt-secret-file"), "{log}");
        assert_hidden(&place, &log);
    }
}

#[test]
fn a_secret_of_a_file_is_in_no_process_list_and_needs_no_warning() {
    let mut place = Place::new(CONVERSATION);
    let file = place.path("secret");
    fs::write(&file, format!("{SECRET}\n")).unwrap();
    let words = ["--auth", "jwt", "--jwt-secret-file", file.to_str().unwrap()];
    fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
    let said = place.refused(&words);
    assert!(said.contains("0644") && !said.contains(SECRET), "{said}");
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    let log = place.start(&words);
    assert!(!log.contains("--jwt-secret:"), "{log}");
    assert_hidden(&place, &log);
}

#[test]
fn only_one_process_of_its_kind_gets_the_secret() {
    let mut place = Place::new(CONVERSATION);
    place.start(&["--auth", "jwt", "--jwt-secret", SECRET]);
    let with: Vec<u32> = place.processes().into_iter().filter(|pid| holds_secret(*pid)).collect();
    assert_eq!(with.len(), 2, "serve and authd: {with:?}");
    // The worker is started after authd, by the same thread.
    let all = place.processes();
    assert!(all.len() > with.len(), "the worker runs too: {all:?}");
}

#[test]
fn authd_is_told_the_method_its_data_and_where_passwords_change() {
    let mut place = Place::new(CONVERSATION);
    let data = place.path("auth data");
    let log = place.start(&["--auth", "pam", "--auth-data-dir", data.to_str().unwrap()]);
    let told = log.lines().find(|line| line.starts_with("authd: args")).unwrap();
    assert!(told.contains("--auth pam "), "{told}");
    assert!(told.contains(&format!("--auth-data-dir {}", data.display())), "{told}");
    assert!(!told.contains("--jwt-secret"), "{told}");
    let found = fs::metadata(&data).unwrap();
    assert_eq!(found.mode() & 0o7777, 0o700);
    if is_root() {
        assert_eq!(found.uid(), 60702, "authd's own");
        let socket = place.path("run/chauthtok.sock");
        assert!(told.contains(&format!("--chauthtok-socket {}", socket.display())), "{told}");
        assert_eq!(fs::symlink_metadata(&socket).unwrap().mode() & 0o7777, 0o660);
    } else {
        assert!(!told.contains("--chauthtok-socket"), "without root no password changes: {told}");
    }
}

#[test]
fn no_administrator_is_pinned_where_the_group_is_asked() {
    let mut place = Place::new(CONVERSATION);
    let group = place.path("etc/group");
    let text = fs::read_to_string(&group).unwrap();
    let joined = text.replace("sdrest-admin:x:60704:", "sdrest-admin:x:60704:nobody");
    assert_ne!(joined, text);
    fs::write(&group, joined).unwrap();
    let log = place.start(&["--auth", "jwt"]);
    let told = log.lines().find(|line| line.starts_with("authd: args")).unwrap();
    // Without root there is one uid, and no group that could be asked.
    assert_eq!(told.contains("--admin-user"), !is_root(), "{told}");
}

/// Sockets in the run folder.
fn sockets(place: &Place) -> Vec<PathBuf> {
    let folders = ["run", "run/worker"].map(|folder| fs::read_dir(place.path(folder)));
    let entries = folders.into_iter().flatten().flatten().flatten().map(|entry| entry.path());
    entries.filter(|path| path.extension().is_some_and(|end| end == "sock")).collect()
}

#[test]
fn a_start_that_fails_leaves_no_socket_behind() {
    let place = Place::new(CONVERSATION);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let begun = Instant::now();
    for _ in 0..2 {
        let said = place.refused(&["--auth", "pam", "--listen", &address]);
        assert!(said.contains("another program listens there"), "{said}");
        assert_eq!(sockets(&place), Vec::<PathBuf>::new());
    }
    assert!(begun.elapsed() < Duration::from_secs(8), "the second waited for a run that was none");
    // A socket of somebody else stays.
    let path = place.path("others.sock");
    let _others = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let said = place.refused(&["--listen", &format!("unix:{}", path.display())]);
    assert!(said.contains("another program listens on") && path.exists(), "{said}");
    if is_root() {
        // Found out when everything is bound.
        let path = place.path("own.sock");
        fs::set_permissions(place.path("models"), Permissions::from_mode(0o700)).unwrap();
        let said = place.refused(&["--listen", &format!("unix:{}", path.display())]);
        assert!(said.contains("cannot read") && !path.exists(), "{said}");
        assert_eq!(sockets(&place), Vec::<PathBuf>::new());
    }
}

#[test]
fn a_socket_has_its_mode_whatever_the_callers_umask() {
    let without = "#!/bin/sh\necho 'pam: not built in (PAM_AUTH_UNAVAILABLE)'\n";
    for (method, mode) in [("jwt", 0o660), ("unix", 0o666)] {
        let mut place = Place::new(without);
        let path = place.path("http.sock");
        place.start(&["--auth", method, "--listen", &format!("unix:{}", path.display())]);
        assert_eq!(fs::symlink_metadata(&path).unwrap().mode() & 0o7777, mode, "{method}");
    }
}

#[test]
fn the_older_flags_still_choose_the_method() {
    let mut place = Place::new(CONVERSATION);
    let log = place.start(&["--enable-pam-auth"]);
    assert!(log.contains("--enable-pam-auth is deprecated; write --auth pam"), "{log}");
    assert!(log.contains("--auth pam "), "{log}");
    let said = place.refused(&["--enable-unix-auth", "--auth", "none"]);
    assert!(said.contains("contradict"), "{said}");
}

#[test]
fn without_pam_no_password_changes_and_unix_stays_on_this_machine() {
    let without = "#!/bin/sh\necho 'pam: not built in (PAM_AUTH_UNAVAILABLE)'\n";
    let mut place = Place::new(without);
    let said = place.refused(&["--auth", "unix", "--host", "0.0.0.0"]);
    assert!(said.contains("kernel's word"), "{said}");
    let log = place.start(&["--auth", "unix"]);
    assert!(log.contains("no passwords; the kernel says"), "{log}");
    assert!(!log.contains("--chauthtok-socket"), "{log}");
    let help = place.command(&["serve", "--help"]).output().unwrap();
    let help = String::from_utf8_lossy(&help.stdout);
    assert!(help.contains("\npam: not built in"), "{help}");
}

#[test]
fn the_guides_line_to_look_for_pam_works_under_their_names() {
    let place = Place::new(CONVERSATION);
    for name in ["stable-diffusion-rest", "stable-diffusion-rest-server"] {
        let link = place.path("bin").join(name);
        std::os::unix::fs::symlink("sdrestctl", &link).unwrap();
        let output = Command::new(&link).arg("--help").output().unwrap();
        let help = String::from_utf8_lossy(&output.stdout);
        assert!(help.contains("pam: built in") && help.contains("--models-dir"), "{help}");
    }
}

#[test]
fn what_cannot_work_is_refused_by_name() {
    let place = Place::new(CONVERSATION);
    let run = |words: &[&str]| place.refused(words);
    let short = run(&["--auth", "jwt", "--jwt-secret", "only-30-bytes-are-not-enough!!"]);
    assert!(short.contains("32 to 4096 bytes, got 30") && !short.contains("only-30"), "{short}");
    assert!(run(&["--jwt-secret-fd", "77"]).contains("--jwt-secret-fd 77"));
    let wrong = run(&["--auth", "pam", "--pam-service-name", "no-such-service"]);
    assert!(wrong.contains("/etc/pam.d/no-such-service"), "{wrong}");
    assert!(run(&["--checkpoints", "gone"]).contains("--checkpoints"));
    let open = run(&["--host", "0.0.0.0"]);
    assert!(open.contains("--allow-open"), "{open}");
    assert_eq!(fs::read_dir(place.path("run")).map_or(0, Iterator::count), 0, "nothing is left");
    let both = place.serve(&["--jwt-secret", SECRET, "--jwt-secret-file", "x"]).output().unwrap();
    let said = String::from_utf8_lossy(&both.stderr);
    assert!(!both.status.success() && !said.contains(SECRET), "{said}");
}

#[test]
fn a_folder_of_other_things_is_not_given_to_authd() {
    let place = Place::new(CONVERSATION);
    let folder = place.path("things");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("file"), "mine").unwrap();
    let before = fs::metadata(&folder).unwrap();
    let said = place.refused(&["--auth", "jwt", "--auth-data-dir", folder.to_str().unwrap()]);
    assert!(said.contains("--auth-data-dir"), "{said}");
    let after = fs::metadata(&folder).unwrap();
    assert_eq!((before.uid(), before.mode()), (after.uid(), after.mode()));
    assert!(Path::new(&folder).join("file").exists());
}
