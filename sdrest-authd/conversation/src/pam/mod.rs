//! The PAM transaction of one login, in the order that pam(3) asks for: start → items → authenticate → PAM_USER
//! again → acct_mgmt → the account database. There is no other way to `Verdict::Verified` with a password. A login
//! that may change an expired password goes on from acct_mgmt's word in the same handle.

mod change;
mod ffi;
mod handler;
mod outcome;
mod text;

use crate::{
    accounts::{self, AccountPolicy},
    channel::Channel,
    cli::{Expired, Options},
    report,
};
use ffi::{Converse, Handle, Item, code};
use handler::{Handler, NoPerson};
use sdrest_proto::conversation::{AccountFacts, Denial, Purpose, Start, Verdict};
use std::{path::Path, sync::Arc};

pub(crate) use ffi::{clear_environment, end_process};

/// Runs the login to its end. The handle is closed before the verdict is known to anybody, so a module that
/// fails while it cleans up costs the login.
pub(crate) fn run(start: &Start, options: &Options, channel: &Arc<Channel>) -> Verdict {
    if start.purpose == Purpose::ChangeExpired && options.expired == Expired::Refuse {
        report::line("a change of password was asked of a program without --change-expired");
        return outcome::unavailable(code::SUCCESS);
    }
    if !accounts::plausible(&start.username) {
        report::line("the user name cannot be an account's; PAM was not asked");
        return outcome::not_authenticated(code::SUCCESS);
    }
    let handler = Handler::new(Arc::clone(channel));
    let who = Who { user: &start.username, rhost: start.rhost.as_deref() };
    let mut handle = match open(&start.service, &who, options.confdir.as_deref(), handler) {
        Ok(handle) => handle,
        Err(code) => return outcome::unavailable(code),
    };
    let verified = transact(&mut handle, start.purpose, &options.accounts);
    drop(handle);
    verified
        .and_then(|user| look_up(&user, &options.accounts))
        .map_or_else(|verdict| verdict, Verdict::Verified)
}

/// acct_mgmt alone, for a name that the account database gave; nobody is there to answer.
pub(crate) fn account(service: &str, user: &str, confdir: Option<&Path>) -> Result<(), Verdict> {
    let who = Who { user, rhost: None };
    let mut handle = open(service, &who, confdir, NoPerson).map_err(outcome::unavailable)?;
    handle.account().map_err(outcome::account_query_refused)?;
    still_the_same(&mut handle, user)
}

struct Who<'a> {
    user: &'a str,
    rhost: Option<&'a str>,
}

fn open<C: Converse>(
    service: &str,
    who: &Who<'_>,
    confdir: Option<&Path>,
    conversation: C,
) -> Result<Handle<C>, i32> {
    let mut handle = Handle::start(service, who.user, confdir, conversation)
        .inspect_err(|code| report::line(&format!("pam_start failed with PAM code {code}")))?;
    let prepared = handle
        .set(Item::Tty, "sdrest")
        .and_then(|()| who.rhost.map_or(Ok(()), |rhost| handle.set(Item::RemoteHost, rhost)))
        .and_then(|()| handle.no_fail_delay());
    prepared
        .inspect_err(|code| report::line(&format!("pam_set_item failed with PAM code {code}")))?;
    Ok(handle)
}

/// authenticate to the last acct_mgmt: the name that PAM stands for.
fn transact<C: Converse>(
    handle: &mut Handle<C>,
    purpose: Purpose,
    policy: &AccountPolicy,
) -> Result<String, Verdict> {
    handle.authenticate().map_err(outcome::not_authenticated)?;
    // From here on only the name that PAM stands for counts, not the one that was typed.
    let user = handle.user().map_err(outcome::not_authenticated)?;
    match handle.account() {
        Ok(()) => {}
        Err(code::NEW_AUTHTOK_REQD) if purpose == Purpose::ChangeExpired => {
            still_the_same(handle, &user)?;
            // Nobody's password is changed who may not sign in; never root's.
            look_up(&user, policy)?;
            change::expired_password(handle).map_err(outcome::still_expired)?;
            handle.account().map_err(outcome::account_refused)?;
        }
        Err(code) => return Err(outcome::account_refused(code)),
    }
    still_the_same(handle, &user)?;
    Ok(user)
}

/// A module of a later phase may have renamed the user once more: then nobody vouches for the new name.
fn still_the_same<C: Converse>(handle: &mut Handle<C>, user: &str) -> Result<(), Verdict> {
    match handle.user() {
        Ok(now) if now == user => Ok(()),
        Ok(_) | Err(_) => {
            report::line("PAM_USER changed after authentication; the login is refused");
            Err(outcome::not_authenticated(code::SUCCESS))
        }
    }
}

fn look_up(user: &str, policy: &AccountPolicy) -> Result<AccountFacts, Verdict> {
    accounts::facts(user, policy).map_err(|error| {
        report::line(&error.to_string());
        error.as_verdict(Denial::AuthErr)
    })
}
