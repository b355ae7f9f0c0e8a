//! What the end of a conversation means for the person: one message and one code for unknown, wrong, locked and
//! refused; the account's own state only after a correct password. `VerifiedAccount` is made here and nowhere
//! else, and only from the verdict of a program that authd started itself; `KnownAccount` is what the account
//! database says without a password, and is no login.

use sdrest_proto::{
    bounds::Username,
    conversation::{AccountFacts, Denial, Verdict},
    error::{ErrorCode, Fault},
    id::UserId,
};
use zeroize::Zeroizing;

/// The overflow uid, which stands for nobody in particular.
const OVERFLOW_UID: u32 = 65534;

/// A system account, as the account database knows it now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KnownAccount {
    pub(crate) username: Username,
    pub(crate) uid: u32,
    pub(crate) groups: Vec<String>,
}

impl KnownAccount {
    /// The facts are checked once more: uid 0 is nobody here, whatever the program says.
    fn from_facts(facts: AccountFacts) -> Option<Self> {
        if facts.uid == 0 || facts.uid == OVERFLOW_UID {
            return None;
        }
        let username = Username::try_from(facts.username).ok()?;
        Some(Self { username, uid: facts.uid, groups: facts.groups })
    }

    /// What the program answers when it is asked without a password.
    pub(super) fn from_verdict(verdict: Verdict) -> Result<Self, Denial> {
        match verdict {
            Verdict::Verified(facts) => Self::from_facts(facts).ok_or(Denial::AcctDenied),
            Verdict::Denied { denial, .. } => Err(denial),
        }
    }
}

/// A record of the internal user database that somebody wants to sign in as; without a user it is a dummy, which
/// takes as long and never matches.
pub(crate) struct Candidate {
    pub(crate) user: Option<(UserId, Username)>,
    pub(crate) phc: Zeroizing<String>,
}

/// Who vouched for an account.
#[derive(Debug)]
pub(crate) enum Vouched {
    /// PAM, at the end of a whole transaction.
    System(KnownAccount),
    /// The internal user database, by this record of a password.
    Internal { user: UserId, username: Username, phc: Zeroizing<String> },
}

/// An account that was vouched for. It can be exchanged for a token once.
#[derive(Debug)]
pub(crate) struct VerifiedAccount(Vouched);

impl VerifiedAccount {
    pub(crate) fn vouched(&self) -> &Vouched {
        &self.0
    }

    pub(crate) fn username(&self) -> &Username {
        match &self.0 {
            Vouched::System(known) => &known.username,
            Vouched::Internal { username, .. } => username,
        }
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
    /// No slot came free, or the throttle said so.
    Refused(Fault),
}

impl From<Verdict> for Ending {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Verified(facts) => match KnownAccount::from_facts(facts) {
                Some(account) => Self::Verified(VerifiedAccount(Vouched::System(account))),
                None => Self::wrong(),
            },
            Verdict::Denied { denial, pam_code } => Self::Denied(denial, pam_code),
        }
    }
}

impl Ending {
    /// The end of every login that did not know the password.
    pub(super) fn wrong() -> Self {
        Self::Denied(Denial::AuthErr, 0)
    }

    /// The end of a comparison with the internal user database.
    pub(super) fn compared(candidate: Candidate, matches: bool) -> Self {
        match candidate.user {
            Some((user, username)) if matches => {
                let phc = candidate.phc;
                Self::Verified(VerifiedAccount(Vouched::Internal { user, username, phc }))
            }
            _ => Self::wrong(),
        }
    }

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
            Self::Refused(_) => "refused",
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
            Self::Refused(fault) => Err(fault),
        }
    }
}

/// The one table from denials to what the person is told.
pub(crate) fn denied(denial: Denial) -> Fault {
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
        let account = Ending::from(facts(1000, "alice")).into_result().unwrap();
        assert!(matches!(account.vouched(), Vouched::System(known) if known.uid == 1000));
    }

    #[test]
    fn a_dummy_never_matches() {
        let dummy = || Candidate { user: None, phc: Zeroizing::new(String::new()) };
        for matches in [false, true] {
            let fault = Ending::compared(dummy(), matches).into_result().unwrap_err();
            assert_eq!(fault.code, ErrorCode::AuthenticationFailed);
        }
    }
}
