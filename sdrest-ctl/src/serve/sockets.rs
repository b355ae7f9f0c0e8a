//! Every listening socket of one machine, bound before anything runs. `serve` keeps them, so a port or a
//! socket outlives the daemon behind it: callers wait in the backlog while it starts again.
//!
//! The daemons of a `serve` that was killed die with it, but the kernel takes a moment to let go of what they held.
//! Where an earlier run has left its sockets behind, this one waits for that.

use super::{folders::Held, listen::Listen, logs::Log, plan::Plan, privilege::Privilege};
use crate::dial::dial;
use anyhow::{Context, Result, bail, ensure};
use nix::sys::stat::{Mode, umask};
use std::{
    fs,
    io::ErrorKind,
    net::TcpListener,
    os::{
        fd::OwnedFd,
        unix::{
            fs::{FileTypeExt, lchown},
            net::UnixListener,
        },
    },
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// How long what a killed run held may stay held: its worker's memory goes first, and that takes time.
const LET_GO: Duration = Duration::from_secs(10);
/// Long enough that the tries do not fill a backlog that nobody reads any more.
const PAUSE: Duration = Duration::from_millis(100);

pub(crate) struct Sockets {
    pub(crate) http: OwnedFd,
    pub(crate) authd: OwnedFd,
    pub(crate) authd_admin: OwnedFd,
    pub(crate) conversation: UnixListener,
    /// Where expired passwords can be changed.
    pub(crate) chauthtok: Option<UnixListener>,
    pub(crate) worker: OwnedFd,
    /// As the front end and `status` write it: `HOST:PORT` or `unix:PATH`, with the port that was given.
    pub(crate) address: String,
}

/// The paths of the Unix sockets below the run folder.
#[derive(Clone, Debug)]
pub(crate) struct SocketPaths {
    pub(crate) authd: PathBuf,
    pub(crate) authd_admin: PathBuf,
    pub(crate) conversation: PathBuf,
    pub(crate) chauthtok: PathBuf,
    pub(crate) worker: PathBuf,
}

impl SocketPaths {
    pub(crate) fn below(run_dir: &Path) -> Self {
        Self {
            authd: run_dir.join("authd.sock"),
            authd_admin: run_dir.join("authd-admin.sock"),
            conversation: run_dir.join("conversation.sock"),
            chauthtok: run_dir.join("chauthtok.sock"),
            worker: run_dir.join("worker/0.sock"),
        }
    }

    fn all(&self) -> [&Path; 5] {
        [&self.authd, &self.authd_admin, &self.conversation, &self.chauthtok, &self.worker]
    }
}

/// Binds all of them. As root, each Unix socket's group is the one that may connect to it. The caller holds the run
/// folder's lock, so sockets in it are those of a run that was killed; and `files`, which has what was bound when a later
/// one cannot be.
pub(crate) fn bind(plan: &Plan, log: &Log, files: &mut Files) -> Result<Sockets> {
    let paths = SocketPaths::below(&plan.run_dir);
    let left_behind = paths.all().into_iter().any(|path| path.symlink_metadata().is_ok());
    let mut wait = Wait::new(if left_behind { LET_GO } else { Duration::ZERO }, log, files);
    let groups = match &plan.privilege {
        Privilege::Separate(users) => Groups {
            api: Some(users.api.gid),
            authd: Some(users.authd.gid),
            admin: Some(users.admin_gid),
        },
        Privilege::Caller { .. } => Groups::default(),
    };
    fs::create_dir_all(plan.run_dir.join("worker")).context("the run folder cannot be written")?;
    for folder in [plan.run_dir.clone(), plan.run_dir.join("worker")] {
        Held::open(&folder)?.give(groups.admin.map(|group| (0, group)), 0o750)?;
    }
    // One that an earlier run left behind would be taken for this run's.
    if !plan.changes_passwords() {
        let _ = fs::remove_file(&paths.chauthtok);
    }
    let chauthtok = plan
        .changes_passwords()
        .then(|| unix(&paths.chauthtok, Callers::of(groups.authd), &mut wait));
    // Where the kernel is asked who connects, everybody of this machine may, as on loopback.
    let callers = if plan.auth.by_kernel { Callers::Everybody } else { Callers::Own };
    let (http, address) = http(&plan.listen, callers, &mut wait)?;
    Ok(Sockets {
        http,
        address,
        authd: unix(&paths.authd, Callers::of(groups.api), &mut wait)?.into(),
        authd_admin: unix(&paths.authd_admin, Callers::of(groups.admin), &mut wait)?.into(),
        conversation: unix(&paths.conversation, Callers::of(groups.authd), &mut wait)?,
        chauthtok: chauthtok.transpose()?,
        worker: unix(&paths.worker, Callers::of(groups.api), &mut wait)?.into(),
    })
}

/// The files of the sockets that this run has bound, and none of somebody else's. They are removed when this is dropped:
/// callers then read "no such file" and not "connection refused", and the next run does not take this one for killed.
#[derive(Default)]
pub(crate) struct Files(Vec<PathBuf>);

impl Drop for Files {
    fn drop(&mut self) {
        for path in &self.0 {
            let _ = fs::remove_file(path);
        }
    }
}

/// Who may connect to a Unix socket.
#[derive(Clone, Copy)]
enum Callers {
    /// Its owner and nobody else: root, or who runs `serve`; and whoever shares that group.
    Own,
    /// This group.
    Group(u32),
    Everybody,
}

impl Callers {
    fn of(group: Option<u32>) -> Self {
        group.map_or(Self::Own, Self::Group)
    }
}

#[derive(Default)]
struct Groups {
    api: Option<u32>,
    authd: Option<u32>,
    admin: Option<u32>,
}

/// Time for a killed run to let go of what this one needs: once for all sockets.
struct Wait<'a> {
    until: Instant,
    log: &'a Log,
    files: &'a mut Files,
    told: bool,
}

