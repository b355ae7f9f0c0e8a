//! The JSON of a login: the answer of a finished one, and where an unfinished one stands.

use crate::{
    auth::Policy,
    error::{ErrorDetail, mark, public_message, status, unix_now},
};
use axum::{
    Json,
    http::{HeaderValue, StatusCode, header::CACHE_CONTROL},
    response::{IntoResponse, Response},
};
use sdrest_proto::{
    authd::AuthMode,
    error::Fault,
    identity::{Permission, Role},
    login::{Echo, Grant, LoginState, MessageStyle, Step},
};
use serde::Serialize;
use utoipa::ToSchema;

/// A finished login. Not `Debug`: it holds tokens.
#[derive(Serialize, ToSchema)]
pub struct LoginAnswer {
    pub success: bool,
    /// The access token, for `Authorization: Bearer`.
    pub token: String,
    #[schema(example = "Bearer")]
    pub token_type: &'static str,
    /// `unix` where the server signs in with Unix accounts by mode unix, else `jwt`.
    #[schema(example = "jwt")]
    pub token_kind: &'static str,
    /// Buys the next pair of tokens, once. Absent where the kernel's word was enough: ask for that again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refresh_token: Option<String>,
    pub user: UserAnswer,
    /// Seconds until `token` ends.
    pub expires_in: u32,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct UserAnswer {
    /// Names the person for good; the name may change.
    #[schema(example = "unix:1000:1")]
    pub id: String,
    pub username: String,
    /// guest, user, operator or admin.
    #[schema(example = "user")]
    pub role: &'static str,
    pub permissions: Vec<&'static str>,
}

impl LoginAnswer {
    pub fn new(policy: &Policy, grant: &Grant) -> Self {
        let refresh = grant.refresh_token.as_ref();
        Self {
            success: true,
            token: grant.token.expose("handed to the person it belongs to").to_owned(),
            token_type: "Bearer",
            token_kind: if policy.mode() == AuthMode::Unix { "unix" } else { "jwt" },
            refresh_token: refresh
                .map(|token| token.expose("handed to the person it belongs to").to_owned()),
            user: UserAnswer {
                id: grant.subject.to_string(),
                username: grant.username.to_string(),
                role: grant.role.as_str(),
                permissions: permissions(grant.role),
            },
            expires_in: grant.expires_in,
        }
    }
}

fn permissions(role: Role) -> Vec<&'static str> {
    role.permissions().map(Permission::as_str).collect()
}

impl IntoResponse for LoginAnswer {
    fn into_response(self) -> Response {
        no_store((StatusCode::OK, Json(self)).into_response())
    }
}

/// Where a conversation stands. The fields of a login's answer come with state `succeeded`, an `error` with
/// `failed`. Not `Debug`: it holds tokens.
#[derive(Serialize, ToSchema)]
pub struct ConversationAnswer {
    pub id: String,
    /// Proves who began it: send it as `X-Sdrest-Conversation`. Told once, when it begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// Moves with every message and every change of state.
    pub seq: u32,
    /// running, waiting, succeeded or failed.
    pub state: &'static str,
    pub messages: Vec<MessageAnswer>,
    pub prompts: Vec<PromptAnswer>,
    /// Seconds until the whole conversation is given up.
    pub expires_in: u32,
    /// Seconds until this step is.
    pub step_expires_in: u32,
    /// CONVERSATION_REQUIRED, where a login needs more than one password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<&'static str>,
    #[serde(flatten)]
    pub login: Option<LoginAnswer>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorDetail>,
    #[serde(skip)]
    status: StatusCode,
    /// Why it failed, for the headers of the answer.
    #[serde(skip)]
    fault: Option<Fault>,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct MessageAnswer {
    pub seq: u32,
    /// info or error.
    pub style: &'static str,
    /// As the module wrote it; show it as text, never as HTML.
    pub text: String,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct PromptAnswer {
    /// The number to answer it by.
    pub pid: u32,
    /// echo_on: what is typed may be seen; echo_off: it may not.
    pub style: &'static str,
    pub text: String,
}

impl ConversationAnswer {
    pub fn new(policy: &Policy, step: Step) -> Self {
        let messages = step.messages.into_iter().map(|message| MessageAnswer {
            seq: message.sequence,
            style: match message.style {
                MessageStyle::Info => "info",
                MessageStyle::Error => "error",
            },
            text: message.text,
        });
        let mut answer = Self {
            id: step.id.to_string(),
            secret: step
                .secret
                .map(|secret| secret.expose("handed to the one who began").to_owned()),
            seq: step.sequence,
            state: "running",
            messages: messages.collect(),
            prompts: Vec::new(),
            expires_in: step.expires_in_ms.div_ceil(1000),
            step_expires_in: step.step_expires_in_ms.div_ceil(1000),
            code: None,
            login: None,
            error: None,
            status: StatusCode::OK,
            fault: None,
        };
        answer.set_state(policy, step.state);
        answer
    }

    fn set_state(&mut self, policy: &Policy, state: LoginState) {
        match state {
            LoginState::Running => {}
            LoginState::Waiting { prompts } => {
                self.state = "waiting";
                let number =
                    |(pid, prompt): (u32, sdrest_proto::login::LoginPrompt)| PromptAnswer {
                        pid,
                        style: match prompt.echo {
                            Echo::On => "echo_on",
                            Echo::Off => "echo_off",
                        },
                        text: prompt.text,
                    };
                self.prompts = (0..).zip(prompts).map(number).collect();
            }
            LoginState::Succeeded(grant) => {
                self.state = "succeeded";
                self.login = Some(LoginAnswer::new(policy, &grant));
            }
            LoginState::Failed(fault) => {
                self.state = "failed";
                self.status = status(fault.code);
                self.error = Some(detail(&fault));
                self.fault = Some(fault);
            }
        }
    }

    pub fn is_over(&self) -> bool {
        self.login.is_some() || self.error.is_some()
    }

    /// A conversation that has begun.
    pub fn created(mut self) -> Self {
        if !self.is_over() {
            self.status = StatusCode::CREATED;
        }
        self
    }

    /// The answer to a login for which one password is not enough.
    pub fn required(mut self) -> Self {
        self.status = StatusCode::ACCEPTED;
        self.code = Some(sdrest_proto::error::ErrorCode::ConversationRequired.as_str());
        self
    }
}

fn detail(fault: &Fault) -> ErrorDetail {
    ErrorDetail {
        message: public_message(fault),
        code: fault.code.as_str().to_owned(),
        timestamp: unix_now(),
    }
}

impl IntoResponse for ConversationAnswer {
    /// A failed conversation is an answer of its own shape, but the edge treats it as the error that it is.
    fn into_response(mut self) -> Response {
        let fault = self.fault.take();
        let response = no_store((self.status, Json(self)).into_response());
        match fault {
            Some(fault) => mark(response, &fault, None),
            None => response,
        }
    }
}

fn no_store(mut response: Response) -> Response {
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
