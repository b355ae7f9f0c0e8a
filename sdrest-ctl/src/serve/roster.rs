//! The three daemons: their command lines, their sockets, and what each may see of the file system.

use super::{
    access,
    daemon::{Daemon, Network, View},
    folders,
    listen::Listen,
    logs::{Log, Source},
    plan::Plan,
    privilege::Privilege,
    sockets::{SocketPaths, Sockets},
};
use crate::{cli::ServeArgs, launch::descriptors::SECRET, users::User};
use anyhow::{Context, Result};
use std::{
    ffi::OsString,
    fs::{self, Permissions},
    os::{fd::OwnedFd, unix::fs::PermissionsExt},
    path::{Path, PathBuf},
};

/// What a daemon's command line is made from.
pub(crate) struct Needs<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) args: &'a ServeArgs,
    pub(crate) sockets: &'a Sockets,
    pub(crate) log: &'a Log,
}

/// All three, in the order in which they are started. Only authd gets the secret.
pub(crate) fn all(needs: &Needs<'_>, secret: Option<OwnedFd>) -> Result<Vec<Daemon>> {
    let paths = SocketPaths::below(&needs.plan.run_dir);
    prepare_state(needs.plan)?;
    Ok(vec![authd(needs, &paths, secret)?, worker(needs, &paths)?, api(needs, &paths)?])
}

/// The uid that the others know this process by.
struct Uids {
    api: String,
    authd: String,
    worker: String,
    conversation: String,
}

fn uids(plan: &Plan) -> Uids {
    match &plan.privilege {
        Privilege::Separate(users) => Uids {
            api: users.api.uid.to_string(),
            authd: users.authd.uid.to_string(),
            worker: users.worker.uid.to_string(),
            conversation: "0".to_owned(),
        },
        Privilege::Caller { uid, .. } => {
            let uid = uid.to_string();
            Uids { api: uid.clone(), authd: uid.clone(), worker: uid.clone(), conversation: uid }
        }
    }
}

/// Who may use authd's admin socket, beside root. As root nobody is named: authd looks into the group at each
/// connection, and who is listed here would stay an administrator for as long as `serve` runs.
fn admin(plan: &Plan) -> Option<String> {
    match &plan.privilege {
        Privilege::Separate(_) => None,
        Privilege::Caller { uid, .. } => Some(uid.to_string()),
    }
}

/// STATE/api and STATE/authd, each its daemon's alone.
fn prepare_state(plan: &Plan) -> Result<()> {
    for name in ["api", "authd"] {
        let folder = plan.state_dir.join(name);
        fs::create_dir_all(&folder)
            .with_context(|| format!("the folder {} cannot be made", folder.display()))?;
        let owner = match &plan.privilege {
            Privilege::Separate(users) if name == "api" => Some((users.api.uid, users.api.gid)),
            Privilege::Separate(users) => Some((users.authd.uid, users.authd.gid)),
            Privilege::Caller { .. } => None,
        };
        folders::Held::open(&folder)?.give(owner, 0o700)?;
    }
    Ok(())
}

fn common(args: &ServeArgs) -> Vec<OsString> {
    if args.verbose { vec!["--verbose".into()] } else { Vec::new() }
}

fn push(arguments: &mut Vec<OsString>, flag: &str, value: impl Into<OsString>) {
    arguments.push(flag.into());
    arguments.push(value.into());
}

fn authd(needs: &Needs<'_>, paths: &SocketPaths, secret: Option<OwnedFd>) -> Result<Daemon> {
    let Needs { plan, sockets, log, .. } = needs;
    let state = plan.state_dir.join("authd");
    let mut arguments = authd_arguments(needs, paths);
    if secret.is_some() {
        push(&mut arguments, "--jwt-secret-fd", SECRET.to_string());
    }
    let mut reached = vec![paths.conversation.clone()];
    if plan.changes_passwords() {
        push(&mut arguments, "--chauthtok-socket", &paths.chauthtok);
        reached.push(paths.chauthtok.clone());
    }
    let view = match &plan.privilege {
        Privilege::Separate(users) => Some(View {
            user: users.authd.clone(),
            at: view_folder(plan)?,
            read_only: program_paths(&plan.programs.authd, &users.authd)?,
            writable: std::iter::once(state).chain(plan.auth_data_dir.clone()).collect(),
            sockets: reached,
            network: Network::Empty,
        }),
        Privilege::Caller { .. } => None,
    };
    Ok(Daemon {
        name: "authd",
        log: Source::new("authd", Log::clone(log))?,
        program: plan.programs.authd.clone(),
        arguments,
        listeners: vec![
            ("authd", sockets.authd.try_clone()?),
            ("authd-admin", sockets.authd_admin.try_clone()?),
        ],
        view,
        secret,
    })
}

