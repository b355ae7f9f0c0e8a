//! Questions to the conversation program that are no login: an account without its password, a hash of a new
//! password. They take a slot and a deadline as logins do, and their failure is a refusal of this one question.

use super::{outcome::KnownAccount, pacing::milliseconds, surroundings::Surroundings};
use sdrest_proto::{
    conversation::{AccountKey, AccountQuery, Denial, FromConversation, ToConversation},
    error::{ErrorCode, Fault},
    secret::Answer,
};
use std::{sync::Arc, time::Duration};
use zeroize::Zeroizing;

/// The longest that the account database may take.
const ACCOUNT: Duration = Duration::from_secs(8);
/// The longest that argon2 may take.
pub(super) const ARGON2: Duration = Duration::from_secs(10);
/// How much longer than the program the link waits for its word.
const SLACK: Duration = Duration::from_secs(1);

/// Asks.
#[derive(Clone)]
pub(crate) struct Questions(pub(super) Arc<Surroundings>);

impl Questions {
    /// The account as it is now; where PAM can be asked also whether it may sign in (acct_mgmt). `Unavailable` where nobody knows.
    pub(crate) async fn account(&self, who: AccountKey) -> Result<KnownAccount, Denial> {
        self.ask(who, self.0.account_service.clone()).await
    }

    /// Who the account is; whether it may sign in is not asked.
    pub(super) async fn facts(&self, who: AccountKey) -> Result<KnownAccount, Denial> {
        self.ask(who, None).await
    }

    async fn ask(&self, who: AccountKey, service: Option<String>) -> Result<KnownAccount, Denial> {
        let _slot = self.0.slots.question().await.ok_or(Denial::Unavailable)?;
        let query = AccountQuery { who, service, deadline_ms: milliseconds(ACCOUNT) };
        match self.0.socket.ask(ToConversation::Account(query), ACCOUNT + SLACK).await {
            Ok(FromConversation::Verdict(verdict)) => KnownAccount::from_verdict(verdict),
            Ok(_) => {
                tracing::warn!("the conversation program gave no verdict on an account");
                Err(Denial::Unavailable)
            }
            Err(error) => {
                tracing::warn!("accounts: {error}");
                Err(Denial::Unavailable)
            }
        }
    }

    /// The record of a new password: a PHC string.
    pub(crate) async fn hash(&self, password: Answer) -> Result<Zeroizing<String>, Fault> {
        let _slot = self.0.slots.question().await.ok_or_else(unavailable)?;
        match self.0.socket.ask(ToConversation::Hash { password }, ARGON2).await {
            Ok(FromConversation::Hashed { phc }) if phc.starts_with("$argon2id$") => {
                Ok(Zeroizing::new(phc))
            }
            Ok(_) => {
                tracing::warn!("the conversation program made no argon2id record");
                Err(unavailable())
            }
            Err(error) => {
                tracing::warn!("passwords: {error}");
                Err(unavailable())
            }
        }
    }
}

fn unavailable() -> Fault {
    let message = "the program that hashes passwords cannot be used now";
    Fault::new(ErrorCode::PamAuthUnavailable, message).retry_after(5)
}
