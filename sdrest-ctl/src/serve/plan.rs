//! From the command line to everything that `serve` has to know before it touches anything: folders, models,
//! address, users. What cannot work is refused here, with the reason.

use crate::{
    cli::ServeArgs,
    paths,
    users::{self, SystemUsers},
};
use anyhow::{Context, Result, bail, ensure};
use sdrest_proto::authd::AuthMode;
use std::{
    fs,
    net::IpAddr,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
};

const PAM_SERVICES: &str = "/etc/pam.d";

/// Where the front end listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Listen {
    Tcp { host: String, port: u16 },
    Unix(PathBuf),
}

/// Who the processes are.
#[derive(Clone, Debug)]
pub(crate) enum Privilege {
    /// A user, a file system view and no network for each.
    Separate(SystemUsers),
    /// All run as the caller. `namespaces`: whether logins can still get a PID namespace of their own.
    Caller { uid: u32, namespaces: bool },
}

#[derive(Clone, Debug)]
pub(crate) struct Programs {
    pub(crate) api: PathBuf,
    pub(crate) authd: PathBuf,
    pub(crate) conversation: PathBuf,
    pub(crate) worker: PathBuf,
}

#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) listen: Listen,
    pub(crate) run_dir: PathBuf,
    pub(crate) state_dir: PathBuf,
    pub(crate) models: Vec<PathBuf>,
    pub(crate) auth: AuthMode,
    pub(crate) privilege: Privilege,
    pub(crate) programs: Programs,
    /// Where the service file is, if it is the caller's and not root's: the conversation program then has to be
    /// told (pam_start_confdir(3)), which also rules out the service `other`.
    pub(crate) pam_config_dir: Option<PathBuf>,
    /// To be said before anything starts.
    pub(crate) notes: Vec<String>,
}

pub(crate) fn make(args: &ServeArgs) -> Result<Plan> {
    let mut notes = Vec::new();
    let auth = auth(args, &mut notes)?;
    let listen = listen(args)?;
    if auth == AuthMode::None && !args.allow_open && !is_local(&listen) {
        bail!(
            "--auth none lets everybody in who can reach the address: add --allow-open, or choose --auth pam"
        );
    }
    let programs = Programs {
        api: paths::program("sdrest-api")?,
        authd: paths::program("sdrest-authd")?,
        conversation: paths::program("sdrest-conversation")?,
        worker: paths::program("sdrest-worker")?,
    };
    let privilege = privilege(&mut notes)?;
    let mut pam_config_dir = None;
    if auth == AuthMode::Pam {
        let owner = check_service(&args.pam_service_name, &privilege)?;
        pam_config_dir = (owner != 0).then(|| PathBuf::from(PAM_SERVICES));
        if let Privilege::Caller { uid, .. } = privilege {
            let name = users::name_of(uid).unwrap_or_else(|| uid.to_string());
            notes.push(format!(
                "without root, PAM can sign in one account only: {name}, who runs this"
            ));
        }
    }
    Ok(Plan {
        listen,
        run_dir: run_folder(&args.run_dir.clone().unwrap_or_else(paths::default_run_dir))?,
        state_dir: folder(&args.state_dir.clone().map_or_else(paths::default_state_dir, Ok)?)?,
        models: models(args)?,
        auth,
        privilege,
        programs,
        pam_config_dir,
        notes,
    })
}

fn auth(args: &ServeArgs, notes: &mut Vec<String>) -> Result<AuthMode> {
    if args.enable_unix_auth {
        bail!(
            "--enable-unix-auth is the older name of --auth unix, which is not built yet; use --auth pam"
        );
    }
    if args.enable_pam_auth {
        notes.push("--enable-pam-auth is deprecated; write --auth pam".to_owned());
        if args.auth == Some(AuthMode::None) {
            bail!("--enable-pam-auth and --auth none contradict each other");
        }
    }
    let implied = if args.enable_pam_auth { AuthMode::Pam } else { AuthMode::None };
    Ok(args.auth.unwrap_or(implied))
}

fn listen(args: &ServeArgs) -> Result<Listen> {
    match &args.listen {
        Some(address) => parse_listen(address),
        None => Ok(Listen::Tcp { host: args.host.clone(), port: args.port }),
    }
}

fn parse_listen(address: &str) -> Result<Listen> {
    if let Some(path) = address.strip_prefix("unix:") {
        ensure!(path.starts_with('/'), "--listen unix:PATH needs an absolute path, got {path:?}");
        return Ok(Listen::Unix(PathBuf::from(path)));
    }
    let (host, port) =
        address.rsplit_once(':').context("--listen must be HOST:PORT or unix:PATH")?;
    let port = port
        .parse()
        .with_context(|| format!("--listen: the port must be 0 to 65535, got {port:?}"))?;
    Ok(Listen::Tcp { host: host.trim_matches(['[', ']']).to_owned(), port })
}