fn authd_arguments(needs: &Needs<'_>, paths: &SocketPaths) -> Vec<OsString> {
    let Needs { plan, args, .. } = needs;
    let uids = uids(plan);
    let mut arguments = common(args);
    push(&mut arguments, "--socket", &paths.authd);
    push(&mut arguments, "--admin-socket", &paths.authd_admin);
    push(&mut arguments, "--conversation-socket", &paths.conversation);
    push(&mut arguments, "--state-dir", plan.state_dir.join("authd"));
    push(&mut arguments, "--auth", plan.auth.mode.as_str());
    push(&mut arguments, "--pam-service-name", &args.pam_service_name);
    if let Some(realm) = &args.auth_realm {
        push(&mut arguments, "--auth-realm", realm);
    }
    push(&mut arguments, "--api-user", uids.api);
    push(&mut arguments, "--conversation-user", uids.conversation);
    if let Some(admin) = admin(plan) {
        push(&mut arguments, "--admin-user", admin);
    }
    if let Some(public) = &args.public_paths {
        push(&mut arguments, "--public-paths", public);
    }
    if args.enable_guest_access {
        arguments.push("--enable-guest-access".into());
    }
    if let Some(minutes) = args.jwt_expiration {
        push(&mut arguments, "--jwt-expiration", minutes.to_string());
    }
    if let Some(folder) = &plan.auth_data_dir {
        push(&mut arguments, "--auth-data-dir", folder);
    }
    arguments
}

fn worker(needs: &Needs<'_>, paths: &SocketPaths) -> Result<Daemon> {
    let Needs { plan, args, sockets, log } = needs;
    let mut arguments = common(args);
    push(&mut arguments, "--socket", &paths.worker);
    for folder in &plan.models {
        push(&mut arguments, "--models-dir", folder);
    }
    push(&mut arguments, "--api-user", uids(plan).api);
    if let Some(device) = &args.device {
        push(&mut arguments, "--device", device);
    }
    if let Some(threads) = args.threads {
        push(&mut arguments, "--threads", threads.to_string());
    }
    let view = match &plan.privilege {
        Privilege::Separate(users) => {
            let mut read_only = program_paths(&plan.programs.worker, &users.worker)?;
            for folder in &plan.models {
                access::check_readable(folder, &users.worker)?;
                read_only.push(folder.clone());
            }
            Some(View {
                user: users.worker.clone(),
                at: view_folder(plan)?,
                read_only,
                writable: Vec::new(),
                sockets: Vec::new(),
                network: Network::Empty,
            })
        }
        Privilege::Caller { .. } => None,
    };
    Ok(Daemon {
        name: "worker",
        log: Source::new("worker", Log::clone(log))?,
        program: plan.programs.worker.clone(),
        arguments,
        listeners: vec![("worker", sockets.worker.try_clone()?)],
        view,
        secret: None,
    })
}

fn api(needs: &Needs<'_>, paths: &SocketPaths) -> Result<Daemon> {
    let Needs { plan, args, sockets, log } = needs;
    let uids = uids(plan);
    let state = plan.state_dir.join("api");
    let mut arguments = common(args);
    push(&mut arguments, "--listen", &sockets.address);
    push(&mut arguments, "--authd-socket", &paths.authd);
    push(&mut arguments, "--authd-user", uids.authd);
    push(&mut arguments, "--worker-socket", &paths.worker);
    push(&mut arguments, "--worker-user", uids.worker);
    push(&mut arguments, "--state-dir", &state);
    if let Some(url) = &args.public_url {
        push(&mut arguments, "--public-url", url);
    }
    for host in allowed_hosts(plan, args) {
        push(&mut arguments, "--allowed-host", host);
    }
    if args.allow_open {
        arguments.push("--allow-open".into());
    }
    let view = match &plan.privilege {
        Privilege::Separate(users) => Some(View {
            user: users.api.clone(),
            at: view_folder(plan)?,
            read_only: program_paths(&plan.programs.api, &users.api)?,
            writable: vec![state],
            sockets: vec![paths.authd.clone(), paths.worker.clone()],
            // The kernel's table of TCP connections says whose each one is, in the network where they are.
            network: match &plan.listen {
                Listen::Tcp { .. } if plan.auth.by_kernel => Network::Hosts,
                _ => Network::Empty,
            },
        }),
        Privilege::Caller { .. } => None,
    };
    Ok(Daemon {
        name: "api",
        log: Source::new("api", Log::clone(log))?,
        program: plan.programs.api.clone(),
        arguments,
        listeners: vec![("http", sockets.http.try_clone()?)],
        view,
        secret: None,
    })
}

/// A name given to --host is a name that requests may carry.
fn allowed_hosts(plan: &Plan, args: &ServeArgs) -> Vec<String> {
    let mut hosts = args.allowed_host.clone();
    if let Listen::Tcp { host, .. } = &plan.listen
        && host.parse::<std::net::IpAddr>().is_err()
    {
        hosts.push(host.clone());
    }
    hosts
}

/// The program itself and the libraries that are not the system's, all readable to `user`.
fn program_paths(program: &Path, user: &User) -> Result<Vec<PathBuf>> {
    access::check_executable(program, user)?;
    let libraries = access::libraries(program)?;
    for file in &libraries.files {
        access::check_readable(file, user)?;
    }
    let mut paths = vec![program.to_owned()];
    paths.extend(libraries.folders);
    Ok(paths)
}

/// An empty folder; what is mounted there is seen in the daemon's own namespace only.
fn view_folder(plan: &Plan) -> Result<PathBuf> {
    let folder = plan.run_dir.join("view");
    fs::create_dir_all(&folder)
        .with_context(|| format!("the folder {} cannot be made", folder.display()))?;
    fs::set_permissions(&folder, Permissions::from_mode(0o700))?;
    Ok(folder)
}
