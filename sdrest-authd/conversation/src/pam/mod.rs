//! The PAM transaction of one login, in the order that pam(3) asks for: start → items → authenticate → PAM_USER
//! again → acct_mgmt → the account database. There is no other way to `Verdict::Verified`.

mod ffi;
mod handler;
mod outcome;
mod text;

use crate::{
    accounts::{self, AccountPolicy},
    channel::Channel,
    report,
};
use handler::Handler;
use sdrest_proto::conversation::{Start, Verdict};
use std::{path::Path, sync::Arc};

pub(crate) use ffi::{clear_environment, end_process};

/// Where the service files are, when not in /etc/pam.d, and who may sign in.
pub(crate) struct Rules<'a> {
    pub(crate) confdir: Option<&'a Path>,
    pub(crate) accounts: AccountPolicy,
}

/// Runs the login to its end. The handle is closed before the verdict is known to anybody, so a module that
/// fails while it cleans up costs the login.
pub(crate) fn run(start: &Start, rules: &Rules<'_>, channel: &Arc<Channel>) -> Verdict {
    if !plausible(&start.username) {
        report::line("the user name cannot be an account's; PAM was not asked");
        return outcome::not_authenticated(ffi::code::SUCCESS);
    }
    let handler = Handler::new(Arc::clone(channel));
    let mut handle =
        match ffi::Handle::start(&start.service, &start.username, rules.confdir, handler) {
            Ok(handle) => handle,
            Err(code) => {
                report::line(&format!("pam_start failed with PAM code {code}"));
                return outcome::unavailable(code);
            }
        };
    let prepared = handle
        .set(ffi::Item::Tty, "sdrest")
        .and_then(|()| {
            start.rhost.as_deref().map_or(Ok(()), |rhost| handle.set(ffi::Item::RemoteHost, rhost))
        })
        .and_then(|()| handle.no_fail_delay());
    if let Err(code) = prepared {
        report::line(&format!("pam_set_item failed with PAM code {code}"));
        return outcome::unavailable(code);
    }
    if let Err(code) = handle.authenticate() {
        return outcome::not_authenticated(code);
    }
    // From here on only the name that PAM stands for counts, not the one that was typed.
    let user = match handle.user() {
        Ok(user) => user,
        Err(code) => return outcome::not_authenticated(code),
    };
    if let Err(code) = handle.account() {
        return outcome::account_refused(code);
    }
    // A module of the account phase may have renamed the user once more: then nobody vouches for the new name.
    match handle.user() {
        Ok(now) if now == user => {}
        Ok(_) | Err(_) => {
            report::line("PAM_USER changed after authentication; the login is refused");
            return outcome::not_authenticated(ffi::code::SUCCESS);
        }
    }
    drop(handle);
    look_up(&user, &rules.accounts)
}

fn look_up(user: &str, policy: &AccountPolicy) -> Verdict {
    match accounts::facts(user, policy) {
        Ok(facts) => Verdict::Verified(facts),
        Err(error @ accounts::AccountError::Lookup { .. }) => {
            report::line(&error.to_string());
            outcome::unavailable(ffi::code::SUCCESS)
        }
        Err(error) => {
            report::line(&error.to_string());
            outcome::not_authenticated(ffi::code::SUCCESS)
        }
    }
}

/// Names that no module may see: some would build a path or a command line from them.
fn plausible(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(['-', '.'])
        && !name
            .chars()
            .any(|c| matches!(c, '/' | ':' | ',') || c.is_control() || c.is_whitespace())
}

#[cfg(test)]
mod tests {
    use super::plausible;

    #[test]
    fn names_that_could_be_paths_or_flags_never_reach_a_module() {
        for bad in ["", "../../etc/passwd", "-x", "alice:0", "alice ", "a/b", "a\nb", ".hidden"] {
            assert!(!plausible(bad), "{bad:?}");
        }
        for good in ["alice", "SD\\win1", "alice@example.org", "m.müller"] {
            assert!(plausible(good), "{good:?}");
        }
    }
}
