//! A made-up /etc for one test, with more services and accounts than the harness gives, and the test modules that
//! go with it: our own hostile one, and those of Debian packages that are not installed here.

use harness::{PrivateEtc, is_root, programs, skip};
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};
use tempfile::TempDir;

pub(crate) struct Place {
    _dir: TempDir,
    pub(crate) etc: PrivateEtc,
    /// Folders of libraries that modules need and this machine does not have.
    libraries: Vec<String>,
}

impl Place {
    /// Nothing, and the reason on standard error, where this machine cannot have one: pam_unix checks the passwords
    /// of other accounts for root alone.
    pub(crate) fn new() -> Option<Self> {
        if !is_root() {
            skip(
                "pam_unix checks other accounts' passwords for root alone; run this suite as root",
            );
            return None;
        }
        let dir = tempfile::Builder::new().prefix("sdrest-security-").tempdir().unwrap();
        let etc = PrivateEtc::make(dir.path()).unwrap();
        Some(Self { _dir: dir, etc, libraries: Vec::new() })
    }

    /// Has every program of this place find a library of a Debian package, which need not be installed. False, and
    /// the reason told, where it is not to be had.
    pub(crate) fn has_library(&mut self, package: &str, library: &str) -> bool {
        let Some(found) = file_of(package, library) else { return false };
        self.libraries.push(found.parent().unwrap().display().to_string());
        true
    }

    /// What is put before a program so that it finds them.
    pub(crate) fn with_libraries(&self) -> Vec<String> {
        if self.libraries.is_empty() {
            return Vec::new();
        }
        vec!["env".to_owned(), format!("LD_LIBRARY_PATH={}", self.libraries.join(":"))]
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.etc.folder().join(file)
    }

    pub(crate) fn write(&self, file: &str, text: &str) {
        let path = self.path(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    }

    pub(crate) fn service(&self, name: &str, text: &str) {
        self.write(&format!("pam.d/{name}"), text);
    }

    pub(crate) fn read(&self, file: &str) -> String {
        fs::read_to_string(self.path(file)).unwrap_or_default()
    }

    /// Rewrites a file of the made-up /etc in place, so that owner and mode stay.
    pub(crate) fn edit(&self, file: &str, change: impl Fn(String) -> String) {
        fs::write(self.path(file), change(self.read(file))).unwrap();
    }

    /// One more account, with this word as the second field of shadow(5).
    pub(crate) fn account(&self, name: &str, uid: u32, hash: &str) {
        self.edit("passwd", |text| format!("{text}{name}:x:{uid}:{uid}::/nonexistent:/bin/sh\n"));
        self.edit("group", |text| format!("{text}{name}:x:{uid}:\n"));
        self.edit("shadow", |text| format!("{text}{name}:{hash}:19000:0:99999:7:::\n"));
    }

    /// Runs a command over this /etc: whether it went well, and what it wrote.
    pub(crate) fn run(&self, program: &str, arguments: &[&str]) -> (bool, String) {
        self.run_with(program, arguments, "")
    }

    pub(crate) fn run_with(
        &self,
        program: &str,
        arguments: &[&str],
        input: &str,
    ) -> (bool, String) {
        let mut command = self.etc.command(program);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&text).into_owned())
    }
}

/// The hostile module, compiled once; nothing, and the reason, where it cannot be.
pub(crate) fn hostile() -> Option<&'static Path> {
    static MODULE: OnceLock<Option<PathBuf>> = OnceLock::new();
    let compiled = MODULE.get_or_init(|| {
        let module = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("pam_hostile_security.so");
        let source = programs::checkout().join("sdrest-authd/conversation/tests/hostile/module.c");
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&module).arg(source).arg("-lpam");
        cc.status().is_ok_and(|status| status.success()).then_some(module)
    });
    if compiled.is_none() {
        skip("there is no C compiler, or the headers of libpam are missing");
    }
    compiled.as_deref()
}

/// A module of a Debian package: the host's, or else taken out of the package, which is downloaded and unpacked
/// into a folder of this suite and never installed. Nothing, and the reason, where neither is to be had.
pub(crate) fn module_of(package: &str, module: &str) -> Option<PathBuf> {
    file_of(package, &format!("security/{module}"))
}

fn file_of(package: &str, file: &str) -> Option<PathBuf> {
    static ONE_AT_A_TIME: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let below = |root: &Path| {
        ["lib", "usr/lib"]
            .map(|lib| root.join(lib).join("x86_64-linux-gnu").join(file))
            .into_iter()
            .find(|path| path.is_file())
    };
    let folder = programs::checkout().join(".cache/packages").join(package);
    if let Some(found) = below(Path::new("/")).or_else(|| below(&folder)) {
        return Some(found);
    }
    fs::create_dir_all(&folder).unwrap();
    let script =
        "cd \"$1\" && apt-get -q -o Acquire::Retries=3 download \"$2\" && dpkg -x ./*.deb .";
    let _ = Command::new("sh")
        .args(["-c", script, "sh"])
        .arg(&folder)
        .arg(package)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let found = below(&folder);
    if found.is_none() {
        skip(&format!(
            "{file} is neither installed nor in a package {package} that apt can download"
        ));
    }
    found
}