fn is_local(listen: &Listen) -> bool {
    match listen {
        Listen::Unix(_) => true,
        Listen::Tcp { host, .. } => {
            host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
        }
    }
}

fn privilege(notes: &mut Vec<String>) -> Result<Privilege> {
    let caller = nix::unistd::geteuid();
    if caller.is_root() {
        let all = maps_all_users();
        if all {
            return Ok(Privilege::Separate(users::system_users()?));
        }
        notes.push("in a user namespace with one user, all processes run as that user".to_owned());
        return Ok(Privilege::Caller { uid: 0, namespaces: true });
    }
    let name = users::name_of(caller.as_raw()).unwrap_or_else(|| caller.to_string());
    notes.push(format!(
        "not root: all processes run as {name}; what parts them is each one's own sandbox"
    ));
    Ok(Privilege::Caller { uid: caller.as_raw(), namespaces: false })
}

/// Whether this user namespace knows the ids of system users (user_namespaces(7)).
fn maps_all_users() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.lines().any(|line| {
        line.split_whitespace()
            .nth(2)
            .and_then(|n| n.parse::<u64>().ok())
            .is_some_and(|n| n >= 60_000)
    })
}

/// libpam falls back to the service `other` where the file is missing, which on Debian lets people in; so a
/// missing one ends the start, and one that others can write too.
/// Gives the uid of the file's owner.
fn check_service(name: &str, privilege: &Privilege) -> Result<u32> {
    let plain = !name.is_empty() && !name.starts_with('.') && !name.contains('/');
    ensure!(plain, "--pam-service-name must be the name of a file in /etc/pam.d, got {name:?}");
    let path = Path::new(PAM_SERVICES).join(name);
    let found = fs::metadata(&path).with_context(|| {
        format!(
            "the PAM service file {} cannot be read; install pam.d/stable-diffusion-rest there",
            path.display()
        )
    })?;
    ensure!(found.is_file(), "the PAM service {} is not a file", path.display());
    let owner_counts = match privilege {
        Privilege::Separate(_) => found.uid() == 0,
        Privilege::Caller { uid, .. } => found.uid() == 0 || found.uid() == *uid,
    };
    ensure!(
        owner_counts,
        "the PAM service file {} belongs to uid {}, not to root",
        path.display(),
        found.uid()
    );
    ensure!(
        found.mode() & 0o022 == 0,
        "the PAM service file {} can be written by others (mode {:04o})",
        path.display(),
        found.mode() & 0o7777
    );
    Ok(found.uid())
}

/// Makes a folder that is missing and gives its absolute path without symbolic links.
fn folder(path: &Path) -> Result<PathBuf> {
    fs::create_dir_all(path)
        .with_context(|| format!("the folder {} cannot be made", path.display()))?;
    paths::resolve(path)
}

/// A run folder is given another group and mode: one that is `serve`'s own, never a folder that others use.
fn run_folder(path: &Path) -> Result<PathBuf> {
    let folder = folder(path)?;
    let unreadable = || format!("the run folder {} cannot be read", folder.display());
    let owner = fs::metadata(&folder).with_context(unreadable)?.uid();
    let is_empty = fs::read_dir(&folder).with_context(unreadable)?.next().is_none();
    ensure!(
        owner == nix::unistd::geteuid().as_raw()
            && (is_empty || folder.join("serve.lock").exists()),
        "{} is used by something else (the systemd units?); name another folder with --run-dir",
        folder.display()
    );
    Ok(folder)
}

fn models(args: &ServeArgs) -> Result<Vec<PathBuf>> {
    if args.models_dir.is_empty() {
        return Ok(vec![paths::demo_model()?]);
    }
    let folders: Result<Vec<PathBuf>> =
        args.models_dir.iter().map(|path| paths::resolve(path)).collect();
    let folders = folders.context("--models-dir")?;
    for path in &folders {
        let kind = fs::metadata(path)
            .with_context(|| format!("--models-dir {}", path.display()))?
            .file_type();
        ensure!(
            kind.is_dir() && !kind.is_socket(),
            "--models-dir {} is not a folder",
            path.display()
        );
    }
    Ok(folders)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        let tcp = |host: &str, port| Listen::Tcp { host: host.to_owned(), port };
        assert_eq!(parse_listen("[::1]:80").unwrap(), tcp("::1", 80));
        assert_eq!(parse_listen("localhost:0").unwrap(), tcp("localhost", 0));
        assert_eq!(parse_listen("unix:/run/x.sock").unwrap(), Listen::Unix("/run/x.sock".into()));
        for wrong in ["unix:relative", "8080", "host:99999"] {
            assert!(parse_listen(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_this_machine_is_local() {
        assert!(
            is_local(&parse_listen("127.0.0.9:1").unwrap())
                && is_local(&parse_listen("[::1]:1").unwrap())
        );
        assert!(
            !is_local(&parse_listen("0.0.0.0:1").unwrap())
                && !is_local(&parse_listen("example.org:1").unwrap())
        );
    }
}
