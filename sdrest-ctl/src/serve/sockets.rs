//! Every listening socket of one machine, bound before anything runs. `serve` keeps them, so a port or a
//! socket outlives the daemon behind it: callers wait in the backlog while it starts again.

use super::{listen::Listen, plan::Plan, privilege::Privilege};
use anyhow::{Context, Result, bail, ensure};
use nix::unistd::{Gid, Uid, chown};
use std::{
    fs::{self, Permissions},
    io::ErrorKind,
    net::TcpListener,
    os::{
        fd::OwnedFd,
        unix::{
            fs::{FileTypeExt, PermissionsExt},
            net::UnixListener,
        },
    },
    path::{Path, PathBuf},
};

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
}

/// Binds all of them. As root, each Unix socket's group is the one that may connect to it.
pub(crate) fn bind(plan: &Plan) -> Result<Sockets> {
    let paths = SocketPaths::below(&plan.run_dir);
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
        own(&folder, groups.admin, 0o750)?;
    }
    // One that an earlier run left behind would be taken for this run's.
    if !plan.changes_passwords() {
        let _ = fs::remove_file(&paths.chauthtok);
    }
    let chauthtok = plan.changes_passwords().then(|| unix(&paths.chauthtok, groups.authd));
    let (http, address) = http(&plan.listen)?;
    if let (Listen::Unix(path), true) = (&plan.listen, plan.auth.by_kernel) {
        // Who connects is what the kernel is asked: everybody of this machine may, as on loopback.
        fs::set_permissions(path, Permissions::from_mode(0o666))
            .with_context(|| format!("the mode of {} cannot be set", path.display()))?;
    }
    Ok(Sockets {
        http,
        address,
        authd: unix(&paths.authd, groups.api)?.into(),
        authd_admin: unix(&paths.authd_admin, groups.admin)?.into(),
        conversation: unix(&paths.conversation, groups.authd)?,
        chauthtok: chauthtok.transpose()?,
        worker: unix(&paths.worker, groups.api)?.into(),
    })
}

/// Removes the socket files at the end, so that callers read "no such file" and not "connection refused".
pub(crate) fn remove(plan: &Plan) {
    let paths = SocketPaths::below(&plan.run_dir);
    let http = match &plan.listen {
        Listen::Unix(path) => Some(path.clone()),
        Listen::Tcp { .. } => None,
    };
    let own = [paths.authd, paths.authd_admin, paths.conversation, paths.chauthtok, paths.worker];
    for path in own.into_iter().chain(http) {
        let _ = fs::remove_file(path);
    }
}

#[derive(Default)]
struct Groups {
    api: Option<u32>,
    authd: Option<u32>,
    admin: Option<u32>,
}

fn http(listen: &Listen) -> Result<(OwnedFd, String)> {
    match listen {
        Listen::Tcp { host, port } => {
            let listener = TcpListener::bind((host.as_str(), *port)).map_err(|error| {
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
            let listener = unix(path, None)?;
            Ok((listener.into(), format!("unix:{}", path.display())))
        }
    }
}

/// A socket of mode 0660. One that a dead process left behind is replaced; nothing else is removed.
fn unix(path: &Path, group: Option<u32>) -> Result<UnixListener> {
    if let Ok(found) = fs::symlink_metadata(path) {
        ensure!(found.file_type().is_socket(), "{} is in the way: it is no socket", path.display());
        match std::os::unix::net::UnixStream::connect(path) {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path)?,
            Ok(_) => bail!("another program listens on {}", path.display()),
            Err(error) => {
                return Err(error).with_context(|| format!("{} is in the way", path.display()));
            }
        }
    }
    let listener = UnixListener::bind(path)
        .with_context(|| format!("{} cannot be listened on", path.display()))?;
    own(path, group, 0o660)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn own(path: &Path, group: Option<u32>, mode: u32) -> Result<()> {
    if let Some(group) = group {
        chown(path, Some(Uid::from_raw(0)), Some(Gid::from_raw(group)))
            .with_context(|| format!("{} cannot be given to group {group}", path.display()))?;
    }
    fs::set_permissions(path, Permissions::from_mode(mode))
        .with_context(|| format!("the mode of {} cannot be set", path.display()))
}
