//! What the end of a conversation means for the person: one message and one code for unknown, wrong, locked and
//! refused; the account's own state only after a correct password. `VerifiedAccount` is made here and nowhere
//! else, and only from the verdict of a program that authd started itself.

use sdrest_proto::{
    bounds::Username,
    conversation::{AccountFacts, Denial, Verdict},
    error::{ErrorCode, Fault},
};

/// The overflow uid, which stands for nobody in particular.
const OVERFLOW_UID: u32 = 65534;

/// An account that PAM vouched for at the end of a whole transaction. It can be exchanged for a token once.
#[derive(Debug)]
pub(crate) struct VerifiedAccount {
    username: Username,
    uid: u32,
    groups: Vec<String>,
}

impl VerifiedAccount {
    pub(crate) fn username(&self) -> &Username {
        &self.username
    }

    pub(crate) fn uid(&self) -> u32 {
        self.uid
    }

    pub(crate) fn groups(&self) -> &[String] {
        &self.groups
    }

    /// The facts are checked once more: uid 0 never signs in, whatever the program says.
    fn from_facts(facts: AccountFacts) -> Option<Self> {
        if facts.uid == 0 || facts.uid == OVERFLOW_UID {
            return None;
        }
        let username = Username::try_from(facts.username).ok()?;
        Some(Self { username, uid: facts.uid, groups: facts.groups })
    }
}

/// How a login ended, before it is told.
#[derive(Debug)]
pub(super) enum Ending {
    Verified(VerifiedAccount),
    Denied(Denial, i32),
    /// The program ended, or wrote what is no frame, without a verdict.
    Crashed(String),
    /// The program could not be started.
    NotStarted(String),
}

impl From<Verdict> for Ending {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Verified(facts) => VerifiedAccount::from_facts(facts)
                .map_or(Self::Denied(Denial::AuthErr, 0), Self::Verified),
            Verdict::Denied { denial, pam_code } => Self::Denied(denial, pam_code),
        }
    }
}

impl Ending {
    /// Whether this counts against the user and the source.
    pub(super) fn is_a_wrong_answer(&self) -> bool {
        matches!(self, Self::Denied(Denial::AuthErr, _))
    }

    /// For the audit log.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Verified(_) => "verified",
            Self::Denied(denial, _) => match denial {
                Denial::AuthErr => "authentication_failed",
                Denial::AcctExpired => "account_expired",
                Denial::NewAuthtokReqd => "credential_expired",
                Denial::AcctDenied => "account_denied",
                Denial::Unavailable => "unavailable",
                Denial::Timeout => "timeout",
                Denial::Cancelled => "cancelled",
            },
            Self::Crashed(_) => "crashed",
            Self::NotStarted(_) => "not_started",
        }
    }

    pub(super) fn pam_code(&self) -> i32 {
        match self {
            Self::Denied(_, code) => *code,
            _ => 0,
        }
    }

    pub(super) fn into_result(self) -> Result<VerifiedAccount, Fault> {
        match self {
            Self::Verified(account) => Ok(account),
            Self::Denied(denial, _) => Err(denied(denial)),
            Self::Crashed(_) => Err(denied(Denial::AuthErr)),
            Self::NotStarted(_) => Err(denied(Denial::Unavailable)),
        }
    }
}

/// The one table from denials to what the person is told.
fn denied(denial: Denial) -> Fault {
    let (code, message) = match denial {
        Denial::AuthErr => (ErrorCode::AuthenticationFailed, "authentication failed"),
        Denial::AcctExpired => (ErrorCode::AccountExpired, "the account has expired"),
        Denial::NewAuthtokReqd => {
            (ErrorCode::CredentialExpired, "the password has expired and must be changed")
        }
        Denial::AcctDenied => (ErrorCode::AccountDenied, "the account may not sign in here now"),
        Denial::Unavailable => (
            ErrorCode::PamAuthUnavailable,
            "PAM authentication cannot be used now (PAM_NOT_AVAILABLE)",
        ),
        Denial::Timeout => (ErrorCode::AuthTimeout, "the login did not end in time"),
        Denial::Cancelled => (ErrorCode::ConversationGone, "the login was cancelled"),
    };
    let fault = Fault::new(code, message);
    if matches!(denial, Denial::Unavailable) { fault.retry_after(5) } else { fault }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(uid: u32, name: &str) -> Verdict {
        Verdict::Verified(AccountFacts { username: name.into(), uid, gid: uid, groups: Vec::new() })
    }

    #[test]
    fn a_program_that_claims_root_or_nobody_verifies_nobody() {
        for verdict in
            [facts(0, "root"), facts(OVERFLOW_UID, "nobody"), facts(1000, ""), facts(1000, "a\nb")]
        {
            let fault = Ending::from(verdict).into_result().unwrap_err();
            assert_eq!(fault.code, ErrorCode::AuthenticationFailed);
        }
        assert_eq!(Ending::from(facts(1000, "alice")).into_result().unwrap().uid(), 1000);
    }
}
