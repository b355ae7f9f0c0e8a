//! Whether the account behind a session or a key is still good, and as what role: internal users by their record,
//! system accounts by asking the conversation program again. A definite no ends what hangs on the account; where
//! nobody knows, only the one request is refused.

use crate::{
    admission::Admission,
    conversation::{KnownAccount, Questions, denied},
    fault::internal,
    tokens::TokenIssuer,
    users::Users,
};
use sdrest_proto::{
    authd::UserState,
    conversation::{AccountKey, Denial},
    error::{ErrorCode, Fault},
    id::UserId,
    identity::{Role, Subject},
};
use std::sync::Arc;

/// Whose account it is, as a session or a key remembers it.
pub(crate) struct Owner<'a> {
    pub(crate) subject: &'a Subject,
    /// For system accounts.
    pub(crate) uid: Option<u32>,
}

/// What became of an account.
#[derive(Debug)]
pub(crate) enum Standing {
    Good(Role),
    /// It may not sign in any more.
    Ended(Fault),
    /// Nobody could say just now.
    Unsure(Fault),
}

pub(crate) struct Standings {
    pub(crate) users: Arc<Users>,
    pub(crate) tokens: Arc<TokenIssuer>,
    pub(crate) questions: Questions,
    pub(crate) admission: Arc<Admission>,
}

impl Standings {
    pub(crate) async fn of(&self, owner: &Owner<'_>) -> Standing {
        match (internal_id(owner.subject), owner.uid) {
            (Some(id), _) => self.of_internal(id),
            (None, Some(uid)) => match self.questions.account(AccountKey::Uid(uid)).await {
                Ok(account) => self.of_system(account, owner.subject).await,
                Err(denial) => of_denial(denial),
            },
            (None, None) => Standing::Ended(denied(Denial::AcctDenied)),
        }
    }

    fn of_internal(&self, id: UserId) -> Standing {
        match self.users.by_id(id) {
            Some(user) if user.state == UserState::Enabled => Standing::Good(user.role),
            _ => Standing::Ended(denied(Denial::AcctDenied)),
        }
    }

    /// A uid under another name is somebody else, and stays so when the name comes back.
    async fn of_system(&self, account: KnownAccount, subject: &Subject) -> Standing {
        let role = self.admission.role(account.username.as_str(), &account.groups);
        let tokens = Arc::clone(&self.tokens);
        let now = tokio::task::spawn_blocking(move || tokens.subject_of(&account)).await;
        let now = match now {
            Ok(Ok(now)) => now,
            Ok(Err(error)) => return Standing::Unsure(internal(&error)),
            Err(error) => return Standing::Unsure(internal(&error)),
        };
        match role.filter(|_| now == *subject) {
            Some(role) => Standing::Good(role),
            None => Standing::Ended(denied(Denial::AcctDenied)),
        }
    }
}

fn of_denial(denial: Denial) -> Standing {
    match denial {
        Denial::AcctExpired | Denial::NewAuthtokReqd | Denial::AcctDenied => {
            Standing::Ended(denied(denial))
        }
        // The account is gone, or its module refuses it without a password.
        Denial::AuthErr => Standing::Ended(denied(Denial::AcctDenied)),
        Denial::Unavailable | Denial::Timeout | Denial::Cancelled => {
            let message = "the account database cannot be asked now (PAM_NOT_AVAILABLE)";
            Standing::Unsure(Fault::new(ErrorCode::PamAuthUnavailable, message).retry_after(5))
        }
    }
}

/// The record that an internal subject stands for.
pub(crate) fn internal_id(subject: &Subject) -> Option<UserId> {
    subject.as_str().strip_prefix("internal:")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_definite_word_ends_anything() {
        for (denial, code) in [
            (Denial::AcctExpired, ErrorCode::AccountExpired),
            (Denial::NewAuthtokReqd, ErrorCode::CredentialExpired),
            (Denial::AcctDenied, ErrorCode::AccountDenied),
            (Denial::AuthErr, ErrorCode::AccountDenied),
        ] {
            assert!(matches!(of_denial(denial), Standing::Ended(fault) if fault.code == code));
        }
        for denial in [Denial::Unavailable, Denial::Timeout, Denial::Cancelled] {
            assert!(matches!(of_denial(denial), Standing::Unsure(fault)
                if fault.code == ErrorCode::PamAuthUnavailable && fault.retry_after == Some(5)));
        }
    }

    #[test]
    fn subjects_say_whose_they_are() {
        let id = UserId::random();
        assert_eq!(internal_id(&Subject::internal(id)), Some(id));
        assert_eq!(internal_id(&Subject::unix(1000, 1)), None);
    }
}
