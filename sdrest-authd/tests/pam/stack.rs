//! Both real programs on a private run and state folder: authd, and one conversation program for each connection,
//! started as systemd or `sdrestctl serve` would. Tests speak to authd as the front end does.

use sdrest_proto::{
    authd::{AuthdAdminClient, AuthdClient},
    bounds::Username,
    error::Fault,
    id::RequestId,
    login::{BeginLogin, ConversationRef, LoginState, Poll, Respond, Step},
    secret::{Answer, ConversationSecret},
    transport::{self, AUTHD, AUTHD_ADMIN, TrustedUids, deadline},
};
use std::{
    fs,
    io::{BufRead, BufReader},
    os::{
        fd::OwnedFd,
        unix::{fs::PermissionsExt, net::UnixListener},
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Where the conversation program is: beside authd, built by the same command.
pub(crate) fn conversation_program() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_BIN_EXE_sdrest-authd")).with_file_name("sdrest-conversation");
    path.is_file().then_some(path)
}

/// A test PAM module of libpam-wrapper, where it is installed.
pub(crate) fn pam_matrix() -> Option<PathBuf> {
    let lib = fs::read_dir("/usr/lib").ok()?;
    lib.flatten()
        .map(|entry| entry.path().join("pam_wrapper/pam_matrix.so"))
        .find(|path| path.is_file())
}

pub(crate) struct Stack {
    pub(crate) dir: tempfile::TempDir,
    authd: Child,
    /// authd's own uid.
    pub(crate) uid: u32,
    log: Arc<Mutex<String>>,
}

/// How the stack is started.
#[derive(Clone, Copy)]
pub(crate) struct Setup<'a> {
    /// `--auth`.
    pub(crate) mode: &'a str,
    /// Further flags of authd.
    pub(crate) flags: &'a [&'a str],
    /// Service files by name; where there are none, /etc/pam.d is used.
    pub(crate) services: &'a [(&'a str, String)],
    pub(crate) service: &'a str,
    /// Lines of the table [authd].
    pub(crate) config: &'a str,
    pub(crate) conversation_flags: &'a [&'a str],
    /// authd's own account, where it is not the caller's.
    pub(crate) authd_uid: Option<u32>,
    /// Put before the conversation program, as `unshare` is.
    pub(crate) wrapper: &'a [&'a str],
}

/// A stack without PAM services of its own, run by the caller.
pub(crate) const PLAIN: Setup<'_> = Setup {
    mode: "pam",
    flags: &[],
    services: &[],
    service: "sdrest",
    config: "throttle = false",
    conversation_flags: &["--min-uid", "1"],
    authd_uid: None,
    wrapper: &[],
};

impl Stack {
    /// Starts both; the log instead where authd refuses to.
    pub(crate) fn start(setup: &Setup<'_>) -> Result<Self, String> {
        let dir = tempfile::tempdir().unwrap();
        let services = dir.path().join("pam.d");
        fs::create_dir(&services).unwrap();
        for (name, text) in setup.services {
            fs::write(services.join(name), text).unwrap();
            fs::set_permissions(services.join(name), fs::Permissions::from_mode(0o644)).unwrap();
        }
        fs::write(dir.path().join("sdrest.toml"), format!("[authd]\n{}\n", setup.config)).unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        launcher(&dir.path().join("conversation.sock"), dir.path(), setup, &[], &log);
        let changing: &[&str] = &["--change-expired"];
        launcher(&dir.path().join("chauthtok.sock"), dir.path(), setup, changing, &log);
        if let Some(uid) = setup.authd_uid {
            std::os::unix::fs::chown(dir.path(), Some(uid), Some(uid)).unwrap();
        }
        let uid = setup.authd_uid.unwrap_or(nix::unistd::geteuid().as_raw());
        match authd(dir.path(), setup, &log) {
            Ok(authd) => Ok(Self { dir, authd, uid, log }),
            Err(_) => Err(log.lock().unwrap().clone()),
        }
    }