impl<'a> Wait<'a> {
    fn new(patience: Duration, log: &'a Log, files: &'a mut Files) -> Self {
        Self { until: Instant::now() + patience, log, files, told: false }
    }

    /// A pause, if there is time left for one.
    fn goes_on(&mut self) -> bool {
        if Instant::now() >= self.until {
            return false;
        }
        if !self.told {
            self.told = true;
            self.log.line("sdrestctl", "waiting until the run before this one has ended");
        }
        std::thread::sleep(PAUSE);
        true
    }
}

fn http(listen: &Listen, callers: Callers, wait: &mut Wait<'_>) -> Result<(OwnedFd, String)> {
    match listen {
        Listen::Tcp { host, port } => {
            let bound = loop {
                match TcpListener::bind((host.as_str(), *port)) {
                    Err(error) if error.kind() == ErrorKind::AddrInUse && wait.goes_on() => {}
                    bound => break bound,
                }
            };
            let listener = bound.map_err(|error| {
                let hint = match error.kind() {
                    ErrorKind::AddrInUse => "another program listens there; choose another --port",
                    ErrorKind::PermissionDenied => {
                        "ports below 1024 need root; choose another --port"
                    }
                    _ => "choose another --host or --port",
                };
                anyhow::anyhow!("{host}:{port} cannot be listened on: {error} ({hint})")
            })?;
            listener.set_nonblocking(true)?;
            let address = listener.local_addr()?;
            Ok((listener.into(), address.to_string()))
        }
        Listen::Unix(path) => {
            let listener = unix(path, callers, wait)?;
            Ok((listener.into(), format!("unix:{}", path.display())))
        }
    }
}

/// One that a dead process left behind is replaced; nothing else is removed.
fn unix(path: &Path, callers: Callers, wait: &mut Wait<'_>) -> Result<UnixListener> {
    while let Ok(found) = fs::symlink_metadata(path) {
        ensure!(found.file_type().is_socket(), "{} is in the way: it is no socket", path.display());
        match dial(path, Duration::ZERO) {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path)?,
            Err(error) if error.kind() != ErrorKind::WouldBlock => {
                return Err(error).with_context(|| format!("{} is in the way", path.display()));
            }
            // Also one whose queue is full: somebody holds it.
            _ if wait.goes_on() => {}
            _ => bail!("another program listens on {}", path.display()),
        }
    }
    let listener = with_mode(path, callers)
        .with_context(|| format!("{} cannot be listened on", path.display()))?;
    wait.files.0.push(path.to_owned());
    if let Callers::Group(group) = callers {
        lchown(path, Some(0), Some(group))
            .with_context(|| format!("{} cannot be given to group {group}", path.display()))?;
    }
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Mode 0660, or 0666 for everybody, which the file has from its first moment: changed by its path afterwards, that path
/// could lead to another file, for `--listen` may name a folder that others write. umask(2) is the whole process's, but no
/// other thread makes files while the sockets are bound.
fn with_mode(path: &Path, callers: Callers) -> std::io::Result<UnixListener> {
    let missing = match callers {
        Callers::Own | Callers::Group(_) => 0o117,
        Callers::Everybody => 0o111,
    };
    let before = umask(Mode::from_bits_truncate(missing));
    let bound = UnixListener::bind(path);
    umask(before);
    bound
}

#[cfg(test)]
mod tests {
    use super::{super::logs, *};
    use std::{
        os::unix::fs::{PermissionsExt, symlink},
        sync::atomic::{AtomicBool, Ordering},
    };

    /// In a process of its own: the umask is the whole process's, and other tests make files meanwhile.
    #[test]
    fn a_link_in_the_sockets_place_changes_no_other_file() {
        let alone = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "serve::sockets::tests::links_in_the_sockets_place"])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&alone.stdout);
        assert!(alone.status.success() && said.contains("1 passed"), "{said}");
    }

    /// A folder of somebody else's, who puts a link in the socket's place as soon as it is there. Whether the moment between
    /// is met is a matter of luck, hence the many tries.
    #[test]
    #[ignore = "run by the test above"]
    fn links_in_the_sockets_place() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let victim = at("victim");
        fs::write(&victim, "x").unwrap();
        fs::set_permissions(&victim, fs::Permissions::from_mode(0o600)).unwrap();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let _ = symlink(&victim, at("link"));
                    while !done.load(Ordering::Relaxed) && !at("socket").exists() {
                        std::hint::spin_loop();
                    }
                    let _ = fs::rename(at("link"), at("socket"));
                }
            });
            let log = logs::open(None).unwrap();
            let mut files = Files::default();
            for _ in 0..2000 {
                let _ = fs::remove_file(at("socket"));
                let mut wait = Wait::new(Duration::ZERO, &log, &mut files);
                // Where the link is there already, that is an error, and no harm.
                let _ = unix(&at("socket"), Callers::Everybody, &mut wait);
                if fs::metadata(&victim).unwrap().permissions().mode() & 0o777 != 0o600 {
                    break;
                }
            }
            done.store(true, Ordering::Relaxed);
        });
        assert_eq!(fs::metadata(&victim).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
