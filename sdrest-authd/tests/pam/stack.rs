//! Both real programs on a private run and state folder: authd, and one conversation program for each connection,
//! started as systemd or `sdrestctl serve` would. Tests speak to authd as the front end does.

use sdrest_proto::{
    authd::AuthdClient,
    bounds::Username,
    error::Fault,
    id::RequestId,
    login::{BeginLogin, ConversationRef, LoginState, Poll, Respond, Step},
    secret::{Answer, ConversationSecret},
    transport::{self, AUTHD, TrustedUids, deadline},
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
    uid: u32,
    log: Arc<Mutex<String>>,
}

/// How the stack is started.
#[derive(Clone, Copy)]
pub(crate) struct Setup<'a> {
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
        launcher(dir.path(), setup, Arc::clone(&log));
        let at = |name: &str| dir.path().join(name).into_os_string();
        let own = nix::unistd::geteuid().as_raw();
        let bin = env!("CARGO_BIN_EXE_sdrest-authd");
        let mut command = match setup.authd_uid {
            None => Command::new(bin),
            Some(uid) => {
                std::os::unix::fs::chown(dir.path(), Some(uid), Some(uid)).unwrap();
                let mut command = Command::new("setpriv");
                let id = uid.to_string();
                command.args(["--reuid", &id, "--regid", &id, "--clear-groups", "--", bin]);
                command
            }
        };
        let mut authd = command
            .args([
                "--auth",
                "pam",
                "--pam-service-name",
                setup.service,
                "--failure-floor-ms",
                "400",
            ])
            .arg("--config")
            .arg(at("sdrest.toml"))
            .arg("--socket")
            .arg(at("authd.sock"))
            .arg("--admin-socket")
            .arg(at("authd-admin.sock"))
            .arg("--conversation-socket")
            .arg(at("conversation.sock"))
            .arg("--state-dir")
            .arg(at("state"))
            .args(["--conversation-user", &own.to_string(), "--api-user", &own.to_string()])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(authd.stderr.take().unwrap()).lines();
        let (ready, wait) = std::sync::mpsc::channel();
        let copy = Arc::clone(&log);
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if line.contains("serving; auth") {
                    let _ = ready.send(());
                }
                copy.lock().unwrap().push_str(&format!("{line}\n"));
            }
        });
        let serving = wait.recv_timeout(PATIENCE).is_ok();
        let stack = Self { dir, authd, uid: setup.authd_uid.unwrap_or(own), log };
        if serving { Ok(stack) } else { Err(stack.log()) }
    }

    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// The log once it holds `text`, or as it is after a while: it comes through a pipe.
    pub(crate) fn log_with(&self, text: &str) -> String {
        let give_up = Instant::now() + Duration::from_secs(5);
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

    /// Kills authd without a word, and says what it left running.
    pub(crate) fn kill(&mut self) {
        self.authd.kill().unwrap();
        self.authd.wait().unwrap();
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        let _ = self.authd.kill();
        let _ = self.authd.wait();
    }
}

/// Listens on the conversation socket and starts one program for each connection.
fn launcher(dir: &Path, setup: &Setup<'_>, log: Arc<Mutex<String>>) {
    let socket = dir.join("conversation.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o666)).unwrap();
    let authd = setup.authd_uid.unwrap_or(nix::unistd::geteuid().as_raw());
    let program = conversation_program().unwrap();
    let mut line: Vec<std::ffi::OsString> = setup.wrapper.iter().map(Into::into).collect();
    line.push(program.into());
    line.extend(["--authd-user".into(), authd.to_string().into()]);
    line.extend(setup.conversation_flags.iter().map(Into::into));
    if !setup.services.is_empty() {
        line.extend(["--pam-config-dir".into(), dir.join("pam.d").into()]);
    }
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

/// Processes whose command line holds `mark`, waited for until there are none or 3 s are over.
pub(crate) fn left_running(mark: &str) -> Vec<String> {
    let give_up = Instant::now() + Duration::from_secs(3);
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