    /// Kills authd and starts it again on the same folders; `meanwhile` runs in between.
    pub(crate) fn restart(&mut self, setup: &Setup<'_>, meanwhile: impl FnOnce(&Path)) {
        self.kill();
        meanwhile(&self.path("state"));
        self.authd = authd(self.dir.path(), setup, &self.log).unwrap_or_else(|_| {
            panic!("authd did not start again: {}", self.log());
        });
    }

    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// The log once it holds `text`, or as it is after a while: it comes through a pipe.
    pub(crate) fn log_with(&self, text: &str) -> String {
        let give_up = Instant::now() + Duration::from_secs(20);
        while !self.log().contains(text) && Instant::now() < give_up {
            thread::sleep(Duration::from_millis(10));
        }
        self.log()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) async fn client(&self) -> AuthdClient {
        let transport =
            transport::connect(&self.path("authd.sock"), &TrustedUids::new([self.uid]), AUTHD)
                .await
                .unwrap();
        AuthdClient::new(tarpc::client::Config::default(), transport).spawn()
    }

    /// The process id of authd.
    pub(crate) fn authd(&self) -> u32 {
        self.authd.id()
    }

    pub(crate) async fn admin(&self) -> AuthdAdminClient {
        admin_at(&self.path("authd-admin.sock"), self.uid).await
    }

    /// Kills authd without a word, and says what it left running.
    pub(crate) fn kill(&mut self) {
        self.authd.kill().unwrap();
        self.authd.wait().unwrap();
    }
}

/// The administrators' side of a socket that this uid listens on.
pub(crate) async fn admin_at(path: &Path, listener: u32) -> AuthdAdminClient {
    let trusted = TrustedUids::new([listener]);
    let transport = transport::connect(path, &trusted, AUTHD_ADMIN).await.unwrap();
    AuthdAdminClient::new(tarpc::client::Config::default(), transport).spawn()
}

impl Drop for Stack {
    fn drop(&mut self) {
        let _ = self.authd.kill();
        let _ = self.authd.wait();
    }
}

/// Starts authd and waits until it serves; where it refuses, the log says why.
fn authd(dir: &Path, setup: &Setup<'_>, log: &Arc<Mutex<String>>) -> Result<Child, ()> {
    let own = nix::unistd::geteuid().as_raw().to_string();
    let bin = env!("CARGO_BIN_EXE_sdrest-authd");
    let mut command = match setup.authd_uid {
        None => Command::new(bin),
        Some(uid) => {
            let mut command = Command::new("setpriv");
            let id = uid.to_string();
            command.args(["--reuid", &id, "--regid", &id, "--clear-groups", "--", bin]);
            command
        }
    };
    for (flag, name) in [
        ("--config", "sdrest.toml"),
        ("--socket", "authd.sock"),
        ("--admin-socket", "authd-admin.sock"),
        ("--conversation-socket", "conversation.sock"),
        ("--state-dir", "state"),
    ] {
        command.arg(flag).arg(dir.join(name));
    }
    let mut child = command
        .args(["--auth", setup.mode, "--pam-service-name", setup.service])
        .args(["--failure-floor-ms", "400", "--conversation-user", &own])
        .args(["--api-user", &own, "--admin-user", &own])
        .args(setup.flags.iter().map(|flag| flag.replace("DIR", &dir.display().to_string())))
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let (ready, wait) = std::sync::mpsc::channel();
    let copy = Arc::clone(log);
    thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            copy.lock().unwrap().push_str(&format!("{line}\n"));
            if line.contains("\"event\":\"started\"") {
                let _ = ready.send(());
            }
        }
    });
    if wait.recv_timeout(PATIENCE).is_ok() {
        return Ok(child);
    }
    let _ = child.kill();
    let _ = child.wait();
    Err(())
}

/// Listens on a conversation socket and starts one program for each connection.
fn launcher(
    socket: &Path,
    dir: &Path,
    setup: &Setup<'_>,
    more_flags: &[&str],
    log: &Arc<Mutex<String>>,
) {
    let listener = UnixListener::bind(socket).unwrap();
    fs::set_permissions(socket, fs::Permissions::from_mode(0o666)).unwrap();
    let authd = setup.authd_uid.unwrap_or(nix::unistd::geteuid().as_raw());
    let program = conversation_program().unwrap();
    let mut line: Vec<std::ffi::OsString> = setup.wrapper.iter().map(Into::into).collect();
    line.push(program.into());
    line.extend(["--authd-user".into(), authd.to_string().into()]);
    line.extend(setup.conversation_flags.iter().chain(more_flags).map(Into::into));
    if !setup.services.is_empty() {
        line.extend(["--pam-config-dir".into(), dir.join("pam.d").into()]);
    }
    let log = Arc::clone(log);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(stream) = stream else { return };
            let child = Command::new(&line[0])
                .args(&line[1..])
                .stdin(OwnedFd::from(stream))
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            let log = Arc::clone(&log);
            thread::spawn(move || {
                let output = child.wait_with_output().unwrap();
                log.lock().unwrap().push_str(&String::from_utf8_lossy(&output.stderr));
            });
        }
    });
}

