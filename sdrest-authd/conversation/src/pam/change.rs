//! What follows acct_mgmt in a login that may change an expired password: chauthtok in the same handle, then
//! acct_mgmt once more. It follows pam_chauthtok(3). It is reached only from a login whose password was right and has
//! expired, and only in a program that was started for it; whoever walks away in between keeps the old password.

use super::ffi::{Converse, Handle, code};
use crate::report;

/// Tries for a new password: too weak, mistyped, the same as before.
const TRIES: u32 = 3;

/// Changes the expired password. libpam's number where it stays as it was.
pub(super) fn expired_password<C: Converse>(handle: &mut Handle<C>) -> Result<(), i32> {
    let mut last = code::AUTHTOK_ERR;
    for _ in 0..TRIES {
        match handle.change_expired() {
            Ok(()) => return Ok(()),
            Err(code) => last = code,
        }
        if !worth_another_try(last) {
            break;
        }
    }
    report::line(&format!("the expired password was not changed, PAM code {last}"));
    Err(last)
}

fn worth_another_try(pam_code: i32) -> bool {
    matches!(
        pam_code,
        code::AUTHTOK_ERR | code::AUTHTOK_RECOVERY_ERR | code::AUTHTOK_LOCK_BUSY | code::TRY_AGAIN
    )
}
