//! How callers prove who they are: the method, whether PAM does it and through which service file, and what of that
//! cannot work on the address that was asked for. Everything is refused here, before anything starts.

use super::{listen::Listen, privilege::Privilege};
use crate::{cli::ServeArgs, users};
use anyhow::{Context, Result, bail, ensure};
use sdrest_proto::authd::AuthMode;
use std::{
    fs,
    io::ErrorKind,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::Command,
};

const PAM_SERVICES: &str = "/etc/pam.d";

/// Whether the conversation program has PAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Build {
    WithPam,
    WithoutPam,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Auth {
    pub(crate) mode: AuthMode,
    /// The service that logins go through; nothing where PAM has no part.
    pub(crate) pam: Option<Service>,
    /// Whether the kernel's word is the sign-in: then the front end has to see the host's sockets.
    pub(crate) by_kernel: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Service {
    pub(crate) name: String,
    /// Where the file is, if it is the caller's and not root's: the conversation program then has to be told
    /// (pam_start_confdir(3)), which also rules out the service `other`.
    pub(crate) config_dir: Option<PathBuf>,
}

/// What the decision depends on.
pub(crate) struct Circumstances<'a> {
    pub(crate) listen: &'a Listen,
    pub(crate) privilege: &'a Privilege,
    pub(crate) build: Build,
}

pub(crate) fn settle(
    args: &ServeArgs,
    around: &Circumstances<'_>,
    notes: &mut Vec<String>,
) -> Result<Auth> {
    let mode = mode(args, notes)?;
    let local = around.listen.is_local();
    if mode == AuthMode::None && !args.allow_open && !local {
        bail!(
            "--auth none lets everybody in who can reach the address: add --allow-open, or choose --auth pam"
        );
    }
    let pam = service(args, mode, around, notes)?;
    let by_kernel = mode == AuthMode::Unix && pam.is_none();
    if by_kernel {
        ensure!(
            local,
            "--auth unix without PAM signs in by the kernel's word, which reaches this machine only: listen on \
             127.0.0.1, [::1] or unix:PATH, or use a build with PAM"
        );
        notes.push(
            "--auth unix without PAM: no passwords; the kernel says whose connection it is"
                .to_owned(),
        );
    }
    if !local {
        plain_tcp(mode, notes);
    }
    if pam.is_some()
        && let Privilege::Caller { uid, .. } = around.privilege
    {
        let name = users::name_of(*uid).unwrap_or_else(|| uid.to_string());
        notes
            .push(format!("without root, PAM can sign in one account only: {name}, who runs this"));
    }
    Ok(Auth { mode, pam, by_kernel })
}

/// The older flags mean a method each, and may stand beside that method only.
fn mode(args: &ServeArgs, notes: &mut Vec<String>) -> Result<AuthMode> {
    let older = [
        (args.enable_unix_auth, "--enable-unix-auth", AuthMode::Unix),
        (args.enable_pam_auth, "--enable-pam-auth", AuthMode::Pam),
    ];
    let mut mode = args.auth.map(|mode| (mode, format!("--auth {}", mode.as_str())));
    for (_, flag, meant) in older.into_iter().filter(|(given, _, _)| *given) {
        notes.push(format!("{flag} is deprecated; write --auth {}", meant.as_str()));
        match &mode {
            Some((other, named)) if *other != meant => {
                bail!("{flag} and {named} contradict each other; write --auth METHOD alone")
            }
            _ => mode = Some((meant, flag.to_owned())),
        }
    }
    Ok(mode.map_or(AuthMode::None, |(mode, _)| mode))
}

fn service(
    args: &ServeArgs,
    mode: AuthMode,
    around: &Circumstances<'_>,
    notes: &mut Vec<String>,
) -> Result<Option<Service>> {
    let built = around.build == Build::WithPam;
    let name = &args.pam_service_name;
    match mode {
        AuthMode::None | AuthMode::Jwt | AuthMode::ApiKey => return Ok(None),
        AuthMode::Pam if !built => {
            notes.push(
                "--auth pam: this build has no PAM, so every login answers PAM_AUTH_UNAVAILABLE"
                    .to_owned(),
            );
            return Ok(None);
        }
        AuthMode::Unix if !built => return Ok(None),
        AuthMode::Optional if !built => {
            notes.push("--auth optional runs without PAM, which is not in this build".to_owned());
            return Ok(None);
        }
        AuthMode::Optional if is_missing(name) => {
            notes.push(format!(
                "--auth optional runs without PAM: there is no {PAM_SERVICES}/{name}"
            ));
            return Ok(None);
        }
        AuthMode::Pam | AuthMode::Unix | AuthMode::Optional => {}
    }
    let owner = check_service(name, around.privilege)?;
    let config_dir = (owner != 0).then(|| PathBuf::from(PAM_SERVICES));
    Ok(Some(Service { name: name.clone(), config_dir }))
}

fn is_missing(name: &str) -> bool {
    is_plain(name)
        && fs::metadata(Path::new(PAM_SERVICES).join(name))
            .is_err_and(|error| error.kind() == ErrorKind::NotFound)
}

fn is_plain(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && !name.contains('/')
}

