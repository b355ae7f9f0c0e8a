//! `sdrestctl serve` with everything that it starts, over a made-up /etc. A stack that is dropped is killed and
//! nothing of it stays.

use crate::{
    api::Api,
    etc::{PrivateEtc, service},
    processes::{self, Process, Program},
    programs,
};
use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::{
    fs::{self, File, OpenOptions},
    io::{BufRead, BufReader, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// Reading libtorch from a cold disk on a busy machine takes most of it.
const START: Duration = Duration::from_secs(180);
/// From SIGTERM to the end of everything.
const STOP: Duration = Duration::from_secs(45);

/// How a stack is to be.
#[derive(Debug)]
pub struct StackBuilder {
    auth: &'static str,
    /// A whole command line, in place of all that stands here.
    written: Option<Vec<String>>,
    service: String,
    arguments: Vec<String>,
    models: Vec<PathBuf>,
    programs: Option<PathBuf>,
    edit_etc: Option<fn(&Path) -> Result<()>>,
}

impl StackBuilder {
    /// PAM through the shipped service file.
    pub fn auth_pam(self) -> Self {
        self.pam_service(service::SHIPPED)
    }

    /// PAM through one of the services in [`crate::etc::service`].
    pub fn pam_service(mut self, name: &str) -> Self {
        self.auth = "pam";
        name.clone_into(&mut self.service);
        self
    }

    pub fn auth_none(self) -> Self {
        self.auth("none")
    }

    /// Any of the methods by its name; an empty one leaves `--auth` away, for the deprecated flags.
    pub fn auth(mut self, method: &'static str) -> Self {
        self.auth = method;
        self
    }

    /// A command line as a guide writes it. What names a place of the guide's own machine is put here instead: the
    /// program's folder, the models, the port, an address that others can reach, the log.
    pub fn written(mut self, line: &str) -> Self {
        self.written = Some(words(line));
        self
    }

    /// More of the command line of `sdrestctl serve`.
    pub fn argument(mut self, argument: impl Into<String>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Another models folder than the demo model's.
    pub fn models(mut self, folder: impl Into<PathBuf>) -> Self {
        self.models.push(folder.into());
        self
    }

    /// Another folder of programs than the one that was built with these tests.
    pub fn programs(mut self, folder: impl Into<PathBuf>) -> Self {
        self.programs = Some(folder.into());
        self
    }

    /// Changes the made-up /etc before anything reads it.
    pub fn edit_etc(mut self, edit: fn(&Path) -> Result<()>) -> Self {
        self.edit_etc = Some(edit);
        self
    }

    /// Starts it and waits for the ready line. The error holds the log.
    pub fn start(self) -> Result<Stack> {
        let dir = tempfile::Builder::new()
            .prefix("sdrest-test-")
            .tempdir()
            .context("no folder for the test")?;
        let path = dir.path().canonicalize()?;
        let etc = PrivateEtc::make(&path)?;
        if let Some(edit) = self.edit_etc {
            edit(&etc.folder())?;
        }
        let mut stack = Stack { dir, path, etc, plan: self, serve: None, url: String::new() };
        stack.launch()?;
        Ok(stack)
    }
}

/// A running stack.
#[derive(Debug)]
pub struct Stack {
    /// Removed when the stack is dropped.
    #[expect(dead_code, reason = "held for its Drop")]
    dir: TempDir,
    path: PathBuf,
    etc: PrivateEtc,
    plan: StackBuilder,
    serve: Option<Child>,
    url: String,
}

impl Stack {
    pub fn builder() -> StackBuilder {
        StackBuilder {
            auth: "none",
            written: None,
            service: service::SHIPPED.to_owned(),
            arguments: Vec::new(),
            models: Vec::new(),
            programs: None,
            edit_etc: None,
        }
    }

    /// `http://127.0.0.1:PORT`, or what `--listen` said.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A client without credentials.
    pub fn api(&self) -> Api {
        Api::new(&self.url)
    }

    pub fn run_dir(&self) -> PathBuf {
        self.path.join("run")
    }

    pub fn state_dir(&self) -> PathBuf {
        self.path.join("state")
    }

    pub fn etc(&self) -> &PrivateEtc {
        &self.etc
    }

    /// Everything that all programs have logged so far, over restarts too.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path.join("log")).unwrap_or_default()
    }

    /// `sdrestctl` with `words` and this stack's run folder; `input` is its standard input.
    pub fn sdrestctl(&self, words: &[&str], input: &str) -> Result<Output> {
        let mut command = self.etc.command(programs::find("sdrestctl")?);
        command.args(words).arg("--run-dir").arg(self.run_dir());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("sdrestctl cannot be started")?;
        let mut to = child.stdin.take().context("no pipe")?;
        // A command that reads nothing may be gone by now.
        let _ = to.write_all(input.as_bytes());
        drop(to);
        child.wait_with_output().context("sdrestctl was lost")
    }

    /// Adds a user to the internal database.
    pub fn add_user(&self, name: &str, password: &str, role: &str) -> Result<()> {
        let words = ["user", "add", name, "--role", role, "--password-stdin"];
        let output = self.sdrestctl(&words, &format!("{password}\n"))?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "user add {name}: {said}");
        Ok(())
    }

    /// `sdrestctl status -o json` and its exit code.
    pub fn status(&self) -> Result<(i32, Value)> {
        let mut command = self.etc.command(programs::find("sdrestctl")?);
        command.arg("status").arg("--run-dir").arg(self.run_dir()).args(["-o", "json"]);
        let output = command.stderr(Stdio::inherit()).output()?;
        let code = output.status.code().context("status was killed")?;
        Ok((code, serde_json::from_slice(&output.stdout).context("status wrote no JSON")?))
    }

    /// All live processes of this stack.
    pub fn processes(&self) -> Vec<Process> {
        processes::of_stack(&self.path)
    }

    /// The process of a program, if it runs now.
    pub fn process(&self, program: Program) -> Option<Process> {
        let serve = self.serve.as_ref().and_then(|serve| i32::try_from(serve.id()).ok());
        self.processes().into_iter().find(|process| match program {
            // The launchers have that name too.
            Program::Ctl => Some(process.pid) == serve,
            _ => process.is(program),
        })
    }

    /// Sends a signal to a program that must be running, and gives its pid.
    pub fn kill(&self, program: Program, signal: Signal) -> Result<i32> {
        let process =
            self.process(program).with_context(|| format!("{} does not run", program.file()))?;
        processes::send(&process, signal)?;
        Ok(process.pid)
    }

    /// Waits until a program runs under another pid than `old`.
    pub fn wait_for_new(&self, program: Program, old: i32) -> Result<i32> {
        self.wait_until("the program runs again", START, || {
            self.process(program).map(|process| process.pid).filter(|pid| *pid != old)
        })
    }

    /// Waits until `status` calls everything well.
    pub fn wait_healthy(&self) -> Result<()> {
        self.wait_until("everything is well", START, || {
            self.status().ok().filter(|(code, _)| *code == 0)
        })
        .map(|_| ())
    }

    /// Looks again and again until there is a value.
    pub fn wait_until<T>(
        &self,
        what: &str,
        patience: Duration,
        look: impl Fn() -> Option<T>,
    ) -> Result<T> {
        let until = Instant::now() + patience;
        loop {
            if let Some(found) = look() {
                return Ok(found);
            }
            if Instant::now() > until {
                bail!("not within {} s: {what}\n{}", patience.as_secs(), self.log());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Starts `sdrestctl serve` again on the same folders, after its end.
    pub fn start_again(&mut self) -> Result<()> {
        ensure!(self.serve.is_none(), "it still runs");
        self.launch()
    }

    /// Ends it by SIGTERM, as a person would; fails where anything stays behind.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        self.kill(Program::Ctl, Signal::SIGTERM)?;
        self.wait_end()
    }

    /// After a signal to sdrestctl: waits for its end, and that nothing stays behind.
    pub fn wait_end(&mut self) -> Result<ExitStatus> {
        let mut serve = self.serve.take().context("it does not run")?;
        let until = Instant::now() + STOP;
        let status = loop {
            if let Some(status) = serve.try_wait()? {
                break status;
            }
            if Instant::now() > until {
                self.serve = Some(serve);
                bail!("sdrestctl did not end\n{}", self.log());
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        // Death signals are on their way while the parent is already gone.
        let stays = self.wait_until("nothing is left", Duration::from_secs(30), || {
            self.processes().is_empty().then_some(())
        });
        stays.with_context(|| format!("left behind: {:?}", self.processes()))?;
        Ok(status)
    }

    fn program(&self) -> Result<PathBuf> {
        match &self.plan.programs {
            Some(folder) => Ok(folder.join("sdrestctl")),
            None => programs::find("sdrestctl"),
        }
    }

    fn as_planned(&self) -> Result<Command> {
        let mut command = self.etc.command(self.program()?);
        command.arg("serve");
        if !self.plan.arguments.iter().any(|argument| argument == "--listen") {
            command.args(["--port", "0"]);
        }
        if !self.plan.auth.is_empty() {
            command.args(["--auth", self.plan.auth]);
        }
        command.args(["--pam-service-name", &self.plan.service]);
        let demo = [programs::demo_model()];
        let models =
            if self.plan.models.is_empty() { demo.as_slice() } else { self.plan.models.as_slice() };
        for folder in models {
            command.arg("--models-dir").arg(folder);
        }
        Ok(command)
    }

    fn as_written(&self, words: &[String]) -> Result<Command> {
        let (program, arguments) = words.split_first().context("an empty command line")?;
        let link = self.path.join(Path::new(program).file_name().context("no program")?);
        if !link.exists() {
            std::os::unix::fs::symlink(self.program()?, &link)?;
        }
        let mut command = self.etc.command(link);
        let mut before = "";
        let below_models = arguments.iter().any(|word| word == "--checkpoints");
        for word in arguments {
            match before {
                "--port" => command.arg("0"),
                "--host" => command.arg("127.0.0.1"),
                "--models-dir" if below_models => command.arg(self.models_with_checkpoints()?),
                "--models-dir" => command.arg(programs::demo_model()),
                "--log-file" => command.arg(self.path.join("written.log")),
                _ => command.arg(word),
            };
            before = word;
        }
        if !arguments.iter().any(|word| word == "--port") {
            command.args(["--port", "0"]);
        }
        Ok(command)
    }

    /// A models folder as the guides have it: the model is below `checkpoints`.
    fn models_with_checkpoints(&self) -> Result<PathBuf> {
        let models = self.path.join("models");
        let checkpoints = models.join("checkpoints");
        if !checkpoints.exists() {
            fs::create_dir_all(&checkpoints)?;
            let copied = Command::new("cp")
                .arg("-r")
                .arg(programs::demo_model())
                .arg(&checkpoints)
                .status()?;
            ensure!(copied.success(), "the demo model could not be copied");
            Command::new("chmod").args(["-R", "a+rX"]).arg(&models).status()?;
            fs::set_permissions(&self.path, fs::Permissions::from_mode(0o755))?;
        }
        Ok(models)
    }

    /// What `--log-file` of a written command line has taken.
    pub fn written_log(&self) -> String {
        fs::read_to_string(self.path.join("written.log")).unwrap_or_default()
    }

    fn launch(&mut self) -> Result<()> {
        let mut command = match &self.plan.written {
            Some(words) => self.as_written(words)?,
            None => self.as_planned()?,
        };
        command.arg("--run-dir").arg(self.run_dir()).arg("--state-dir").arg(self.state_dir());
        command.args(&self.plan.arguments);
        let log = OpenOptions::new().create(true).append(true).open(self.path.join("log"))?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::from(log));
        let mut serve = command.spawn().context("sdrestctl cannot be started")?;
        let lines = lines_of(&mut serve)?;
        self.serve = Some(serve);
        match lines.recv_timeout(START) {
            Ok(line) => {
                let url = line
                    .strip_prefix("sdrest: ready ")
                    .with_context(|| format!("unexpected: {line}"))?;
                url.clone_into(&mut self.url);
                Ok(())
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                bail!("sdrestctl ended before it was ready\n{}", self.log())
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {
                bail!("not ready within {} s\n{}", START.as_secs(), self.log())
            }
        }
    }
}

/// The words of a command line; double quotes hold one together.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for letter in line.chars() {
        match letter {
            '"' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            _ => words.last_mut().into_iter().for_each(|word| word.push(letter)),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// The lines of its standard output, as they come.
fn lines_of(serve: &mut Child) -> Result<mpsc::Receiver<String>> {
    let output = serve.stdout.take().context("no pipe")?;
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    Ok(receiver)
}

impl Drop for Stack {
    fn drop(&mut self) {
        if let Some(serve) = &mut self.serve {
            let _ = serve.kill();
            let _ = serve.wait();
        }
        for process in self.processes() {
            let _ = processes::send(&process, Signal::SIGKILL);
        }
        if std::thread::panicking() {
            eprintln!("the stack's log:\n{}", self.log());
            // Kept beside the test's own output where a person looks first.
            if let Some(folder) = std::env::var_os("SDREST_TEST_LOGS") {
                let _ =
                    File::create(Path::new(&folder).join(format!("{}.log", std::process::id())))
                        .and_then(|mut to| to.write_all(self.log().as_bytes()));
            }
        }
    }
}
