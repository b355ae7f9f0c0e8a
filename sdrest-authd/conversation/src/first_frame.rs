//! What authd asks with its first frame, and the one answer to it. A login talks on over the channel before its
//! verdict; everything else is a question and an answer. Each is computed here, in the process that ends
//! afterwards, under the same limits and clocks.

use crate::{
    accounts,
    channel::Channel,
    cli::{Expired, Options},
    passwords, report,
    service_file::{self, Phase},
};
#[cfg(feature = "pam")]
use sdrest_proto::conversation::Purpose;
use sdrest_proto::{
    conversation::{AccountQuery, Denial, FromConversation, Start, ToConversation, Verdict},
    secret::Answer,
};
use std::{error::Error, sync::Arc};

const WITHOUT_PAM: &str = "sdrest-conversation was built without the feature `pam`";

pub(crate) fn answer(
    frame: ToConversation,
    options: &Options,
    channel: &Arc<Channel>,
) -> Result<FromConversation, Box<dyn Error>> {
    Ok(match frame {
        ToConversation::Start(start) => {
            channel.deadlines.set(start.step_deadline_ms, start.total_deadline_ms);
            FromConversation::Verdict(login(&start, options, channel))
        }
        ToConversation::Probe { service } => {
            let fault = service.and_then(|service| probe(&service, options));
            FromConversation::Probed { fault, pam: cfg!(feature = "pam") }
        }
        ToConversation::Account(query) => {
            channel.deadlines.set(query.deadline_ms, query.deadline_ms);
            FromConversation::Verdict(account(&query, options))
        }
        ToConversation::Verify { phc, password } => {
            FromConversation::Compared { matches: matches(&phc, &password) }
        }
        ToConversation::Hash { password } => {
            FromConversation::Hashed { phc: passwords::hash(&password)? }
        }
        ToConversation::Answers(_) => return Err("authd's first frame must be a question".into()),
    })
}

/// A record that cannot be read is a wrong password, and a line for whoever looks after the host.
fn matches(record: &str, password: &Answer) -> bool {
    passwords::matches(record, password).unwrap_or_else(|error| {
        report::line(&error.to_string());
        false
    })
}

fn unavailable(why: &str) -> Verdict {
    report::line(why);
    Verdict::Denied { denial: Denial::Unavailable, pam_code: 0 }
}

fn probe(service: &str, options: &Options) -> Option<String> {
    if !cfg!(feature = "pam") {
        return Some(WITHOUT_PAM.to_owned());
    }
    let probed = match options.expired {
        Expired::Refuse => service_file::probe(service, options.confdir.as_deref()),
        Expired::Change => service_file::probe_for_change(service, options.confdir.as_deref()),
    };
    probed.err().map(|error| error.to_string())
}

/// libpam would silently use the service `other` for what the file does not say.
fn service_fault(service: &str, options: &Options, phases: &[Phase]) -> Option<Verdict> {
    service_file::check(service, options.confdir.as_deref(), phases)
        .err()
        .map(|error| unavailable(&error.to_string()))
}

#[cfg(feature = "pam")]
fn login(start: &Start, options: &Options, channel: &Arc<Channel>) -> Verdict {
    let phases: &[Phase] = match start.purpose {
        Purpose::SignIn => &[Phase::Auth, Phase::Account],
        Purpose::ChangeExpired => &[Phase::Auth, Phase::Account, Phase::Password],
    };
    service_fault(&start.service, options, phases)
        .unwrap_or_else(|| crate::pam::run(start, options, channel))
}

#[cfg(not(feature = "pam"))]
fn login(_start: &Start, _options: &Options, _channel: &Arc<Channel>) -> Verdict {
    unavailable(WITHOUT_PAM)
}

/// What NSS says, and with a service what acct_mgmt says of the name that NSS gave.
fn account(query: &AccountQuery, options: &Options) -> Verdict {
    let facts = match accounts::find(&query.who, &options.accounts) {
        Ok(facts) => facts,
        Err(error) => {
            report::line(&error.to_string());
            return error.as_verdict(Denial::AcctDenied);
        }
    };
    match &query.service {
        None => Verdict::Verified(facts),
        Some(service) => service_fault(service, options, &[Phase::Account])
            .unwrap_or_else(|| manage(service, facts, options)),
    }
}

#[cfg(feature = "pam")]
fn manage(
    service: &str,
    facts: sdrest_proto::conversation::AccountFacts,
    options: &Options,
) -> Verdict {
    match crate::pam::account(service, &facts.username, options.confdir.as_deref()) {
        Ok(()) => Verdict::Verified(facts),
        Err(verdict) => verdict,
    }
}

#[cfg(not(feature = "pam"))]
fn manage(
    _service: &str,
    _facts: sdrest_proto::conversation::AccountFacts,
    _options: &Options,
) -> Verdict {
    unavailable(WITHOUT_PAM)
}