/// libpam falls back to the service `other` where the file is missing, which on Debian lets people in; so a
/// missing one ends the start, and one that others can write too. Gives the uid of the file's owner.
fn check_service(name: &str, privilege: &Privilege) -> Result<u32> {
    ensure!(
        is_plain(name),
        "--pam-service-name must be the name of a file in /etc/pam.d, got {name:?}"
    );
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

fn plain_tcp(mode: AuthMode, notes: &mut Vec<String>) {
    let what = match mode {
        AuthMode::None => return,
        AuthMode::ApiKey => "API keys",
        AuthMode::Jwt | AuthMode::Unix | AuthMode::Pam | AuthMode::Optional => {
            "passwords and tokens"
        }
    };
    notes.push(format!(
        "WARNING: {what} cross the network unencrypted: this server speaks plain HTTP on an address that other machines \
         reach; put a proxy with HTTPS before it"
    ));
}

/// What the conversation program says of itself in its help.
pub(crate) fn build(conversation: &Path) -> Result<Build> {
    let output = Command::new(conversation)
        .arg("--help")
        .env_clear()
        .output()
        .with_context(|| format!("{} cannot be asked", conversation.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    match text.lines().find_map(|line| line.strip_prefix("pam: ")) {
        Some(line) if line.starts_with("built in") => Ok(Build::WithPam),
        Some(_) => Ok(Build::WithoutPam),
        None => bail!("{} does not say whether PAM is built in", conversation.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Cli;
    use clap::Parser;

    fn settled(words: &[&str], build: Build) -> Result<(Auth, Vec<String>)> {
        let words = ["sdrestctl", "serve"].iter().chain(words);
        let crate::cli::Command::Serve(args) = Cli::try_parse_from(words).unwrap().command else {
            panic!("serve was written");
        };
        let listen = Listen::Tcp { host: args.host.clone(), port: args.port };
        let privilege = Privilege::Caller { uid: 4242, namespaces: false };
        let around = Circumstances { listen: &listen, privilege: &privilege, build };
        let mut notes = Vec::new();
        settle(&args, &around, &mut notes).map(|auth| (auth, notes))
    }

    fn refusal(words: &[&str], build: Build) -> String {
        format!("{:#}", settled(words, build).unwrap_err())
    }

    #[test]
    fn each_method_has_its_name_and_an_alias() {
        for mode in AuthMode::ALL {
            let name = mode.as_str();
            for flag in ["--auth", "--auth-method"] {
                let (auth, _) = settled(&[flag, name], Build::WithoutPam).unwrap();
                assert_eq!((auth.mode, auth.pam), (mode, None), "{name}");
            }
        }
        assert_eq!(settled(&[], Build::WithPam).unwrap().0.mode, AuthMode::None);
    }

    #[test]
    fn older_flags_work_with_a_warning_that_names_the_new_one() {
        for (flag, name) in [("--enable-unix-auth", "unix"), ("--enable-pam-auth", "pam")] {
            let (auth, notes) = settled(&[flag], Build::WithoutPam).unwrap();
            assert_eq!(auth.mode.as_str(), name);
            assert!(notes[0].contains(&format!("--auth {name}")), "{notes:?}");
            assert!(settled(&[flag, "--auth", name], Build::WithoutPam).is_ok());
            let error = refusal(&[flag, "--auth", "jwt"], Build::WithoutPam);
            assert!(error.contains(flag) && error.contains("--auth jwt"), "{error}");
        }
        let both = refusal(&["--enable-unix-auth", "--enable-pam-auth"], Build::WithoutPam);
        assert!(both.contains("contradict"), "{both}");
    }

    #[test]
    fn the_kernels_word_reaches_this_machine_only() {
        let error = refusal(&["--auth", "unix", "--host", "0.0.0.0"], Build::WithoutPam);
        assert!(error.contains("127.0.0.1"), "{error}");
        let (auth, _) = settled(&["--auth", "unix"], Build::WithoutPam).unwrap();
        assert!(auth.by_kernel);
    }

    #[test]
    fn passwords_on_the_network_are_warned_about_and_open_doors_refused() {
        let (_, notes) = settled(&["--auth", "jwt", "--host", "0.0.0.0"], Build::WithPam).unwrap();
        assert!(notes.iter().any(|note| note.contains("unencrypted")), "{notes:?}");
        let (_, notes) = settled(&["--auth", "jwt"], Build::WithPam).unwrap();
        assert!(notes.is_empty(), "{notes:?}");
        assert!(refusal(&["--host", "0.0.0.0"], Build::WithPam).contains("--allow-open"));
    }

    #[test]
    fn a_missing_service_file_matters_where_pam_must_be() {
        let missing = ["--pam-service-name", "sdrest-no-such-service"];
        for mode in ["pam", "unix"] {
            let error = refusal(&["--auth", mode, missing[0], missing[1]], Build::WithPam);
            assert!(error.contains("sdrest-no-such-service"), "{error}");
        }
        let (auth, notes) =
            settled(&["--auth", "optional", missing[0], missing[1]], Build::WithPam).unwrap();
        assert_eq!(auth.pam, None);
        assert!(notes.iter().any(|note| note.contains("without PAM")), "{notes:?}");
        let error = refusal(&["--auth", "pam", "--pam-service-name", "../x"], Build::WithPam);
        assert!(error.contains("name of a file"), "{error}");
    }
}