pub(crate) fn begin(user: &str, password: Option<&str>) -> BeginLogin {
    BeginLogin {
        username: Username::try_from(user.to_owned()).unwrap(),
        password: password.map(|text| Answer::new(text.to_owned())),
        source: Some("192.0.2.9".parse().unwrap()),
        request: RequestId::random(),
        wait_ms: 15_000,
    }
}

/// A conversation as a client holds it.
pub(crate) struct Talk {
    client: AuthdClient,
    pub(crate) step: Step,
    secret: String,
}

impl Talk {
    pub(crate) async fn begin(client: &AuthdClient, login: BeginLogin) -> Result<Self, Fault> {
        let step = client.begin(deadline(PATIENCE), login).await.unwrap()?;
        let secret = step.secret.as_ref().unwrap().expose("test").to_owned();
        Ok(Self { client: client.clone(), step, secret })
    }

    pub(crate) fn reference(&self) -> ConversationRef {
        ConversationRef { id: self.step.id, secret: ConversationSecret::new(self.secret.clone()) }
    }

    pub(crate) async fn respond(&mut self, answers: &[&str]) -> Result<(), Fault> {
        let sequence = self.step.sequence;
        self.respond_at(sequence, answers).await
    }

    pub(crate) async fn respond_at(
        &mut self,
        sequence: u32,
        answers: &[&str],
    ) -> Result<(), Fault> {
        let respond = Respond {
            conversation: self.reference(),
            sequence,
            answers: answers.iter().map(|text| Answer::new((*text).to_owned())).collect(),
            wait_ms: 15_000,
            request: RequestId::random(),
        };
        self.step = self.client.respond(deadline(PATIENCE), respond).await.unwrap()?;
        Ok(())
    }

    pub(crate) async fn poll(&mut self) -> Result<(), Fault> {
        let poll = Poll {
            conversation: self.reference(),
            after: self.step.sequence,
            wait_ms: 15_000,
            request: RequestId::random(),
        };
        self.step = self.client.poll(deadline(PATIENCE), poll).await.unwrap()?;
        Ok(())
    }

    /// Polls until the login has ended.
    pub(crate) async fn end(mut self) -> LoginState {
        while matches!(self.step.state, LoginState::Running) {
            self.poll().await.unwrap();
        }
        self.step.state
    }
}

/// A login with one password, to its end: the code of the failure, or `ok`.
pub(crate) async fn login(client: &AuthdClient, user: &str, password: &str) -> (String, Duration) {
    let began = Instant::now();
    let code = match Talk::begin(client, begin(user, Some(password))).await {
        Err(fault) => fault.code.as_str().to_owned(),
        Ok(talk) => match talk.end().await {
            LoginState::Succeeded(_) => "ok".to_owned(),
            LoginState::Failed(fault) => fault.code.as_str().to_owned(),
            LoginState::Waiting { .. } => "waiting".to_owned(),
            LoginState::Running => "running".to_owned(),
        },
    };
    (code, began.elapsed())
}

/// Processes whose command line holds `mark`, waited for until there are none or 20 s are over.
pub(crate) fn left_running(mark: &str) -> Vec<String> {
    let give_up = Instant::now() + Duration::from_secs(20);
    loop {
        let found: Vec<String> = fs::read_dir("/proc")
            .unwrap()
            .flatten()
            .filter_map(|entry| fs::read(entry.path().join("cmdline")).ok())
            .map(|line| String::from_utf8_lossy(&line).replace('\0', " "))
            .filter(|line| line.contains(mark))
            .collect();
        if found.is_empty() || Instant::now() > give_up {
            return found;
        }
        thread::sleep(Duration::from_millis(20));
    }
}
