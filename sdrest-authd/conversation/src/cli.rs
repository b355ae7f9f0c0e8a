//! The command line, read by hand: this program runs once per login and stays small. Unknown flags are errors
//! that name the flag.

use crate::accounts::AccountPolicy;
use std::{ffi::OsString, path::PathBuf};
use thiserror::Error;

/// Below this are system accounts (login.defs(5), UID_MIN).
const MIN_UID: u32 = 1000;

pub(crate) const HELP: &str = "\
Runs one login; started with the connection from authd as standard input.

Usage: sdrest-conversation --authd-user USER [options]

  --authd-user USER     the only account, besides root, that may be at the other end: a number or a name
  --pam-config-dir DIR  service files are in DIR instead of /etc/pam.d
  --min-uid N           accounts below never sign in (default 1000)
  --only-uid USER       this account and no other may sign in
  --change-expired      a login that ends with an expired password may go on to change it (needs a writable /etc)
  --no-sandbox REASON   keep every capability and privilege of the launcher
  --help, --version";

/// What `--help` says of this build.
pub(crate) const PAM_LINE: &str = if cfg!(feature = "pam") {
    "pam: built in"
} else {
    "pam: not built in (PAM_AUTH_UNAVAILABLE)"
};

#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) authd: u32,
    pub(crate) confdir: Option<PathBuf>,
    pub(crate) accounts: AccountPolicy,
    /// Whether an expired password may be changed; without it pam_chauthtok is never called.
    pub(crate) expired: Expired,
    pub(crate) no_sandbox: Option<String>,
}

/// What happens to a password that has expired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expired {
    Refuse,
    Change,
}

#[derive(Debug)]
pub(crate) enum Command {
    Run(Options),
    Help,
    Version,
}

#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum CliError {
    #[error("unknown argument `{0}`; see --help")]
    Unknown(String),
    #[error("`{0}` needs a value")]
    NoValue(String),
    #[error("`{0}` takes no value")]
    Valueless(String),
    #[error("`{flag}` must be {bounds}, got `{value}`")]
    Bad { flag: String, bounds: &'static str, value: String },
    #[error("`--authd-user` is missing: without it anybody could be at the other end")]
    NoAuthd,
}

pub(crate) fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Command, CliError> {
    let mut arguments = arguments.map(|argument| argument.to_string_lossy().into_owned());
    let (mut authd, mut confdir, mut min_uid, mut only_uid, mut no_sandbox) =
        (None, None, MIN_UID, None, None);
    let mut expired = Expired::Refuse;
    while let Some(argument) = arguments.next() {
        let (flag, inline) = match argument.split_once('=') {
            Some((flag, value)) => (flag.to_owned(), Some(value.to_owned())),
            None => (argument, None),
        };
        match flag.as_str() {
            "--help" | "-h" => return Ok(Command::Help),
            "--version" | "-V" => return Ok(Command::Version),
            "--change-expired" if inline.is_some() => return Err(CliError::Valueless(flag)),
            "--change-expired" => {
                expired = Expired::Change;
                continue;
            }
            _ => {}
        }
        let mut value = || {
            inline
                .clone()
                .or_else(|| arguments.next())
                .ok_or_else(|| CliError::NoValue(flag.clone()))
        };
        match flag.as_str() {
            "--authd-user" => authd = Some(user(&flag, &value()?)?),
            "--pam-config-dir" => confdir = Some(PathBuf::from(value()?)),
            "--min-uid" => min_uid = number(&flag, &value()?)?,
            "--only-uid" => only_uid = Some(user(&flag, &value()?)?),
            "--no-sandbox" => no_sandbox = Some(value()?),
            _ => return Err(CliError::Unknown(flag)),
        }
    }
    let authd = authd.ok_or(CliError::NoAuthd)?;
    Ok(Command::Run(Options {
        authd,
        confdir,
        accounts: AccountPolicy { min_uid, only_uid },
        expired,
        no_sandbox,
    }))
}

fn number(flag: &str, value: &str) -> Result<u32, CliError> {
    let bounds = "a number from 0 to 4294967294";
    let bad = || CliError::Bad { flag: flag.to_owned(), bounds, value: value.to_owned() };
    value.parse().ok().filter(|uid| *uid != u32::MAX).ok_or_else(bad)
}

/// A uid, or a name from /etc/passwd.
fn user(flag: &str, value: &str) -> Result<u32, CliError> {
    if let Ok(uid) = number(flag, value) {
        return Ok(uid);
    }
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    passwd
        .lines()
        .map(|line| line.split(':'))
        .find_map(|mut fields| {
            (fields.next()? == value).then(|| fields.nth(1)).flatten()?.parse().ok()
        })
        .ok_or_else(|| CliError::Bad {
            flag: flag.to_owned(),
            bounds: "a uid or the name of an account in /etc/passwd",
            value: value.to_owned(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(arguments: &[&str]) -> Result<Command, CliError> {
        parse(arguments.iter().map(OsString::from))
    }

    #[test]
    fn numbers_names_and_both_spellings_are_read() {
        let Ok(Command::Run(options)) =
            run(&["--authd-user=root", "--min-uid", "500", "--only-uid", "1000"])
        else {
            panic!("these arguments are right");
        };
        assert_eq!(
            (options.authd, options.accounts.min_uid, options.accounts.only_uid),
            (0, 500, Some(1000))
        );
        assert_eq!(options.expired, Expired::Refuse);
        let Ok(Command::Run(options)) = run(&["--change-expired", "--authd-user=0"]) else {
            panic!("these arguments are right");
        };
        assert_eq!(options.expired, Expired::Change);
    }

    #[test]
    fn wrong_arguments_name_themselves() {
        assert_eq!(run(&[]).unwrap_err(), CliError::NoAuthd);
        assert_eq!(
            run(&["--change-expired=no"]).unwrap_err(),
            CliError::Valueless("--change-expired".into())
        );
        assert_eq!(run(&["--what"]).unwrap_err(), CliError::Unknown("--what".into()));
        assert!(
            run(&["--authd-user", "no-such-account"])
                .unwrap_err()
                .to_string()
                .contains("no-such-account")
        );
        assert!(
            run(&["--authd-user", "0", "--min-uid", "-1"])
                .unwrap_err()
                .to_string()
                .contains("--min-uid")
        );
        assert_eq!(run(&["--authd-user"]).unwrap_err(), CliError::NoValue("--authd-user".into()));
    }
}
