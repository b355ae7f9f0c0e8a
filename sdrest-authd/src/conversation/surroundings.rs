//! What all logins and questions share: the way to the programs, the slots, the throttle, the rules of time and the
//! rules of who may sign in.

use super::{link::ConversationSocket, pacing::Pacing, slots::Slots};
use crate::{admission::Admission, throttle::Throttle};
use std::sync::{Arc, atomic::AtomicBool};

/// How PAM is asked, where it is.
pub(crate) struct PamWay {
    pub(crate) service: String,
    /// Where programs are started that may change an expired password.
    pub(crate) change: Option<ConversationSocket>,
}

pub(crate) struct Surroundings {
    pub(crate) socket: ConversationSocket,
    /// Nothing where logins do not go through PAM.
    pub(crate) pam: Option<PamWay>,
    /// What says whether an account may sign in, also where its logins do not go through PAM (acct_mgmt).
    pub(crate) account_service: Option<String>,
    pub(crate) slots: Slots,
    pub(crate) throttle: Arc<Throttle>,
    pub(crate) pacing: Pacing,
    pub(crate) admission: Arc<Admission>,
    /// Whether the last program that was asked for came up.
    pub(crate) reachable: AtomicBool,
}
