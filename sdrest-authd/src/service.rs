//! What the verbs of both sockets stand on, and what they have in common: which backend a login of this mode asks,
//! what a conversation's step looks like from outside, and health.

use crate::{
    api_keys::ApiKeys,
    conversation::{Backend, Entry, State, Table, gone, milliseconds},
    fault::internal_in,
    standing::{Standings, internal_id},
    throttle::Throttle,
    tokens::TokenIssuer,
    users::Users,
};
use sdrest_proto::{
    BUILD,
    authd::{AuthMode, SignIn},
    bounds::Username,
    error::{ErrorCode, Fault},
    health::{Health, Serving},
    id::RequestId,
    identity::Subject,
    login::{LoginState, Step},
};
use sdrest_sandbox::Sandboxed;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

/// How people sign in here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ways {
    pub(crate) mode: AuthMode,
    /// Whether PAM is asked.
    pub(crate) pam: bool,
}

impl Ways {
    pub(crate) fn sign_in(self) -> SignIn {
        match self.mode {
            AuthMode::None | AuthMode::ApiKey => SignIn::No,
            AuthMode::Unix if !self.pam => SignIn::Peer,
            AuthMode::Jwt | AuthMode::Unix | AuthMode::Pam | AuthMode::Optional => {
                SignIn::Conversation
            }
        }
    }

    /// Whether API keys are accepted: in every mode but none.
    pub(crate) fn takes_keys(self) -> bool {
        self.mode != AuthMode::None
    }

    /// Whether internal users sign in with their passwords.
    pub(crate) fn internal(self) -> bool {
        matches!(self.mode, AuthMode::Jwt | AuthMode::Optional)
    }

    /// Whether a session of this subject could begin today.
    pub(crate) fn begins(self, subject: &Subject) -> bool {
        if internal_id(subject).is_some() { self.internal() } else { self.pam }
    }
}

pub(crate) struct Service {
    pub(crate) ways: Ways,
    pub(crate) realm: String,
    pub(crate) public_paths: Vec<String>,
    pub(crate) guests: bool,
    pub(crate) tokens: Arc<TokenIssuer>,
    pub(crate) users: Arc<Users>,
    pub(crate) keys: Arc<ApiKeys>,
    pub(crate) standings: Arc<Standings>,
    pub(crate) table: Table,
    pub(crate) throttle: Arc<Throttle>,
    pub(crate) sandbox: Sandboxed,
    pub(crate) began: Instant,
    pub(crate) refused_peers: AtomicU64,
}

impl Service {
    /// Who is to vouch for a login of this name: the internal database if the name is there, else PAM.
    pub(crate) fn backend(&self, name: &Username) -> Result<Backend, Fault> {
        let internal = || Ok(Backend::Internal(self.users.candidate(name)));
        match self.ways.mode {
            AuthMode::Jwt => internal(),
            AuthMode::Optional if !self.ways.pam || self.users.has(name.as_str()) => internal(),
            AuthMode::Pam | AuthMode::Optional => Ok(Backend::Pam),
            AuthMode::Unix if self.ways.pam => Ok(Backend::Pam),
            AuthMode::None | AuthMode::ApiKey | AuthMode::Unix => {
                let message = format!(
                    "this server takes no passwords (auth {}) (PAM_NOT_AVAILABLE)",
                    self.ways.mode.as_str()
                );
                Err(Fault::new(ErrorCode::PamAuthUnavailable, message))
            }
        }
    }

    pub(crate) fn health(&self) -> Health {
        let mut figures = self.table.figures();
        figures.push((
            "sessions".to_owned(),
            u64::try_from(self.tokens.sessions()).unwrap_or(u64::MAX),
        ));
        figures.push(("refused_peers".to_owned(), self.refused_peers.load(Ordering::Relaxed)));
        let reachable = self.table.reachable();
        let lacking = if reachable { "" } else { "; the conversation program does not start" };
        Health {
            serving: if reachable { Serving::Serving } else { Serving::Degraded },
            detail: format!("auth {}{lacking}", self.ways.mode.as_str()),
            build: BUILD.to_owned(),
            pid: std::process::id(),
            uid: nix::unistd::geteuid().as_raw(),
            uptime_seconds: self.began.elapsed().as_secs(),
            sandbox: self.sandbox.report().clone(),
            figures,
        }
    }

    /// What the caller is told of a conversation; an end is exchanged for a grant here, and then it is gone.
    pub(crate) async fn step(&self, entry: &Entry, after: u32) -> Result<Step, Fault> {
        let view = entry.view(after);
        let state = match view.state {
            State::Running => LoginState::Running,
            State::Waiting(prompts) => LoginState::Waiting { prompts },
            State::Gone => return Err(gone()),
            State::Finished(finished) => {
                self.table.remove(entry.id);
                match finished {
                    Err(fault) => LoginState::Failed(fault),
                    Ok(account) => {
                        let request = entry.request();
                        let grant = blocking(&self.tokens, request, move |tokens| {
                            tokens.grant(&account, &request)
                        })
                        .await;
                        grant.map_or_else(LoginState::Failed, LoginState::Succeeded)
                    }
                }
            }
        };
        Ok(Step {
            id: entry.id,
            secret: None,
            sequence: view.sequence,
            state,
            messages: view.messages,
            expires_in_ms: milliseconds(view.expires_in),
            step_expires_in_ms: milliseconds(view.step_expires_in),
        })
    }
}

/// Runs what waits for the disk where waiting is allowed.
pub(crate) async fn blocking<R: Send + Sync + 'static, T: Send + 'static>(
    room: &Arc<R>,
    request: RequestId,
    work: impl FnOnce(&R) -> Result<T, Fault> + Send + 'static,
) -> Result<T, Fault> {
    let room = Arc::clone(room);
    let done = tokio::task::spawn_blocking(move || work(&room)).await;
    done.unwrap_or_else(|error| Err(internal_in(&request, &error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mode_has_its_way_to_sign_in() {
        let way = |mode, pam| Ways { mode, pam }.sign_in();
        for pam in [false, true] {
            assert_eq!(way(AuthMode::None, pam), SignIn::No);
            assert_eq!(way(AuthMode::ApiKey, pam), SignIn::No);
            assert_eq!(way(AuthMode::Jwt, pam), SignIn::Conversation);
            assert_eq!(way(AuthMode::Pam, pam), SignIn::Conversation);
            assert_eq!(way(AuthMode::Optional, pam), SignIn::Conversation);
        }
        assert_eq!(way(AuthMode::Unix, true), SignIn::Conversation);
        assert_eq!(way(AuthMode::Unix, false), SignIn::Peer);
    }

    #[test]
    fn a_session_of_a_backend_that_is_off_cannot_go_on() {
        let internal = Subject::internal(sdrest_proto::id::UserId::random());
        let system = Subject::unix(1000, 1);
        let begins = |mode, pam, subject| Ways { mode, pam }.begins(subject);
        assert!(begins(AuthMode::Jwt, false, &internal) && !begins(AuthMode::Jwt, false, &system));
        assert!(begins(AuthMode::Pam, true, &system) && !begins(AuthMode::Pam, true, &internal));
        assert!(begins(AuthMode::Optional, true, &system));
        assert!(begins(AuthMode::Optional, true, &internal));
    }
}
