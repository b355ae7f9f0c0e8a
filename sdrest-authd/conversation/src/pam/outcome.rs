//! What a PAM return value means for a login. Everything that authenticate says is one denial, so that unknown,
//! locked and wrong look alike; the account codes exist only after authenticate has succeeded.

use super::ffi::code;
use sdrest_proto::conversation::{Denial, Verdict};

/// authenticate, or the reading of PAM_USER after it, failed.
pub(crate) fn not_authenticated(pam_code: i32) -> Verdict {
    Verdict::Denied { denial: Denial::AuthErr, pam_code }
}

/// acct_mgmt failed.
pub(crate) fn account_refused(pam_code: i32) -> Verdict {
    let denial = match pam_code {
        code::ACCT_EXPIRED => Denial::AcctExpired,
        code::NEW_AUTHTOK_REQD => Denial::NewAuthtokReqd,
        _ => Denial::AcctDenied,
    };
    Verdict::Denied { denial, pam_code }
}

/// PAM itself or the account database cannot be used.
pub(crate) fn unavailable(pam_code: i32) -> Verdict {
    Verdict::Denied { denial: Denial::Unavailable, pam_code }
}

/// acct_mgmt failed where no person is there: modules that cannot reach their source are not a refusal.
pub(crate) fn account_query_refused(pam_code: i32) -> Verdict {
    match pam_code {
        code::OPEN_ERR
        | code::SYMBOL_ERR
        | code::SERVICE_ERR
        | code::SYSTEM_ERR
        | code::BUF_ERR
        | code::AUTHINFO_UNAVAIL
        | code::ABORT => unavailable(pam_code),
        _ => account_refused(pam_code),
    }
}

/// The new password was not taken: the old one stays, expired as it is.
pub(crate) fn still_expired(pam_code: i32) -> Verdict {
    Verdict::Denied { denial: Denial::NewAuthtokReqd, pam_code }
}
